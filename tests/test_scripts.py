"""The scripts that have no module behind them: make_sample, benchmark and setup."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from workflow import contents

Call = Callable[..., str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def functions(script: str) -> dict[str, Any]:
    """What a script in Python defines, to be called and replaced."""
    found: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / script), run_name=script)["main"].__globals__
    return found


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a script that is to end with exit code 2, and gives the last line of what it says."""

    def refusal(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as ended:
            functions(script)["main"]()
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert said.out == ""
        return said.err.splitlines()[-1]

    return refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "0"], "argument --frames: '0' is not possible. Allowed: 1 to 100,000"),
        (["--frames", "-1"], "argument --frames: '-1' is not possible. Allowed: 1 to 100,000"),
        (["--frames", "1.5"], "argument --frames: '1.5' is not possible. Allowed: 1 to 100,000"),
        (["--frames", "100001"], "argument --frames: '100001' is not possible. Allowed: 1 to 100,000"),
        (["--size", "0"], "argument --size: '0' is not possible. Allowed: 1 to 2,048"),
        (["--size", "²"], "argument --size: '²' is not possible. Allowed: 1 to 2,048"),
        (["--speed", "3"], "unrecognized arguments: --speed 3"),
    ],
)
def test_make_sample_refuses_what_cannot_be_drawn_and_writes_nothing(
    arguments: list[str], message: str, refusal: Call, folder: Path
) -> None:
    assert refusal("make_sample", "x.img", *arguments) == f"make_sample: error: {message}"
    assert contents(folder) == {}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none/x.img", "argument stream: 'none/x.img' lies in no folder. Allowed: a file in a folder that is there"),
        ("file/x.img", "argument stream: 'file/x.img' lies in no folder. Allowed: a file in a folder that is there"),
        (".", "argument stream: '.' is there, and no file. Allowed: the name of a file"),
        ("", "argument stream: '' is there, and no file. Allowed: the name of a file"),
        ("pipe", "argument stream: 'pipe' is there, and no file. Allowed: the name of a file"),
        ("x" * 300, f"cannot write {{}}/{'x' * 300}: File name too long; choose a shorter path"),
    ],
)
def test_make_sample_refuses_a_place_that_is_none(path: str, message: str, refusal: Call, folder: Path) -> None:
    os.mkfifo("pipe")
    Path("file").touch()
    said = refusal("make_sample", path, "--frames", "1", "--size", "8")
    assert said == f"make_sample: error: {message.format(folder)}"
    assert sorted(os.listdir()) == ["file", "pipe"]


def test_make_sample_that_is_stopped_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.img").write_text("precious")
    script = functions("make_sample")
    draw = script["frame"]

    def stopped(planet: object, turn: float) -> bytes:
        if turn >= 0.5:
            raise KeyboardInterrupt
        return bytes(draw(planet, turn))

    monkeypatch.setitem(script, "frame", stopped)
    monkeypatch.setattr(sys, "argv", ["make_sample", "x.img", "--frames", "4", "--size", "8"])
    with pytest.raises(KeyboardInterrupt):
        script["main"]()
    assert os.listdir() == ["x.img"] and Path("x.img").read_text() == "precious"


def test_make_sample_draws_the_same_each_time_also_where_a_link_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("b.img", "link")
    for path in ("a.img", "link"):
        monkeypatch.setattr(sys, "argv", ["make_sample", path, "--frames", "3", "--size", "16"])
        functions("make_sample")["main"]()
    assert Path("link").is_symlink() and Path("a.img").read_bytes() == Path("b.img").read_bytes()
    assert Path("a.img").read_bytes().count(b"GIF89a") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only = 'nothing' is in no part's name. Allowed: 'whole 27 ', 'whole 2700', "),
        (["--quick", "--only", "whole 2700"], "--only = 'whole 2700' is in no part's name. Allowed: 'whole 27 ', "),
        (["--folder", "none"], "argument --folder: 'none' is no folder. Allowed: one that is there"),
        (["--folder", "file"], "argument --folder: 'file' is no folder. Allowed: one that is there"),
        (["--folder", ""], "argument --folder: '' is no folder. Allowed: one that is there"),
        (["--folder", "full"], "cannot make {}/full/.benchmark: File exists; choose another --folder"),
    ],
)
def test_benchmark_refuses_what_it_cannot_measure_and_removes_nothing(
    arguments: list[str], message: str, refusal: Call, folder: Path
) -> None:
    for path in ("file", "full/.benchmark", "full/precious"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    before = contents(folder)
    assert refusal("benchmark", *arguments).startswith(f"benchmark: error: {message.format(folder)}")
    assert contents(folder) == before


def test_benchmark_removes_what_it_has_made_and_nothing_else_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("work/.benchmark").mkdir(parents=True)
    Path("work/.benchmark/left").touch()
    Path("work/precious").touch()
    script = functions("benchmark")
    seen: list[list[str]] = []

    def part() -> None:
        (script["fresh"]("ours") / "made").touch()
        seen.append(os.listdir("work/.benchmark"))

    monkeypatch.setitem(script, "local_parts", lambda: {"small": (True, part)})
    monkeypatch.setattr(sys, "argv", ["benchmark", "--folder", "work"])
    script["main"]()
    assert seen == [["ours"]]
    assert os.listdir("work") == ["precious"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "there is no extra 'nonsense'; setup.py lists them under extras_require"),
        (["test,nonsense"], "there is no extra 'nonsense'; setup.py lists them under extras_require"),
        (["test lint"], "there is no extra 'test lint'; setup.py lists them under extras_require"),
        ([".*"], "there is no extra '.*'; setup.py lists them under extras_require"),
        (["test,,lint"], "there is no extra ''; setup.py lists them under extras_require"),
        (["test", "lint"], "'test lint' are 2 arguments; name the extras in one, as scripts/setup test,lint"),
    ],
)
def test_setup_refuses_extras_that_are_none_and_installs_nothing(
    arguments: list[str], message: str, folder: Path
) -> None:
    Path("scripts").mkdir()
    for name in ("scripts/setup", "setup.py"):
        shutil.copy2(ROOT / name, name)
    ended = subprocess.run(["scripts/setup", *arguments], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"setup: {message}\n")
    assert sorted(os.listdir()) == ["scripts", "setup.py"]
