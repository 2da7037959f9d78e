"""A drive's page in, one picture of it out: opens replay.html in chromium and photographs a moment.

python tools/take_picture.py out/drive/replay.html docs/pictures/drive.webp [seconds]
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from drivebyword.data.files import write_atomic


def photograph(page: Path, seconds: float, width: int = 1440, height: int = 880) -> bytes:
    """Return the page at one moment as WebP."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        raise FileNotFoundError("no chromium found: install it to take pictures")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
        tab.goto(f"{page.resolve().as_uri()}#t={seconds}")
        tab.evaluate("document.getElementById('start').style.display = 'none'")
        tab.wait_for_timeout(800)
        raw = tab.screenshot()
        browser.close()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(raw)).convert("RGB").save(buffer, "WEBP", quality=82, method=6)
    return buffer.getvalue()


def main() -> int:
    """Take the picture that the arguments ask for."""
    if len(sys.argv) not in (3, 4):
        print("usage: take_picture.py PAGE PICTURE [SECONDS]", file=sys.stderr)
        return 2
    page, picture = Path(sys.argv[1]), Path(sys.argv[2])
    if not page.exists():
        print(f"take_picture: {page} not found: run `make drive` first", file=sys.stderr)
        return 2
    print(write_atomic(picture, photograph(page, float(sys.argv[3]) if len(sys.argv) == 4 else 12.0)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
