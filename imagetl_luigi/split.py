"""Find the frames of a stream: by the formats' own structure, checked against the delimiter.

A delimiter alone cannot do it: four newlines stand in the quantisation table of every JPEG of
quality 95. A format's structure alone cannot do it either: a truncated GIF goes on, block by
block, into its neighbour. So a picture's own end counts unless a part of the delimiter lies before
it, or another whole picture lies between delimiters inside it or across it. Bytes behind a whole
picture stay with its frame, up to the next delimiter that a known signature follows. Payloads of
unknown format end at the next delimiter.

The stream is read once, through a window, so memory does not depend on its length.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from imagetl_luigi.errors import ParameterError, SplitError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.formats import LONGEST_SIGNATURE, START, Buffer, Malformed, PastEnd, Picture, sniff, walk
from imagetl_luigi.settings import Limits, MiB
from imagetl_luigi.store import View

WINDOW = 2 * MiB
"""Bytes looked at together. A frame that is larger makes the window grow."""

NEIGHBOURS = 64
"""Pictures inside a picture that are looked at, from its end on: of those swallowed, the last is enough."""


class Span(NamedTuple):
    """Where a frame lies in the stream, and what it is. Sizes are those as it is shown, and None for an unknown format.

    The orientation is how it is stored (`exif`).
    """

    offset: int
    length: int
    format: str
    width: int | None
    height: int | None
    opaque: bool
    sha256: str
    orientation: int = UPRIGHT


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

    A delimiter of newlines stands for any of its variants: `\r\n`, more newlines, and, between a
    known picture and the next or the end, fewer. Any other delimiter stands for itself, once or more.

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
            self.between_payloads = re.compile(rb"\n(?:\r?\n){%d}" % (self.newlines - 1))
            self.before_picture = re.compile(rb"\n(?=" + START + rb")")
        else:
            literal = re.escape(delimiter)
            self.run = re.compile(rb"(?:" + literal + rb")++")  # remembers nothing, so a long run costs no memory
            self.between_payloads = re.compile(literal)
            self.before_picture = re.compile(literal + rb"(?=" + START + rb")")

    def is_full(self, run: bytes) -> bool:
        """Whether a run of it separates frames whatever follows."""
        return run.count(b"\n") >= self.newlines

    def lies_across(self, buffer: Buffer, start: int, end: int) -> bool:
        """Whether the first bytes of it are the last of buffer[start:end], and there is none whole behind them."""
        run = self.run.match(buffer, end)
        if run and self.is_full(run[0]):
            return False
        if self.newlines:
            around = buffer[self.begin(buffer, start, end) : run.end() if run else end]
            return around.count(b"\n") == self.newlines
        return self.literal in buffer[max(start, end - len(self.literal)) : end + len(self.literal) - 1]

    def begin(self, buffer: Buffer, start: int, end: int) -> int:
        """Where the run that ends at `end` begins, at `start` or after; `end` if none ends there."""
        step = 4096 if self.newlines else len(self.literal)
        while True:
            piece = buffer[max(start, end - step) : end]
            rest = piece.rstrip(b"\r\n") if self.newlines else piece.removesuffix(self.literal)
            if rest == piece:
                return end
            end -= len(piece) - len(rest)


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
        raise SplitError(f"the stream of {total:,} bytes holds no frame; check the URL, and remove the data file")


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
        self._lookahead = max(LONGEST_SIGNATURE, 2 * len(delimiter.literal))
        self._last = False
        self._pictures: list[int] = []  # where a known picture may begin behind a delimiter
        self._count = 0

    def frames(self) -> Iterator[Span]:
        """Yield the frames in order, moving the window along the stream."""
        offset, length, between = 0, WINDOW, False
        longest = self._limits.frame_bytes + 2 * WINDOW
        while offset < self._total:
            self.buffer, position = self._view(offset, length)
            self.base = offset - position
            self._last = self.base + len(self.buffer) >= self._total
            self._pictures = [match.end() for match in self._delimiter.before_picture.finditer(self.buffer)]
            try:
                while position < len(self.buffer):
                    end = self._after_separator(position, between)
                    between = between or end > position
                    position = end
                    if position < len(self.buffer):
                        cut = self._frame(position)
                        yield self._span(cut)
                        self._count += 1
                        position, between = cut.end, False
            except _More:
                if self.base + position == offset and length >= longest:
                    raise SplitError(_too_long(self._where(position), self._limits)) from None
            length = min(2 * length, longest) if self.base + position == offset else WINDOW
            offset = self.base + position

    def _span(self, cut: _Cut) -> Span:
        with memoryview(self.buffer) as view:
            digest = hashlib.sha256(view[cut.start : cut.end]).hexdigest()
        _, width, height, opaque, orientation = cut.picture or (0, None, None, False, UPRIGHT)
        return Span(self.base + cut.start, cut.end - cut.start, cut.format, width, height, opaque, digest, orientation)

    def _frame(self, start: int) -> _Cut:
        self._see(start + LONGEST_SIGNATURE)
        name = sniff(self.buffer, start)
        if name is None:
            return _Cut(start, self._payload_end(start), "unknown", None)
        picture = self._walk(name, start)
        if picture is None or self._takes_delimiter(start, picture.end) or self._swallows(start, picture.end):
            raise SplitError(
                f"{self._where(start)} breaks off: it begins as {name.upper()} but is not whole when the next frame or "
                f"the end follows at offset {self.base + self._before_next_picture(start):,}; "
                "remove the data file, so that it is fetched again, or repair it"
            )
        end = picture.end if self._ends_at(picture.end) else self._before_next_picture(picture.end)
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
        self._see(position + self._lookahead)
        return (
            position == len(self.buffer)
            or self._after_separator(position) > position
            or sniff(self.buffer, position) is not None
        )

    def _takes_delimiter(self, start: int, end: int) -> bool:
        """Whether a picture that lacks its last bytes takes those of a delimiter instead."""
        self._see(end + self._lookahead)
        return self._delimiter.lies_across(self.buffer, start, end)

    def _swallows(self, start: int, end: int) -> bool:
        """Whether another frame lies in buffer[start:end]: a whole picture between delimiters, or across its end."""
        inside = self._pictures[bisect.bisect_right(self._pictures, start) : bisect.bisect_left(self._pictures, end)]
        known = ((name, inner) for inner in reversed(inside) if (name := sniff(self.buffer, inner)))
        pictures = (self._walk(name, inner) for name, inner in islice(known, NEIGHBOURS))
        return any(picture and (picture.end >= end or self._ends_at(picture.end)) for picture in pictures)

    def _before_next_picture(self, start: int) -> int:
        """Where the frame at `start` ends if its own structure does not tell."""
        for index in range(bisect.bisect_right(self._pictures, start), len(self._pictures)):
            inner = self._pictures[index]
            self._see(inner + LONGEST_SIGNATURE)
            if sniff(self.buffer, inner):
                return self._delimiter.begin(self.buffer, start, inner)
        self._see(len(self.buffer) + 1)
        return self._delimiter.begin(self.buffer, start, len(self.buffer))

    def _payload_end(self, start: int) -> int:
        match = self._delimiter.between_payloads.search(self.buffer, start)
        if match is None:
            self._see(len(self.buffer) + 1)
            return len(self.buffer)
        return self._delimiter.begin(self.buffer, start, match.start())

    def _after_separator(self, position: int, between: bool = False) -> int:
        """The end of the separator at `position`, or `position` if none is there.

        The end in this window: it may go on in the next, `between` what it has separated already.
        """
        run = self._delimiter.run.match(self.buffer, position)
        if run is None:
            return position
        end = run.end()
        if between or self._delimiter.is_full(run[0]):
            return end
        self._see(end + LONGEST_SIGNATURE)
        return end if end == len(self.buffer) or sniff(self.buffer, end) else position

    def _see(self, end: int) -> None:
        if end > len(self.buffer) and not self._last:
            raise _More

    def _where(self, start: int) -> str:
        return f"frame {self._count} at offset {self.base + start:,}"
