"""The page of one workspace: what it shows, from the manifest and the contact sheet."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import Any

from imagetl_luigi import page, storage
from imagetl_luigi.contact_sheet import Layout
from imagetl_luigi.gif import DEFAULT_DELAY, Recipe
from imagetl_luigi.manifest import Frame, Manifest
from imagetl_luigi.workspace import Workspace


def mark(manifest: Manifest, recipe: Recipe, paths: Workspace) -> str:
    """Stands for all that the page shows."""
    gif = paths.inside(paths.gif) or paths.gif
    return page.mark_of(page.design("watch"), asdict(recipe), asdict(manifest.source), manifest.same_as, gif)


def render(
    manifest: Manifest, recipe: Recipe, paths: Workspace, layout: Layout, delays: list[int], broken: list[int]
) -> bytes:
    """The page.

    Args:
        layout: of the contact sheet, which lies beside the page.
        delays: milliseconds of each frame, as far as the recipe leaves them to the frames; else it is not looked at.
        broken: indexes of frames that cannot be decoded.
    """
    frames = list(manifest.frames())
    same = _repeated(frames)
    times = _times(recipe, len(frames), delays)
    gif = paths.inside(paths.gif)
    values = {
        "title": f"{_name(manifest)}: {page.plural(manifest.count, 'frame')}",
        "name": _name(manifest),
        "manifest": manifest,
        "address": page.web_address(manifest.source.url),
        "recipe": recipe,
        "seconds": sum(times) / 1000,
        "delays": (min(times), max(times)),
        "frame_bytes": sum(frame.length for frame in frames),
        "smallest": min(frame.length for frame in frames),
        "largest": max(frame.length for frame in frames),
        "gif": gif and page.link(*gif.split("/"), version=page.mark_of(asdict(recipe))[:8]),
        "gif_name": posixpath.basename(paths.gif),
        "gif_bytes": storage.size(paths.gif),
        "repeated": sum(index is not None for index in same),
        "stuck": _longest_run(same),
        "broken": broken,
        "every": layout.every,
        "icon": link_of(frames[0]),  # or browsers ask for /favicon.ico, outside of the folder
        "data": {
            "count": manifest.count,
            "width": manifest.width,
            "height": manifest.height,
            "loop": recipe.loop,
            "name": [frame.name for frame in frames],
            "link": _column(link_of(frame) for frame in frames),
            "bytes": _column(frame.length for frame in frames),
            "delay": _column(times),
            "format": _column(frame.format for frame in frames),
            "size": _column(f"{frame.width} × {frame.height}" for frame in frames),
            "same": _column(same),
            "broken": broken,
            "sheet": {"link": page.link("contact-sheet.jpg", version=manifest.digest[:8]), **asdict(layout)},
        },
    }
    return page.render("watch", mark(manifest, recipe, paths), values)


def link_of(frame: Frame) -> str:
    """The frame file as seen from the page."""
    return page.link("frames", frame.name, version=frame.sha256[:8])


def _name(manifest: Manifest) -> str:
    """What the source is called: the last part of its URL."""
    url = manifest.source.url
    path = url.partition("?")[0].rstrip("/") if "://" in url else url  # a file may have a ? in its name
    return posixpath.basename(path) or url


def _times(recipe: Recipe, count: int, delays: list[int]) -> list[int]:
    """Milliseconds of each frame."""
    if recipe.delay is not None:
        return [recipe.delay] * count
    return delays if len(delays) == count else [DEFAULT_DELAY] * count


def _repeated(frames: Iterable[Frame]) -> list[int | None]:
    """For each frame, the index of the first one with the same bytes, by their SHA-256; None if it is the first."""
    first: dict[str, int] = {}
    found = ((frame.index, first.setdefault(frame.sha256, frame.index)) for frame in frames)
    return [earlier if earlier != index else None for index, earlier in found]


def _longest_run(same: list[int | None]) -> tuple[int, int] | None:
    """Where the most frames one after the other are the same picture: index of the first, and how many they are."""
    firsts = (index if earlier is None else earlier for index, earlier in enumerate(same))
    longest, start, at = 1, 0, 0
    for _, run in groupby(firsts):
        length = sum(1 for _ in run)
        if length > longest:
            longest, start = length, at
        at += length
    return (start, longest) if longest > 1 else None


def _column(values: Iterable[Any]) -> Any:
    """What a frame has for each frame, or the one value that all of them have."""
    listed = list(values)
    return listed[0] if all(value == listed[0] for value in listed) else listed
