"""Nights and streams to look at, made by the workflow in this process."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

from pictures import encode
from PIL import Image
from workflow import build, stream

from imagetl_luigi import CombineGif, NightlyGif, storage

RED, GREEN, BLUE, YELLOW = (200, 30, 20), (30, 160, 60), (20, 60, 210), (230, 200, 40)

Colour = tuple[int, int, int]


def plain(colour: Colour, size: tuple[int, int] = (16, 12), format: str = "GIF") -> bytes:
    """A picture of one colour."""
    return encode(Image.new("RGB", size, colour), format)


def day(number: int) -> datetime.date:
    """A day of November 2026; those below 1 are of the months before."""
    return datetime.date(2026, 10, 31) + datetime.timedelta(number)


def make_night(root: str, number: int, frames: Sequence[Colour | bytes], **parameters: object) -> str:
    """Make the night of that day, with a frame of each colour; its workspace."""
    task = NightlyGif(date=day(number), url=_source(root, frames), root=root, **parameters)
    assert build(task).scheduling_succeeded
    return f"{root}/{day(number)}"


def make_stream(place: str, frames: Sequence[Colour | bytes], **parameters: object) -> str:
    """Make the animation of a stream in this workspace."""
    assert build(CombineGif(url=_source(place, frames), workspace=place, **parameters)).scheduling_succeeded
    return place


def _source(place: str, frames: Sequence[Colour | bytes]) -> str:
    """A file of the frames, beside no workspace."""
    path = f"source-{os.path.basename(place)}.img"
    storage.write_bytes(path, stream(frame if isinstance(frame, bytes) else plain(frame) for frame in frames))
    return path
