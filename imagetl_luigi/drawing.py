"""A graph of tasks as a text tree or, by Graphviz, as an SVG.

Names, paths and values are whatever somebody typed, so they are shown as text and nothing else: control
characters become escapes, and no letter of theirs is markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from imagetl_luigi.errors import DrawingError
from imagetl_luigi.task_graph import Need, Node

if TYPE_CHECKING:
    import graphviz

INK, FAINT, PAPER = "#1c2733", "#4a5868", "#ffffff"
COMPLETE = ("#d9f2e0", "#246b40")
PENDING = ("#fdeec9", "#8a5300")
"""Colours of text, small text and the panel; then fill and border of what is complete, and of what is pending."""

LONGEST = 44
"""Letters of a path or value in a picture; longer ones lose their middle, and are whole where one points at them."""

MOST_OUTPUTS = 3
"""Paths of a task that are shown; of more, their number is."""

_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""What XML cannot say, what a terminal obeys, and what makes a text look like another."""

_FONT = "Helvetica,Arial,sans-serif"
_SVG = "{http://www.w3.org/2000/svg}"
_SHEETS = (10, 5)
"""How far the sheets of a stack lie up and to the right of its front, in points; the hindmost first."""


def printable(text: str) -> str:
    r"""The text with its control characters as escapes.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def title(node: Node) -> str:
    """What a node is: its family, and how many if it stands for many."""
    count = "?" if node.count is None else f"{node.count:,}"
    return printable(node.family) + (f" × {count}" if node.stacked else "")


def state(node: Node) -> str:
    """Whether it is complete or pending; of many, how many are."""
    if not node.stacked:
        return "complete" if node.done else "pending"
    pending = 0 if node.count is None else node.count - node.complete
    parts = [(node.complete, "complete"), (pending, "pending")]
    return ", ".join(f"{count:,} {word}" for count, word in parts if count) or "pending"


def text_tree(nodes: list[Node]) -> str:
    """The first node and below it what it needs; what several need is shown once, and named again."""
    lines: list[str] = []
    shown: set[int] = set()
    waiting = [(0, "", "", "")]
    while waiting:
        number, branch, indent, remark = waiting.pop()
        node = nodes[number]
        line = f"{branch}{title(node)} ({state(node)}){remark}"
        if number in shown:
            lines.append(f"{line}, see above")
            continue
        shown.add(number)
        lines.append("  ".join([line, *_outputs(node)]))
        bar = "│   " if node.needs else "    "
        lines += [printable(f"{indent}{bar}{name} = {value}") for name, value in node.parameters.items()]
        # What its own run() has done comes first, as it has little or nothing below it.
        needs = sorted(node.needs.items(), key=lambda need: need[1] is Need.REQUIRED)
        for at, (other, why) in enumerate(reversed(needs)):
            branch, below = ("├── ", "│   ") if at else ("└── ", "    ")
            waiting.append(
                (other, indent + branch, indent + below, f", {why.value}" if why is not Need.REQUIRED else "")
            )
    return "\n".join(lines) + "\n"


def _outputs(node: Node) -> list[str]:
    paths = [printable(path) for path in node.outputs[:MOST_OUTPUTS]]
    more = len(node.outputs) - len(paths)
    return [*paths, f"and {more:,} more"] if more else paths


def svg(nodes: list[Node]) -> bytes:
    """The picture. Raises DrawingError if Graphviz is missing or fails."""
    try:
        import graphviz
    except ImportError:
        raise DrawingError(
            "the Python package graphviz is missing, so there is no picture; pip install 'imagetl_luigi[viz]'"
        ) from None
    try:
        drawn = _diagram(nodes).pipe("svg", encoding="utf-8", quiet=True)
    except graphviz.ExecutableNotFound:
        raise DrawingError(
            "Graphviz's program dot is missing, so there is no picture; apt install graphviz, or brew install graphviz"
        ) from None
    except graphviz.CalledProcessError as error:
        raise DrawingError(f"Graphviz cannot draw this: {' '.join(str(error.stderr).split())}") from None
    return _finished(drawn, nodes)


def _diagram(nodes: list[Node]) -> graphviz.Digraph:
    """Stages downwards, with what flows in at their left and what they map at their right."""
    import graphviz

    diagram = graphviz.Digraph(
        graph_attr={"label": _legend(), "bgcolor": PAPER, "fontname": _FONT, "pad": "0.25", "nodesep": "0.4"},
        node_attr={"shape": "box", "style": "rounded,filled", "fontname": _FONT, "margin": "0.18,0.08"},
        edge_attr={"color": FAINT, "penwidth": "1.3", "arrowsize": "0.8"},
    )
    for number, node in enumerate(nodes):
        fill, line = COMPLETE if node.done else PENDING
        rows = [f'<FONT COLOR="{INK}"><B>{_text(title(node))}</B></FONT>', _small(state(node), line)]
        rows += map(_small, _outputs(node))
        stack = {"class": "stack"} if node.stacked else {}
        diagram.node(f"n{number}", _table(rows), fillcolor=fill, color=line, penwidth="1.5", **stack)
        with diagram.subgraph(graph_attr={"rank": "same"}) as beside:
            if node.parameters:
                rows = [f"{_small(f'{name} =')} {_small(value, INK)}" for name, value in node.parameters.items()]
                beside.node(f"p{number}", _table(rows, "RIGHT"), shape="plain", style="")
                beside.edge(f"p{number}", f"n{number}", arrowhead="vee")
            for other in (other for other, why in node.needs.items() if why is Need.MAPPED):
                beside.edge(f"n{number}", f"n{other}", dir="back", style="dashed")
        for other, why in node.needs.items():
            if why is not Need.MAPPED:
                diagram.edge(f"n{other}", f"n{number}", style="solid" if why is Need.REQUIRED else "dashed", weight="9")
    return diagram


def _legend() -> str:
    cells = "".join(
        f'<TD BGCOLOR="{fill}" COLOR="{line}" BORDER="1" STYLE="ROUNDED" CELLPADDING="5">{_small(word, line)}</TD>'
        for word, (fill, line) in {"complete": COMPLETE, "pending": PENDING}.items()
    )
    cells += "".join(
        f"<TD>{_small(words)}</TD>" for words in ("——► is needed by", "– –► … and run by it, on Dask or yielded")
    )
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="12"><TR>{cells}</TR></TABLE>>'


def _table(rows: Iterable[str], align: str = "CENTER") -> str:
    lines = "".join(f'<TR><TD ALIGN="{align}">{row}</TD></TR>' for row in rows)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{lines}</TABLE>>'


def _small(text: str, colour: str = FAINT) -> str:
    return f'<FONT POINT-SIZE="11" COLOR="{colour}">{_text(text)}</FONT>'


def _text(text: str) -> str:
    """For Graphviz's markup: short enough for a box, and no markup itself."""
    shown = printable(text)
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST // 2]}…{shown[-(LONGEST // 2 - 1) :]}"
    return html.escape(shown).replace("\\", "\\\\")  # Graphviz would put names in the place of \N, \G and others


def _finished(drawn: str, nodes: list[Node]) -> bytes:
    """Graphviz's SVG with its stacks, and with titles for those who point at something or cannot see it."""
    ElementTree.register_namespace("", _SVG.strip("{}"))
    root = ElementTree.fromstring(drawn)  # noqa: S314  # Graphviz's own
    root.set("role", "img")
    said = _titles(nodes)
    heading = ElementTree.Element(f"{_SVG}title")
    heading.text = f"What {title(nodes[0])} ({state(nodes[0])}) is made from"
    root.insert(0, heading)
    for group in root.iter(f"{_SVG}g"):
        kinds = str(group.get("class")).split()
        name = group.find(f"{_SVG}title")
        if name is not None:
            name.text = said.get(str(name.text), heading.text)
        if "stack" in kinds:
            front = next(child for child in group if child is not name)
            for distance in _SHEETS:
                moved = {**front.attrib, "transform": f"translate({distance},-{distance})"}
                group.insert(list(group).index(front), ElementTree.Element(front.tag, moved))
    picture: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return picture + b"\n"


def _titles(nodes: list[Node]) -> dict[str, str]:
    """What each part of the diagram says in full, by its name there."""
    said = {}
    for number, node in enumerate(nodes):
        name = title(node)
        parameters = [printable(f"{parameter} = {value}") for parameter, value in node.parameters.items()]
        said[f"n{number}"] = "\n".join([f"{name}: {state(node)}", *map(printable, node.outputs)])
        said[f"p{number}"] = "\n".join(parameters)
        said[f"p{number}->n{number}"] = f"parameters of {name}"
        for other, why in node.needs.items():
            ends = (number, other) if why is Need.MAPPED else (other, number)
            said["n{}->n{}".format(*ends)] = f"{name} needs {title(nodes[other])}, {why.value}"
    return said
