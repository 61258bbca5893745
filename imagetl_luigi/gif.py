"""Combine GIF frames into one animation by stream copy: no picture is decoded or coded again.

Each frame's compressed data goes over byte for byte. What is written anew are the few bytes around
it: screen, colour tables, delays, disposal and loop count (GIF89a, CompuServe 1990; the NETSCAPE2.0
block as browsers read it). Comments and application blocks of the frames are dropped.

A canvas that shows behind a frame (a transparent pixel, a smaller picture) is cleared before the next
one. Viewers disagree on how: Pillow, ffmpeg and libnsgif paint the background colour of the global
table, browsers clear. So such an animation has no global table and no background to paint.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import BinaryIO

from imagetl_luigi.errors import FrameError, ParameterError
from imagetl_luigi.formats import Gif, Malformed, PastEnd, parse_gif

DEFAULT_DELAY = 100
"""Milliseconds that a frame is shown if neither the parameter nor the frame itself tells."""

LARGEST_SIDE = 65535
"""Pixels of the widest and of the highest screen of a GIF (GIF89a, section 18)."""

LONGEST_HEAD = 8 * 1024
"""Bytes at the start of a GIF of ours in which its recipe is found."""

_KEEP, _CLEAR = 1, 2  # disposal methods (GIF89a, section 23)
_MARK = b"imagetl_luigi "


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an animation is made from; kept in a comment block, so that the GIF itself tells.

    Attributes:
        source: stands for the URL (`source.source_id`), which a published GIF should not reveal.
        delimiter: as the parameter is given.
        delay: milliseconds a frame, or None for the frames' own.
        loop: how often it plays; 0 is for ever.
        frames: digest of the frames (`Manifest.digest`).
    """

    source: str
    delimiter: str
    delay: int | None
    loop: int
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

    Of a frame of several pictures the first is taken. Two frames are held at a time.

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
    parsed = ((data, _parse(data, index)) for index, data in enumerate(frames))
    for count, ((data, gif), (_, following)) in enumerate(pairwise(chain(parsed, [(b"", None)])), start=1):
        assert gif is not None  # only the last one is
        if count == 1:
            shared = _palette(data, gif) if opaque else b""
            out.write(_head(screen, shared, recipe))
        palette = _palette(data, gif)
        covered = opaque or (following is not None and _covers(following, screen))
        out.write(_control(gif, _delay(gif, recipe.delay), _KEEP if covered else _CLEAR))
        out.write(_descriptor(gif, b"" if palette == shared else palette))
        out.write(memoryview(data)[slice(*gif.data)])
        yield count
    out.write(b";")


def read_recipe(head: bytes) -> Recipe | None:
    """The recipe in the first LONGEST_HEAD bytes of an animation, or None if it is not one of ours."""
    if len(head) < 13 or not head.startswith(b"GIF8"):
        return None
    position = 13 + (6 << (head[10] & 7) if head[10] & 0x80 else 0)
    while head[position : position + 1] == b"!" and position + 2 < len(head):
        label, text, position = head[position + 1], *_read_sub_blocks(head, position + 2)
        if label == 0xFE and text.startswith(_MARK):
            try:
                return Recipe(**json.loads(text.removeprefix(_MARK)))
            except (ValueError, TypeError):
                return None
    return None


def _parse(data: bytes, index: int) -> Gif:
    try:
        return parse_gif(data, 0)
    except (Malformed, PastEnd):
        raise FrameError(f"frame {index} is not a whole GIF; run again with --verify to make it again") from None


def _head(screen: tuple[int, int], palette: bytes, recipe: Recipe) -> bytes:
    packed = 0x70 | (0x80 | _table_bits(palette) if palette else 0)
    blocks = [b"GIF89a", struct.pack("<HHBBB", *screen, packed, 0, 0), palette]
    if recipe.loop != 1:  # the block counts repeats after the first time, and 0 is for ever
        blocks.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", max(0, recipe.loop - 1), 0))
    blocks.append(b"!\xfe" + _sub_blocks(recipe.to_comment()))
    return b"".join(blocks)


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


def _covers(gif: Gif, screen: tuple[int, int]) -> bool:
    return gif.transparent is None and gif.box == (0, 0, *screen)


def _control(gif: Gif, delay: int, disposal: int) -> bytes:
    """The graphic control extension (GIF89a, section 23).

    Pillow clears a picture to transparent only if it has a transparent index, so one is named
    that the picture cannot use: 255, where its codes have fewer than 8 bits.
    """
    transparent = gif.transparent
    if transparent is None and disposal == _CLEAR and gif.code_size < 8:
        transparent = 255
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
    data = b""
    while position < len(head) and head[position]:
        data += head[position + 1 : position + 1 + head[position]]
        position += 1 + head[position]
    return data, position + 1
