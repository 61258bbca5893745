"""The contact sheet: all frames of a stream in one small picture. Here is where each lies; sheet_drawing draws it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

LONGEST_SIDE = 96
"""Pixels of a tile."""

MOST_TILES = 2048
"""So that a browser has at most 19 million pixels of it in memory. Of more frames, every second or third has a tile."""


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
        scale = LONGEST_SIDE / max(width, height)
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
