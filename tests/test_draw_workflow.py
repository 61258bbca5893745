"""draw_workflow: the command behind scripts/draw_workflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pictures import gif
from server import Server
from workflow import build, stream

from imagetl_luigi import WriteFrames
from imagetl_luigi.draw_workflow import main

TREE = r"""CombineGif (pending)  w/clip.gif
│   gif = clip.gif
│   delay = 40
│   loop = 0
└── WriteFrames (pending)  w/frames
    ├── WriteFrame × ? (pending), mapped on Dask
    └── Split (pending)  w/manifest.json
        │   delimiter = \n\n\n\n
        └── Download (pending)  w/image-data.img
                url = {url}
                workspace = w
                data_file = image-data.img
"""

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def main_task(server: Server) -> list[str]:
    """A source that would answer, if it were asked."""
    return ["CombineGif", "--url", server.put("/a", b"x"), "--workspace", "w", "--delay", "40"]


def test_without_output_it_prints_the_tree_runs_nothing_and_asks_no_server(
    server: Server, main_task: list[str], capsys: Output
) -> None:
    assert main(main_task) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (TREE.format(url=server.url("/a")), "")
    assert server.requests == []
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("first", [True, False])
def test_output_makes_a_picture_and_nothing_else(
    main_task: list[str], capsys: Output, program: Callable[[str], str], first: bool
) -> None:
    program("dot")
    output = ["--output", "pictures/workflow.svg"]
    assert main([*output, *main_task] if first else [*main_task, *output]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert [str(path) for path in Path().rglob("*") if path.is_file()] == ["pictures/workflow.svg"]
    assert ElementTree.parse("pictures/workflow.svg").getroot().tag.endswith("svg")


def test_run_as_a_program_it_reads_the_luigi_cfg_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[Download]\nworkspace = kept\n[dask]\nchunk_size = 7\n")
    command = [sys.executable, "-P", "-m", "imagetl_luigi.draw_workflow"]
    tree = subprocess.run([*command, "Download"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Download (pending)  kept/image-data.img\n" in tree.stdout
    (tmp_path / "luigi.cfg").write_text("[dask]\nchunk_size = 0\n")
    wrong = subprocess.run([*command, "Download"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "draw_workflow: [dask] chunk_size = 0 is too small. Allowed: 1 or more\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CombineGoof"], "No task CombineGoof. "),
        (["CombineGif", "--delaj", "40"], "unrecognized arguments: --delaj 40"),
        (["CombineGif", "--delay"], "argument --delay: expected one argument"),
        (["CombineGif", "--delay", "33"], "delay = 33 is not possible"),
        (["CombineGif", "--delay", "fast"], "delay = 'fast' is not a whole number"),
        (["CombineGif", "--url", ""], "--url is empty"),
        (["CombineGif", "--url", "a\x1b.img", "--gif", "frames/a\x1b"], r"gif = 'frames/a\x1b' is not possible"),
        (["CombineGif", "--dask-scheduler", "dusk"], "[dask] scheduler = 'dusk' is not known"),
        (["WriteFrame"], "requires the 'data_file' parameter"),
        (["--module", "no_such_module", "CombineGif"], "No module named 'no_such_module'"),
        (["--output", "workflow.svg"], "No task specified"),
        (["CombineGif", "--output"], "argument --output: expected one argument"),
        (["CombineGif", "--output", ""], "--output = '' is not possible. Allowed: a name that ends in .svg"),
        (["CombineGif", "--output", "workflow.png"], "--output = 'workflow.png' is not possible. Allowed: "),
        (["CombineGif", "--output", "foo://x/w.svg"], "is of no known store. Allowed: "),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: list[str], message: str, capsys: Output) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("draw_workflow: ") and message in said.err
    assert len(said.err.splitlines()) == 1
    assert list(Path().iterdir()) == []


def test_without_graphviz_it_says_so_and_prints_the_tree(
    server: Server, main_task: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert main(["--output", "workflow.svg", *main_task]) == 1
    said = capsys.readouterr()
    assert said.out == TREE.format(url=server.url("/a"))
    assert said.err.splitlines() == [
        "draw_workflow: Graphviz's program dot is missing, so there is no picture; "
        "apt install graphviz, or brew install graphviz"
    ]
    assert list(Path().iterdir()) == []
    assert main(main_task) == 0  # the tree needs none


def test_a_picture_that_cannot_be_written_is_told(
    main_task: list[str], capsys: Output, program: Callable[[str], str]
) -> None:
    program("dot")
    Path("file").touch()
    assert main([*main_task, "--output", "file/workflow.svg"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("draw_workflow: cannot write file/workflow.svg: ") and len(said.splitlines()) == 1


def test_a_workspace_that_cannot_be_looked_at_is_told(capsys: Output) -> None:
    Path("a.img").write_bytes(stream([gif()]))
    build(WriteFrames(url="a.img", workspace="w"))
    manifest = Path("w/manifest.json")
    manifest.write_text(manifest.read_text().replace('"index": 0', '"index": 1'))
    capsys.readouterr()
    assert main(["CombineGif", "--url", "a.img", "--workspace", "w"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("draw_workflow: w/manifest.json is damaged: ") and len(said.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0)])
def test_without_arguments_it_says_how_it_is_used(arguments: list[str], code: int, capsys: Output) -> None:
    assert main(arguments) == code
    said = capsys.readouterr()
    assert "scripts/draw_workflow [--output workflow.svg] TASK" in (said.err if code else said.out)


def test_the_parameters_of_a_task_are_shown_by_luigi(capsys: Output) -> None:
    with pytest.raises(SystemExit) as end:
        main(["CombineGif", "--help"])
    assert not end.value.code
    assert "--delimiter " in capsys.readouterr().out
