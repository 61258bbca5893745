"""drawing: a graph of tasks as a text tree and as an SVG."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import luigi
import pytest
from pictures import gif
from workflow import build, stream

from imagetl_luigi import CombineGif, WriteFrames
from imagetl_luigi.drawing import COMPLETE, FAINT, INK, LONGEST, PAPER, PENDING, printable, state, svg, text_tree, title
from imagetl_luigi.errors import DrawingError
from imagetl_luigi.task_graph import Need, Node, task_graph

SVG = "{http://www.w3.org/2000/svg}"
DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def dot(program: Callable[[str], str]) -> str:
    """Graphviz's program, without which there is no picture."""
    return program("dot")


@pytest.fixture
def half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The state that CONTRIBUTING.md has the picture of the README made in: ten frames of 36 are missing."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/planet.img").write_bytes(stream(gif((2, 2), seed=seed) for seed in range(36)))
    where = {"url": "data/planet.img", "workspace": "data/planet"}
    build(WriteFrames(**where))
    for path in Path("data/planet/frames").glob("frame_2*.gif"):
        path.unlink()
    return task_graph(CombineGif(**where))


def node(family: str = "Task", complete: int = 0, count: int | None = 1, **fields: object) -> Node:
    return Node(family=family, complete=complete, count=count, **{"stacked": count != 1, **fields})


def words(picture: bytes) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def titles(picture: bytes) -> list[str]:
    return [str(element.text) for element in ElementTree.fromstring(picture).iter(f"{SVG}title")]


def test_the_text_tree_says_state_counts_paths_and_parameters(half_way: list[Node]) -> None:
    assert text_tree(half_way) == (
        r"""CombineGif (pending)  data/planet/clip.gif
│   gif = clip.gif
│   loop = 0
└── WriteFrames (pending)  data/planet/frames
    ├── WriteFrame × 36 (26 complete, 10 pending), mapped on Dask
    └── Split (complete)  data/planet/manifest.json
        │   delimiter = \n\n\n\n
        └── Download (complete)  data/planet/image-data.img
                url = data/planet.img
                workspace = data/planet
                data_file = image-data.img
"""
    )


def test_the_text_tree_shows_what_several_need_once_and_says_why_a_task_is_needed() -> None:
    nodes = [
        node("All", needs={1: Need.REQUIRED, 2: Need.REQUIRED}),
        node("Night", complete=1, parameters={"date": "2026-10-20"}, needs={2: Need.YIELDED}),
        node("Clip", count=1200, complete=1100, needs={3: Need.REQUIRED}),
        node("Fetch", outputs=["a", "b"]),
    ]
    assert text_tree(nodes) == (
        "All (pending)\n"
        "├── Night (complete)\n"
        "│   │   date = 2026-10-20\n"
        "│   └── Clip × 1,200 (1,100 complete, 100 pending), yielded by run()\n"
        "│       └── Fetch (pending)  a  b\n"
        "└── Clip × 1,200 (1,100 complete, 100 pending), see above\n"
    )


def test_of_many_paths_a_few_are_shown_and_the_number_of_the_others() -> None:
    paths = [f"{number}.txt" for number in range(1003)]
    assert text_tree([node(outputs=paths)]) == "Task (pending)  0.txt  1.txt  2.txt  and 1,000 more\n"


@pytest.mark.parametrize(
    ("shown", "name", "what"),
    [
        (node(), "Task", "pending"),
        (node(complete=1), "Task", "complete"),
        (node(complete=27, count=27), "Task × 27", "27 complete"),
        (node(complete=0, count=27), "Task × 27", "27 pending"),
        (node(complete=1, count=2700), "Task × 2,700", "1 complete, 2,699 pending"),
        (node(complete=1, count=1, stacked=True), "Task × 1", "1 complete"),
        (node(complete=0, count=None), "Task × ?", "pending"),
        (node(complete=5, count=None), "Task × ?", "5 complete"),
    ],
)
def test_the_state_is_said_in_words(shown: Node, name: str, what: str) -> None:
    assert (title(shown), state(shown)) == (name, what)


def test_the_picture_says_the_same(half_way: list[Node], dot: str) -> None:
    picture = svg(half_way)
    assert {"WriteFrame × 36", "26 complete, 10 pending", "data/planet/manifest.json", r"\n\n\n\n"} <= {*words(picture)}
    assert "complete" in words(picture)
    root = ElementTree.fromstring(picture)
    assert (root[0].tag, root[0].text) == (f"{SVG}title", "What CombineGif (pending) is made from")
    assert root.get("role") == "img"
    assert "WriteFrames needs WriteFrame × 36, mapped on Dask" in titles(picture)
    assert "url = data/planet.img\nworkspace = data/planet\ndata_file = image-data.img" in titles(picture)
    assert not any(re.match(r"[np]\d", said) for said in titles(picture))


def test_the_picture_of_the_readme_is_made_by_it(half_way: list[Node], dot: str) -> None:
    kept, made = (DOCS / "workflow.svg").read_bytes(), svg(half_way)
    assert sorted(words(kept)) == sorted(words(made))
    assert sorted(titles(kept)) == sorted(titles(made))


def test_complete_and_pending_have_colours_and_many_tasks_are_a_stack(half_way: list[Node], dot: str) -> None:
    root = ElementTree.fromstring(svg(half_way))
    shapes = {
        str(group.find(f"{SVG}title").text).partition(":")[0]: [shape.get("fill") for shape in group.iter(f"{SVG}path")]
        for group in root.iter(f"{SVG}g")
        if group.find(f"{SVG}path") is not None and "node" in str(group.get("class"))
    }
    assert shapes == {
        "CombineGif": [PENDING[0]],
        "WriteFrames": [PENDING[0]],
        "WriteFrame × 36": [PENDING[0]] * 3,
        "Split": [COMPLETE[0]],
        "Download": [COMPLETE[0]],
    }


@pytest.mark.parametrize(
    ("text", "ground"),
    [(text, ground) for ground, line in (COMPLETE, PENDING) for text in (INK, FAINT, line)]
    + [(INK, PAPER), (FAINT, PAPER)],
)
def test_text_can_be_read_on_its_ground(text: str, ground: str) -> None:
    """WCAG 2.2, 1.4.3, level AA: a contrast of 4.5."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(text), luminance(ground)))
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


HOSTILE = {
    "markup": '</TD></TR></TABLE>><script>alert("1")</script>',
    "an entity": "a&amp;b&#60;&lt;&bomb;",
    "what Graphviz would fill in": r"\N \G \L \" ] } ;",
    "a quote and a line": '"\nx [label=y]',
    "a terminal's escapes": "\x1b]0;owned\x07\x9b2J",
    "no character": "\x00\ufffe\udcff",
    "letters that turn the others round": "gpj.\u202eexe",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_text(name: str, dot: str) -> None:
    text = HOSTILE[name]
    hostile = [node(text, parameters={text: text}, outputs=[text], needs={1: Need.MAPPED}), node(text, count=3)]
    tree = text_tree(hostile)
    assert len(tree.splitlines()) == 3
    assert all(letter.isprintable() for letter in tree.replace("\n", ""))
    picture = svg(hostile)
    assert {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(picture).iter()} <= {
        *("svg", "g", "title", "text", "path", "polygon", "polyline")
    }
    expected = printable(text)
    if len(expected) > LONGEST:
        expected = f"{expected[:22]}…{expected[-21:]}"
    assert expected in {word.replace("\xa0", " ") for word in words(picture)}
    assert f"{printable(text)} = {printable(text)}" in titles(picture)


@pytest.mark.parametrize("character", [0x1F, 0x7F, 0x9F, 0x2066, 0xD800, 0xFFFF])
def test_what_cannot_be_printed_is_an_escape(character: int) -> None:
    assert printable(f"a{chr(character)}b").startswith("a\\") and printable(f"a{chr(character)}b").isascii()
    assert printable("Zürich/夜 €.gif") == "Zürich/夜 €.gif"


def test_a_long_value_loses_its_middle_and_is_whole_where_one_points_at_it(dot: str) -> None:
    url = f"https://example.org/{'x' * 200}/cam.img"
    picture = svg([node(parameters={"url": url})])
    assert "https://example.org/xx…xxxxxxxxxxxxx/cam.img" in words(picture)
    assert f"url = {url}" in titles(picture)


def test_a_thousand_streams_are_a_picture_of_a_few_boxes(dot: str) -> None:
    class Stream(luigi.Task):
        number = luigi.IntParameter()

        def complete(self) -> bool:
            return self.number < 400

    class Animation(luigi.Task):
        number = luigi.IntParameter()

        def requires(self) -> luigi.Task:
            return Stream(number=self.number)

    class Everything(luigi.WrapperTask):
        def requires(self) -> list[luigi.Task]:
            return [Animation(number=number) for number in range(1000)]

    picture = svg(task_graph(Everything()))
    assert {"Animation × 1,000", "Stream × 1,000", "400 complete, 600 pending", "1,000 values"} <= {*words(picture)}
    assert picture.count(b'class="node') == 4  # the parameter is one


def test_without_the_program_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DrawingError, match="program dot is missing, so there is no picture; apt install graphviz"):
        svg([node()])


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(DrawingError, match=r"package graphviz is missing.*pip install 'imagetl_luigi\[viz\]'"):
        svg([node()])


def test_a_program_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho out of paper >&2; exit 3\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DrawingError, match=r"^Graphviz cannot draw this: out of paper$"):
        svg([node()])
