"""The contact sheet: all frames of a stream in one small picture. Here is where each lies; sheet_drawing draws it.

It says itself what it is of, in a comment (JPEG, ITU-T T.81, B.2.4.5), as the animation does.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from math import ceil, sqrt

from imagetl_luigi import page
from imagetl_luigi.manifest import Manifest

LONGEST_SIDE = 96
"""Pixels of a tile."""

MOST_TILES = 2048
"""So that a browser has at most 19 million pixels of it in memory. Of more frames, every second or third has a tile."""

ROW = re.compile(r"[0-9a-f]{16}-\d+-\d{5}\.png")
"""Names of rows while the sheet is drawn; nothing else in their folder is ours."""

MARK = re.compile(rb"imagetl_luigi ([0-9a-f]{64})")
"""How a sheet says what it is of; see `page.read_mark`."""

_VERSION = 1  # of what is drawn, and how


@dataclass(frozen=True)
class Layout:
    """Where each frame is found: from left to right, then from top to bottom.

    Attributes:
        frames: how many there are.
        every: how many of them share a tile, which shows the first.
        columns: tiles of a row.
        width, height: pixels of a tile.
        scale: pixels of a tile for each of the canvas.
    """

    frames: int
    every: int
    columns: int
    width: int
    height: int
    scale: float

    @classmethod
    def of(cls, frames: int, width: int, height: int) -> Layout:
        """A sheet about as wide as high, for frames on a canvas of `width` × `height` pixels."""
        scale = LONGEST_SIDE / max(width, height, 1)
        tile = max(1, round(width * scale)), max(1, round(height * scale))
        every = ceil(frames / MOST_TILES)
        tiles = ceil(frames / every)
        columns = min(tiles, ceil(sqrt(tiles * tile[1] / tile[0])))
        return cls(frames, every, columns, *tile, scale)

    @property
    def rows(self) -> int:
        """How many there are."""
        return ceil(self.frames / (self.every * self.columns))

    def row(self, number: int, step: int) -> range:
        """The frames of a row; with a step of 1 all, with `every` those that have a tile."""
        first = number * self.every * self.columns
        return range(first, min(self.frames, first + self.every * self.columns), step)


def layout_of(manifest: Manifest) -> Layout:
    """Where the frames of a manifest are found."""
    return Layout.of(manifest.count, manifest.width, manifest.height)


def mark_of(manifest: Manifest) -> str:
    """Stands for the frames of a manifest and where each lies."""
    return page.mark_of("contact sheet", _VERSION, manifest.digest, asdict(layout_of(manifest)))


def comment(mark: str) -> bytes:
    """What the sheet of this mark says."""
    return b"imagetl_luigi " + mark.encode("ascii")


def row_name(mark: str, number: int, step: int) -> str:
    """File name of a row while the sheet of this mark is drawn."""
    return f"{mark[:16]}-{step}-{number:05}.png"
