"""A drive's pictures in, `drive.mp4` out: the large view with the sentence, reason, speed and what the car saw.

Plays in any player: H.264, 4:2:0, index first. Lettering changes once a decision, so it is drawn once a
decision and laid over every picture until the next.
"""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from drivebyword.core.records import Episode, VerdictKind
from drivebyword.data.files import TEMPORARY_PREFIX, one_line_errors
from drivebyword.loop.narration import reason_at
from drivebyword.tokens.text import render

WIDTH, HEIGHT = 1280, 720
_AMBER, _WHITE, _GREY = (255, 181, 71, 255), (255, 255, 255, 255), (200, 208, 216, 255)
_OPTIONS = {"crf": "24", "preset": "veryfast", "movflags": "+faststart"}


class DriveVideo:
    """Writes the film of one episode; appears under its name only when it is whole."""

    def __init__(self, path: str | Path, episode: Episode, per_step: int) -> None:
        self.path, self.episode, self.per_step = Path(path), episode, per_step
        self.count = 0
        self._lettering: tuple[int, Image.Image] | None = None

    def __enter__(self) -> DriveVideo:
        """Open a hidden file beside the final one."""
        with one_line_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=TEMPORARY_PREFIX, suffix=".mp4")
        os.close(handle)  # PyAV opens the name itself
        self._temporary = Path(name)
        self._container = av.open(name, "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(self.per_step / self.episode.dt).limit_denominator(1000)
        stream: Any = self._container.add_stream("libx264", rate=rate, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        self._stream = stream
        return self

    def add(self, view: UInt8[np.ndarray, "H W 3"], bird: UInt8[np.ndarray, "h w 3"] | None = None) -> None:
        """Append one picture: the large view and, in a corner, the view from above."""
        step = min(self.count // self.per_step, len(self.episode) - 1)
        frame = Image.fromarray(view).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        frame.paste(self._overlay(step), (0, 0), self._overlay(step))
        if bird is not None:
            inset = Image.fromarray(bird).resize((224, 224), Image.Resampling.BILINEAR)
            frame.paste(inset, (WIDTH - 224 - 24, 24), _rounded_mask(224, 224))
        self._container.mux(self._stream.encode(av.VideoFrame.from_image(frame)))
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish and rename into place, or leave nothing."""
        try:
            with one_line_errors(self.path):
                if kind is None:
                    self._container.mux(self._stream.encode())
                self._container.close()
                if kind is None:
                    self._temporary.chmod(0o644)
                    self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _overlay(self, step: int) -> Image.Image:
        """Return the lettering and small pictures of one decision."""
        if self._lettering is None or self._lettering[0] != step:
            self._lettering = (step, _letter(self.episode, step))
        return self._lettering[1]


def _letter(episode: Episode, step: int) -> Image.Image:
    """Draw one decision's words, numbers and sensor pictures on a transparent sheet."""
    sheet = _SHADE.copy()
    draw = ImageDraw.Draw(sheet)
    said = episode.instructions[int(episode.instruction_index[step])].sentence if episode.instructions else ""
    title = _fit(f"\u201c{said}\u201d", 52)
    draw.rounded_rectangle((24, 20, 48 + draw.textlength(title, _font(32)), 72), 14, fill=(13, 16, 20, 190))
    draw.text((36, 26), title, font=_font(32), fill=_AMBER)
    speed = f"{episode.motion[step, 0] * 3.6:.0f}"
    draw.text((34, 612), speed, font=_font(84), fill=_WHITE)
    draw.text((44 + draw.textlength(speed, _font(84)), 666), "km/h", font=_font(22), fill=_GREY)
    reason = reason_at(episode, step)
    if reason is not None:
        draw.text((222, 656), render(reason), font=_font(30), fill=_WHITE)
    if episode.verdict[step] == VerdictKind.REPLACED:
        draw.rounded_rectangle((34, 82, 250, 122), 8, fill=(179, 55, 42, 255))
        draw.text((50, 88), "The guard brakes", font=_font(22), fill=_WHITE)
    left = WIDTH - 24
    for name in reversed(list(episode.cameras)):
        image = episode.cameras[name][step]
        height = 108
        width = round(image.shape[1] * height / image.shape[0])
        left -= width
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(picture, (left, 522), _rounded_mask(width, height))
        left -= 12
    _pedals(draw, episode.actuation[step])
    return sheet


def _pedals(draw: ImageDraw.ImageDraw, actuation: np.ndarray) -> None:
    """Draw steering as a bar from its middle, throttle and brake as bars from the left."""
    steering, throttle, brake = (float(v) for v in actuation)
    for row, (value, color) in enumerate(((throttle, (76, 195, 138, 255)), (brake, (255, 107, 94, 255)))):
        top = 575 + 16 * row
        draw.rounded_rectangle((36, top, 196, top + 9), 4, fill=(255, 255, 255, 70))
        if value > 0.02:
            draw.rounded_rectangle((36, top, 36 + max(9, 160 * value), top + 9), 4, fill=color)
    draw.rounded_rectangle((36, 559, 196, 568), 4, fill=(255, 255, 255, 70))
    tip = 116 - 80 * steering
    draw.rounded_rectangle((min(tip, 116) - 3, 559, max(tip, 116) + 3, 568), 4, fill=_AMBER)


def _shade() -> Image.Image:
    """Return a transparent sheet, darker at its bottom so that letters stay readable."""
    rows = np.arange(HEIGHT)
    alpha = np.clip((rows - 470) / 250, 0, 1) * 190
    sheet = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    sheet[..., 3] = alpha[:, None]
    return Image.fromarray(sheet)


_SHADE = _shade()
_MASKS: dict[tuple[int, int], Image.Image] = {}
_FONTS: dict[int, Any] = {}


def _rounded_mask(width: int, height: int) -> Image.Image:
    """Return a mask with rounded corners."""
    if (width, height) not in _MASKS:
        mask = Image.new("L", (width, height), 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), 12, fill=255)
        _MASKS[width, height] = mask
    return _MASKS[width, height]


def _font(size: int) -> Any:
    """Return the letter face that comes inside Pillow: no font file is looked for."""
    if size not in _FONTS:
        _FONTS[size] = ImageFont.load_default(size)
    return _FONTS[size]


def _fit(text: str, characters: int) -> str:
    """Return the text, cut with dots where it is too long."""
    return text if len(text) <= characters else text[: characters - 3] + "..."
