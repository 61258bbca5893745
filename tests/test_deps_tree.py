"""luigi-deps-tree, Luigi's own tool, on every public task."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import luigi
import pytest
from luigi.tools import deps_tree
from pictures import gif
from workflow import build, stream

import imagetl_luigi
from imagetl_luigi import CombineGif

FRAME = gif()
TASKS = {name: task for name, task in vars(imagetl_luigi).items() if name in imagetl_luigi.__all__}
TASKS = {name: task for name, task in TASKS.items() if isinstance(task, type) and issubclass(task, luigi.Task)}
GIVEN = {"url": "a.img", "workspace": "w", "catalog": "streams.toml"}
"""What is given to the tasks that have such a parameter."""
REQUIRED = {
    "data_file": "w/image-data.img",
    "offset": "0",
    "length": str(len(FRAME)),
    "path": "w/frames/frame_00.gif",
}
"""Values of the parameters that have no default."""


def arguments(name: str) -> list[str]:
    task = TASKS[name]
    parameters = dict(task.get_params())
    needed = {key for key, value in parameters.items() if not value.has_task_value(task.get_task_family(), key)}
    values = {key: value for key, value in GIVEN.items() if key in parameters} | {key: REQUIRED[key] for key in needed}
    flags = [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", value)]
    return ["--module", "imagetl_luigi", name, *flags]


def lines(tree: str) -> list[tuple[int, str, str]]:
    """Depth, family and state of each line of a tree."""
    found = re.findall(r"^(\W*)--\[(\w+)-\{.*\} \(\x1b\[9[24]m(\w+)\x1b\[0m\)\]$", tree, re.MULTILINE)
    assert len(found) == len(tree.strip().splitlines())
    return [(len(indent) // 4, family, state) for indent, family, state in found]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which all is made."""
    monkeypatch.chdir(tmp_path)
    Path("a.img").write_bytes(stream([FRAME]))
    build(CombineGif(url=GIVEN["url"], workspace=GIVEN["workspace"]))
    return tmp_path


CHAIN = ["CombineGif", "WriteFrames", "Split", "Download"]


def test_it_shows_the_whole_workflow_without_the_secrets_of_its_url(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("luigi-deps-tree"))
    url = "https://me:secret@example.org/a.img?sig=secret"
    command = [program, "--module", "imagetl_luigi", "CombineGif", "--url", url, "--delay", "40"]
    tree = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert lines(tree.stdout) == [(depth, family, "PENDING") for depth, family in enumerate(CHAIN)]
    assert "'delay': '40'" in tree.stdout
    assert "secret" not in tree.stdout + tree.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_tree(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("streams.toml").write_text('[[stream]]\nname = "a"\nurl = "a.img"')
    monkeypatch.setattr(sys, "argv", ["luigi-deps-tree", *arguments(name)])
    deps_tree.main()
    assert lines(capsys.readouterr().out)[0] == (0, name, "PENDING")


@pytest.mark.parametrize("name", [*CHAIN, "WriteFrame"])
def test_after_a_run_the_whole_tree_is_complete(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["luigi-deps-tree", *arguments(name)])
    capsys.readouterr()
    deps_tree.main()
    below = CHAIN[CHAIN.index(name) :] if name in CHAIN else [name]
    assert lines(capsys.readouterr().out) == [(depth, family, "COMPLETE") for depth, family in enumerate(below)]
