"""Find the frames of a stream: by the formats' own structure, checked against the delimiter.

A delimiter alone cannot do it: four newlines stand in the quantisation table of every JPEG of
quality 95. A format's structure alone cannot do it either: a truncated GIF goes on, block by
block, into its neighbour. So a picture's own end counts when a delimiter, the next picture or the
end of the stream follows it, and when no picture that begins after a delimiter inside it ends at
the same byte. Bytes behind a whole picture stay with its frame, up to the next delimiter that a
known signature follows. Payloads of unknown format end at the next delimiter.

The stream is read once, through a window, so memory does not depend on its length.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from imagetl_luigi.errors import ParameterError, SplitError
from imagetl_luigi.formats import LONGEST_SIGNATURE, START, Buffer, Malformed, PastEnd, Picture, sniff, walk
from imagetl_luigi.settings import Limits, MiB

WINDOW = 2 * MiB
"""Bytes looked at together. A frame that is larger makes the window grow."""

View = Callable[[int, int], tuple[Buffer, int]]
"""Shows `length` bytes of the stream from `offset` on, fewer at its end: a buffer that holds them,
and the position in it at which they begin."""


class Span(NamedTuple):
    """Where a frame lies in the stream, and what it is. Sizes are None for an unknown format."""

    offset: int
    length: int
    format: str
    width: int | None
    height: int | None
    opaque: bool
    sha256: str


class _Cut(NamedTuple):
    """A frame in the window: buffer[start:end]."""

    start: int
    end: int
    format: str
    picture: Picture | None


class _More(Exception):
    """The window must hold more of the stream before this can be decided."""


class Delimiter:
    r"""What separates frames.

    A delimiter of newlines stands for any of its variants: `\r\n`, more newlines, and, where a
    known picture or the end follows, fewer. Any other delimiter stands for itself, once or more.

    Raises:
        ParameterError: it is empty.
    """

    def __init__(self, delimiter: bytes) -> None:
        if not delimiter:
            raise ParameterError(r"the delimiter is empty; it must have at least one byte, such as \n\n\n\n")
        self.literal = delimiter
        self.newlines = 0 if delimiter.strip(b"\r\n") else delimiter.count(b"\n")
        if self.newlines:
            self.run = re.compile(rb"[\r\n]+")
            self.between_payloads = re.compile(rb"(?:\r?\n){%d,}" % self.newlines)
            self.before_picture = re.compile(rb"\n(?=" + START + rb")")
        else:
            literal = re.escape(delimiter)
            self.run = self.between_payloads = re.compile(rb"(?:" + literal + rb")+", re.DOTALL)
            self.before_picture = re.compile(literal + rb"(?=" + START + rb")", re.DOTALL)

    def is_full(self, run: bytes) -> bool:
        """Whether a run of it separates frames whatever follows."""
        return run.count(b"\n") >= self.newlines

    def begin(self, buffer: Buffer, start: int, end: int) -> int:
        """Where the run that ends at `end` begins, at `start` or after; `end` if none ends there."""
        while end > start and (unit := self._unit_before(buffer, end)):
            end -= unit
        return end

    def _unit_before(self, buffer: Buffer, end: int) -> int:
        if self.newlines:
            return int(buffer[end - 1] in b"\r\n")
        return len(self.literal) if buffer[max(0, end - len(self.literal)) : end] == self.literal else 0


def split_stream(view: View, total: int, delimiter: bytes, limits: Limits) -> Iterator[Span]:
    """Yield the frames of a stream of `total` bytes in order; `view` shows parts of it.

    Raises:
        SplitError: no frame, a frame that breaks off, or one that passes a limit; frames are
            counted from 0, and offsets are bytes from the start of the stream.
        ParameterError: the delimiter is empty.
    """
    window = _Window(view, total, Delimiter(delimiter), limits)
    index = -1
    for index, span in enumerate(window.frames()):
        _check(index, span, limits)
        yield span
    if index < 0:
        raise SplitError(f"the stream of {total:,} bytes holds no frame; check the URL")


def _check(index: int, span: Span, limits: Limits) -> None:
    where = f"frame {index} at offset {span.offset:,}"
    if index >= limits.frames:
        raise SplitError(f"{where} is one more than [limits] frames = {limits.frames:,} allows; raise it in luigi.cfg")
    if span.length > limits.frame_bytes:
        raise SplitError(_too_long(where, limits))
    if span.width is None or span.height is None:
        return
    if span.width * span.height == 0:
        raise SplitError(f"{where} has no pixels: {span.width} × {span.height}")
    if span.width * span.height > limits.frame_pixels:
        raise SplitError(
            f"{where} has {span.width} × {span.height} pixels; "
            f"[limits] frame_pixels = {limits.frame_pixels:,} allows fewer; raise it in luigi.cfg"
        )


def _too_long(where: str, limits: Limits) -> str:
    return (
        f"{where} is longer than [limits] frame_bytes = {limits.frame_bytes:,}; "
        "raise it in luigi.cfg, or check that --delimiter is the one of this stream"
    )


class _Window:
    """The part of the stream in memory, and what is known of the frames that begin in it."""

    def __init__(self, view: View, total: int, delimiter: Delimiter, limits: Limits) -> None:
        self.buffer: Buffer = b""
        self.base = 0
        self._view = view
        self._total = total
        self._delimiter = delimiter
        self._limits = limits
        self._last = False
        self._pictures: list[int] = []  # where a known picture may begin behind a delimiter
        self._count = 0

    def frames(self) -> Iterator[Span]:
        """Yield the frames in order, moving the window along the stream."""
        offset, length = 0, WINDOW
        while offset < self._total:
            self.buffer, position = self._view(offset, length)
            self.base = offset - position
            self._last = self.base + len(self.buffer) >= self._total
            self._pictures = [match.end() for match in self._delimiter.before_picture.finditer(self.buffer)]
            try:
                while position < len(self.buffer):
                    position = self._after_separator(position)
                    if position < len(self.buffer):
                        cut = self._frame(position)
                        yield self._span(cut)
                        self._count += 1
                        position = cut.end
            except _More:
                if length > self._limits.frame_bytes + 2 * WINDOW:
                    raise SplitError(_too_long(self._where(position), self._limits)) from None
            length = 2 * length if self.base + position == offset else WINDOW
            offset = self.base + position

    def _span(self, cut: _Cut) -> Span:
        with memoryview(self.buffer) as view:
            digest = hashlib.sha256(view[cut.start : cut.end]).hexdigest()
        _, width, height, opaque = cut.picture or (0, None, None, False)
        return Span(self.base + cut.start, cut.end - cut.start, cut.format, width, height, opaque, digest)

    def _frame(self, start: int) -> _Cut:
        self._see(start + LONGEST_SIGNATURE)
        name = sniff(self.buffer, start)
        if name is None:
            return _Cut(start, self._payload_end(start), "unknown", None)
        picture = self._walk(name, start)
        if picture and self._ends_at(picture.end) and not self._swallows(start, picture.end):
            return _Cut(start, picture.end, name, picture)
        end = self._before_next_picture(start)
        if picture is None or picture.end > end or self._swallows(start, picture.end):
            raise SplitError(
                f"{self._where(start)} breaks off: it begins as {name.upper()} but is not whole when the "
                f"next frame or the end follows at offset {self.base + end:,}; fetch the stream again or repair it"
            )
        return _Cut(start, end, name, picture)

    def _walk(self, name: str, start: int) -> Picture | None:
        try:
            return walk(name, self.buffer, start)
        except Malformed:
            return None
        except PastEnd as past:
            if not self._last and self.base + past.needed <= self._total:
                raise _More from None
            return None

    def _ends_at(self, position: int) -> bool:
        """Whether a frame can end here: a separator, another picture, or the end of the stream follows."""
        self._see(position + LONGEST_SIGNATURE)
        return (
            position == len(self.buffer)
            or self._after_separator(position) > position
            or sniff(self.buffer, position) is not None
        )

    def _swallows(self, start: int, end: int) -> bool:
        """Whether a picture that begins after a delimiter inside buffer[start:end] ends where it does."""
        for inner in self._pictures_after(start):
            if inner >= end:
                break
            name = sniff(self.buffer, inner)
            picture = self._walk(name, inner) if name else None
            if picture and picture.end == end:
                return True
        return False

    def _before_next_picture(self, start: int) -> int:
        """Where the frame at `start` ends if its own structure does not tell."""
        for inner in self._pictures_after(start):
            self._see(inner + LONGEST_SIGNATURE)
            if sniff(self.buffer, inner):
                return self._delimiter.begin(self.buffer, start, inner)
        self._see(len(self.buffer) + 1)
        return self._delimiter.begin(self.buffer, start, len(self.buffer))

    def _pictures_after(self, start: int) -> Iterator[int]:
        return islice(self._pictures, bisect.bisect_right(self._pictures, start), None)

    def _payload_end(self, start: int) -> int:
        match = self._delimiter.between_payloads.search(self.buffer, start)
        if match is None:
            self._see(len(self.buffer) + 1)
            return len(self.buffer)
        self._see(match.end() + 1)
        return match.start()

    def _after_separator(self, position: int) -> int:
        """The end of the separator at `position`, or `position` if none is there."""
        run = self._delimiter.run.match(self.buffer, position)
        if run is None:
            return position
        end = run.end()
        self._see(end + LONGEST_SIGNATURE)
        if end == len(self.buffer) or self._delimiter.is_full(run[0]) or sniff(self.buffer, end):
            return end
        return position

    def _see(self, end: int) -> None:
        if end > len(self.buffer) and not self._last:
            raise _More

    def _where(self, start: int) -> str:
        return f"frame {self._count} at offset {self.base + start:,}"
