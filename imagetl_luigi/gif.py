"""Combine GIF frames into one animation by stream copy: no picture is decoded or coded again.

Each frame's compressed data goes over byte for byte. What is written anew are the few bytes around
it: screen, colour tables, delays, disposal and loop count (GIF89a, CompuServe 1990; the NETSCAPE2.0
block as browsers read it). Comments and application blocks of the frames are dropped.

Where the canvas shows behind a frame (a transparent pixel, a smaller picture) it must be clear, and not
show the frame before. Viewers disagree on how to clear: browsers do, while Pillow, ffmpeg and libnsgif paint
a background colour, and Pillow takes it from the table of whatever frame it is at. So such an animation has
no global table, only its first frame is cleared, and each later one is undone: what was behind it comes back.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO

from imagetl_luigi import storage
from imagetl_luigi.errors import FrameError, ParameterError
from imagetl_luigi.formats import Gif, Malformed, PastEnd, parse_gif

DEFAULT_DELAY = 100
"""Milliseconds that a frame is shown if neither the parameter nor the frame itself tells."""

LARGEST_SIDE = 65535
"""Pixels of the widest and of the highest screen of a GIF (GIF89a, section 18)."""

LONGEST_HEAD = 1024 * 1024
"""Bytes at the start of a GIF of ours in which its recipe is found. A delimiter typed at a terminal has
128 KiB at the most (Linux, MAX_ARG_STRLEN), and the recipe up to five characters for each of its bytes."""

_USUAL_HEAD = 8 * 1024

_KEEP, _CLEAR, _UNDO = 1, 2, 3  # disposal methods (GIF89a, section 23)
_MARK = b"imagetl_luigi "


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an animation is made from; kept in a comment block, so that the GIF itself tells.

    Attributes:
        source: stands for the URL (`source.source_id`), which a published GIF should not reveal.
        delimiter: as the parameter is given.
        delay: milliseconds a frame, or None for the frames' own.
        loop: how often it plays; 0 is for ever.
        stream: SHA-256 of the data file.
        frames: digest of the frames (`Manifest.digest`).
    """

    source: str
    delimiter: str
    delay: int | None
    loop: int
    stream: str
    frames: str

    def to_comment(self) -> bytes:
        """The text of the comment block, 7-bit ASCII (GIF89a, section 24)."""
        return _MARK + json.dumps(asdict(self)).encode("ascii")


def check_timing(delay: int | None, loop: int) -> None:
    """Refuse what a GIF cannot say.

    Raises:
        ParameterError: `delay` is not a whole number of hundredths of a second, or out of range; or `loop` is.
    """
    if delay is not None and (delay % 10 or not 0 <= delay <= 655350):
        raise ParameterError(
            f"delay = {delay} is not possible. A GIF counts hundredths of a second, so allowed are "
            "multiples of 10 milliseconds from 0 to 655350, such as 40 for 25 frames a second"
        )
    if not 0 <= loop <= 65536:
        raise ParameterError(f"loop = {loop} is not possible. Allowed: 0 (for ever) to 65536 times")


def combine(
    frames: Iterable[bytes], out: BinaryIO, *, screen: tuple[int, int], opaque: bool, recipe: Recipe
) -> Iterator[int]:
    """Write the animation of `frames`, each a GIF file of one picture, to `out`; yield their count as it grows.

    Of a frame of several pictures the first is taken. One frame is held at a time.

    Args:
        screen: width and height in pixels that hold every frame.
        opaque: every frame paints the whole screen.
        recipe: its delay and loop are applied, and all of it goes into the comment.

    Raises:
        FrameError: a frame is no GIF, or the screen is larger than a GIF's may be.
    """
    if max(screen) > LARGEST_SIDE:
        raise FrameError(
            f"a GIF of {screen[0]} × {screen[1]} pixels is not possible; each side may have {LARGEST_SIDE}"
        )
    shared = b""
    for index, data in enumerate(frames):
        gif = _parse(data, index)
        palette = _palette(data, gif)
        if index == 0:
            shared = palette if opaque else b""
            out.write(_head(screen, shared, recipe))
        disposal = _KEEP if opaque else _UNDO if index else _CLEAR
        transparent = gif.transparent if opaque or gif.transparent is not None else _spare_index(gif, palette)
        out.write(_control(disposal, _delay(gif, recipe.delay), transparent))
        out.write(_descriptor(gif, b"" if palette == shared else palette))
        out.write(memoryview(data)[slice(*gif.data)])
        yield index + 1
    out.write(b";")


def own_delay(frame: bytes) -> int:
    """Milliseconds that a frame, a file of any format, is shown for if no delay is given."""
    if frame.startswith(b"GIF8"):
        try:
            return 10 * _delay(parse_gif(frame, 0), None)
        except (Malformed, PastEnd):  # combining it has said so
            pass
    return DEFAULT_DELAY


def read_recipe(head: bytes) -> Recipe | None:
    """The recipe in the first LONGEST_HEAD bytes of an animation, or None if it is not one of ours."""
    text, _, _ = _find_comment(head)
    try:
        return Recipe(**json.loads(text.removeprefix(_MARK)))
    except (ValueError, TypeError, RecursionError):
        return None


def find_recipe(path: str) -> Recipe | None:
    """The recipe of the animation at `path`, or None if it is not one of ours. Most have a short one."""
    for length in (_USUAL_HEAD, LONGEST_HEAD):
        head = storage.read_range(path, 0, length)
        recipe = read_recipe(head)
        if recipe or len(head) < length:
            return recipe
    return None


def relabel(animation: BinaryIO, out: BinaryIO, recipe: Recipe) -> None:
    """Write an animation of ours to `out` with the recipe of another URL in its comment; all else goes over as it is.

    Raises:
        FrameError: it is none of ours, or made of other frames or in another way.
    """
    head = animation.read(LONGEST_HEAD)
    _, start, end = _find_comment(head)
    found = read_recipe(head)
    if found is None or replace(found, source=recipe.source) != recipe:
        raise FrameError("the animation was replaced while it was used; run again")
    out.write(head[:start] + _comment(recipe) + head[end:])
    shutil.copyfileobj(animation, out, LONGEST_HEAD)


def _find_comment(head: bytes) -> tuple[bytes, int, int]:
    """Text of the comment that holds the recipe, and where its block begins and ends; empty, 0 and 0 without one."""
    if len(head) < 13 or not head.startswith(b"GIF8"):
        return b"", 0, 0
    end = 13 + (6 << (head[10] & 7) if head[10] & 0x80 else 0)
    while head[end : end + 1] == b"!" and end + 2 < len(head):
        start, label, (text, end) = end, head[end + 1], _read_sub_blocks(head, end + 2)
        if label == 0xFE and text.startswith(_MARK):
            return text, start, end
    return b"", 0, 0


def _parse(data: bytes, index: int) -> Gif:
    try:
        return parse_gif(data, 0)
    except (Malformed, PastEnd):
        raise FrameError(
            f"frame {index} is not a whole GIF; remove its file in frames/ or converted/ and run again"
        ) from None


def _head(screen: tuple[int, int], palette: bytes, recipe: Recipe) -> bytes:
    packed = 0x70 | (0x80 | _table_bits(palette) if palette else 0)
    blocks = [b"GIF89a", struct.pack("<HHBBB", *screen, packed, 0, 0), palette]
    if recipe.loop != 1:  # the block counts repeats after the first time, and 0 is for ever
        blocks.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", max(0, recipe.loop - 1), 0))
    return b"".join([*blocks, _comment(recipe)])


def _comment(recipe: Recipe) -> bytes:
    """The comment extension (section 24)."""
    return b"!\xfe" + _sub_blocks(recipe.to_comment())


def _palette(data: bytes, gif: Gif) -> bytes:
    """The colours of a frame; a grey ramp for one that has none."""
    start, end = gif.palette
    if end > start:
        return data[start:end]
    size = 1 << min(gif.code_size, 8)
    return bytes(level * 255 // (size - 1) for level in range(size) for _ in "rgb")


def _delay(gif: Gif, delay: int | None) -> int:
    """Hundredths of a second: the parameter's, else the frame's own, else the default."""
    return delay // 10 if delay is not None else gif.delay or DEFAULT_DELAY // 10


def _spare_index(gif: Gif, palette: bytes) -> int | None:
    """A colour that the picture cannot use, to be named as its transparent one; None if there may be none.

    Pillow lets nothing but black or a palette's colour stand behind a picture without a transparent one.
    """
    return 255 if gif.code_size < 8 or len(palette) < 3 * 256 else None


def _control(disposal: int, delay: int, transparent: int | None) -> bytes:
    """The graphic control extension (GIF89a, section 23)."""
    flags = disposal << 2 | (transparent is not None)
    return b"!\xf9\x04" + struct.pack("<BHBB", flags, delay, transparent or 0, 0)


def _descriptor(gif: Gif, palette: bytes) -> bytes:
    """The image descriptor (section 20) and the local colour table, if there is one."""
    packed = (0x40 if gif.interlaced else 0) | (0x80 | _table_bits(palette) if palette else 0)
    return b"," + struct.pack("<HHHHB", *gif.box, packed) + palette


def _table_bits(palette: bytes) -> int:
    return (len(palette) // 3).bit_length() - 2


def _sub_blocks(data: bytes) -> bytes:
    pieces = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def _read_sub_blocks(head: bytes, position: int) -> tuple[bytes, int]:
    pieces = []
    while position < len(head) and head[position]:
        pieces.append(head[position + 1 : position + 1 + head[position]])
        position += 1 + head[position]
    return b"".join(pieces), position + 1
