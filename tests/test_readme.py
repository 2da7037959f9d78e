"""The README tells the truth: its commands parse and run, its code runs, its table is the committed report's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from drivebyword import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCENARIOS = (ROOT / "docs" / "scenarios.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    shlex.split(line, comments=True) for kind, body in BLOCKS if kind == "bash" for line in body.strip().splitlines()
]
PYTHON = [body for kind, body in BLOCKS if kind == "python"]


def tables():
    spec = importlib.util.spec_from_file_location("write_tables", ROOT / "tools" / "write_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_forty_lines_say_what_it_is_and_what_it_is_not():
    head = "\n".join(line for line in README.splitlines() if not line.startswith("|")).splitlines()[:44]
    text = "\n".join(head)
    for wanted in ("docs/pictures/drive", "run time:", "build time:", "make drive", "make test", "What this is not"):
        assert wanted in text, wanted


def test_pictures_and_pages_named_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_understood(words):
    if words[0] == "make":
        shown = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
    else:
        assert words[0] == ".venv/bin/drivebyword"
        tyro.cli(cli.Commands, args=words[1:], config=(tyro.conf.OmitArgPrefixes,))


@pytest.mark.parametrize("command", ["drive", "doctor", "collect", "evaluate"])
def test_quick_versions_of_the_commands_run(command, tmp_path):
    """Each command as printed, on fewer scenes or seconds: training alone takes hours and is tested elsewhere."""
    shorter = {
        "drive": ["--seconds", "4", "--policy", "constant"],
        "doctor": [],
        "collect": ["--seeds", "0:1", "--processes", "1"],
        "evaluate": ["--seeds", "1", "--policy", "constant", "--rows", "policy", "--processes", "1"],
    }[command]
    words = next(words for words in COMMANDS if words[0] != "make" and words[1] == command)
    words = _without(words[1:], "--then")
    out = ["--out", str(tmp_path / "out")] if command != "doctor" else []
    tool = str(Path(sys.executable).parent / "drivebyword")
    done = subprocess.run([tool, *words, *shorter, *out], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    if command == "drive":
        assert done.stdout.strip().splitlines()[-1].startswith("watch it: ")


def _without(words: list[str], option: str) -> list[str]:
    """Return the words without an option that a shortened drive has no time for."""
    if option not in words:
        return words
    at = words.index(option)
    return words[:at] + words[at + 2 :]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_every_python_block_runs(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(PYTHON[number])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_tables_are_those_of_the_committed_reports():
    assert tables().filled(README, tables().readme_table()) == README, "run: make tables"
    assert tables().filled(SCENARIOS, tables().families_table()) == SCENARIOS, "run: make tables"
    page = ROOT / "docs" / "RESULTS.md"
    assert page.read_text() == tables().results_page(), "run: make tables"


def test_expected_last_lines_are_the_ones_printed():
    makefile = (ROOT / "Makefile").read_text()
    assert "make test: every test passed" in makefile and "ends with: make test: every test passed" in README
    assert 'print(f"watch it: ' in (ROOT / "drivebyword" / "cli" / "driving.py").read_text()
