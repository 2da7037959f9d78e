"""The house keeps its own rules: sizes, names, words, headers, targets, licence."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "drivebyword").rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_has_one_subject_a_header_and_plain_letters(path):
    text = path.read_text()
    if path.stem != "phrases":  # Its sentences in other languages are data.
        assert text.isascii(), "plain ASCII only"
    assert len(text.splitlines()) <= 400, "split it: more than 400 lines"
    assert not re.search(r"(^|_)(utils|helpers|common|manager|factory)$|^base_", path.stem)
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), "opens with what flows in and out"
    assert "TODO" not in text and "FIXME" not in text


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_small_enough_to_read(path):
    longest = 100
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not re.search("jit|compiled", ast.unparse(node).split("def ")[0]):
            assert node.end_lineno - node.lineno < longest, f"{node.name} has more than {longest} lines"


def test_rooms_import_only_to_the_right():
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


def test_make_alone_lists_every_target_a_newcomer_needs():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = ("setup", "drive", "test", "lint", "train-tiny", "evaluate", "bench", "check-lerobot", "clean")
    for target in targets:
        assert f"make {target} " in listed


@pytest.mark.parametrize("target", ["drive", "test", "lint", "train-tiny", "evaluate", "bench", "check-lerobot"])
def test_every_target_expands_to_commands_without_absolute_paths(target):
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert str(ROOT) not in shown.stdout


def test_an_old_python_is_refused_in_one_line(tmp_path):
    old = tmp_path / "oldpython"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    told = subprocess.run(
        ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2 and "needs Python 3.11 or newer" in told.stderr


def test_licence_is_apache_2_in_full():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def test_terms_name_every_word_of_the_design():
    terms = (ROOT / "docs" / "TERMS.md").read_text()
    for word in (
        "observation",
        "policy",
        "driver",
        "expert",
        "instruction",
        "intent",
        "reason",
        "verdict",
        "actuation",
    ):
        assert f"| {word} |" in terms
    assert "_Avoid_" in terms


def test_package_data_travels_with_the_package():
    loop = ROOT / "drivebyword" / "loop"
    for kind in ("html", "css", "js"):
        assert (loop / f"replay_page.{kind}").is_file()
