"""Read many ranges of bytes from a store that is far away: many at a time, neighbours with one request.

A request to an object store takes milliseconds, whatever it brings, so ranges of one file that lie beside each
other are read together. What is read ahead is bounded in number and in bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from imagetl_luigi.settings import MiB
from imagetl_luigi.store import Piece

REQUESTS = 16
"""Requests in flight at a time. Measured: from here on the client's CPU is the limit, and not the latency."""

MOST_TOGETHER = 4 * MiB
"""Bytes of the largest request that is made of several ranges."""

MOST_AHEAD = 32 * MiB
"""Bytes that are asked for and not taken yet, but for a single piece that is larger."""

_GAP = 64 * 1024
"""Bytes between two ranges, at the most, that are rather read than left out; delimiters are shorter."""

Read = Callable[[str, int, int], bytes]


@dataclass
class _Group:
    """Pieces that one request brings."""

    path: str
    start: int
    end: int
    pieces: list[Piece] = field(default_factory=list)

    def takes(self, piece: Piece) -> bool:
        """Whether the piece is a neighbour, and there is room for it."""
        return (
            piece.path == self.path
            and self.end <= piece.offset <= self.end + _GAP
            and piece.offset + piece.length - self.start <= MOST_TOGETHER
        )

    def add(self, piece: Piece) -> None:
        """Ask for it, too."""
        self.pieces.append(piece)
        self.end = piece.offset + piece.length

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The bytes of each piece."""
        if len(self.pieces) == 1:
            yield data
            return
        for piece in self.pieces:
            start = piece.offset - self.start
            yield data[start : start + piece.length]


def _grouped(pieces: Iterable[Piece]) -> Iterator[_Group]:
    group: _Group | None = None
    for piece in pieces:
        if group is None or not group.takes(piece):
            if group is not None:
                yield group
            group = _Group(piece.path, piece.offset, piece.offset)
        group.add(piece)
    if group is not None:
        yield group


def read_ahead(pieces: Iterable[Piece], read: Read) -> Generator[bytes]:
    """The bytes of each piece, in order; those that follow are read meanwhile, in threads, until it is closed.

    Args:
        pieces: ranges that exist, or end before where the file does; taken as there is room for them.
        read: brings `length` bytes of `path` from `offset` on; it is called from several threads.
    """
    groups = _grouped(pieces)
    flying: deque[tuple[_Group, Future[bytes]]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="read-ahead")
    try:
        for group in groups:
            while flying and (len(flying) >= 2 * REQUESTS or ahead + group.end - group.start > MOST_AHEAD):
                first, future = flying.popleft()
                yield from first.cut(future.result())
                ahead -= first.end - first.start
            flying.append((group, pool.submit(read, group.path, group.start, group.end - group.start)))
            ahead += group.end - group.start
        while flying:
            first, future = flying.popleft()
            yield from first.cut(future.result())
    finally:
        # Not waited for: if nobody closes this, the garbage collector does, perhaps in the thread that the reads need
        pool.shutdown(wait=False, cancel_futures=True)


class SharedReads:
    """Ranges of bytes that several threads ask for, each once: neighbours are read together.

    Each group is read when the first of its pieces is asked for, and dropped with the last.
    """

    def __init__(self, pieces: Iterable[Piece], read: Read) -> None:
        self._read = read
        self._groups: dict[Piece, _Shared] = {}
        for group in _grouped(pieces):
            shared = _Shared(group)
            self._groups |= dict.fromkeys(group.pieces, shared)

    def __call__(self, path: str, offset: int, length: int) -> bytes:
        """The bytes of this range, one of those that were announced."""
        piece = Piece(path, offset, length)
        return self._groups[piece].take(piece, self._read)


class _Shared:
    """A group that is read once, for all of its pieces."""

    def __init__(self, group: _Group) -> None:
        self._group = group
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._left = len(group.pieces)

    def take(self, piece: Piece, read: Read) -> bytes:
        """The bytes of one piece. If reading fails, the next piece tries again."""
        group = self._group
        with self._lock:
            if self._data is None:
                self._data = read(group.path, group.start, group.end - group.start)
            start = piece.offset - group.start
            data = self._data[start : start + piece.length]
            self._left -= 1
            if self._left <= 0:
                self._data = None
        return data
