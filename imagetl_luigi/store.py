"""What a store of files can do: the verbs that `storage` speaks and each kind of store understands.

`local_files` is the files of this machine, `object_store` whatever fsspec knows by a URL.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

AZURE = {"az", "abfs", "abfss"}
"""Schemes in whose URLs the name before the @ is no user's, but a container's."""

View = Callable[[int, int], tuple[bytes | mmap.mmap, int]]
"""Shows `length` bytes of a file from `offset` on, fewer at its end: a buffer that holds them, and the position in
it at which they begin. Offsets never go back."""


class Stat(NamedTuple):
    """Bytes of a file, and a text that is another one when the file is."""

    size: int
    version: str


class Piece(NamedTuple):
    """A range of bytes of a file; where the file ends before, it is shorter."""

    path: str
    offset: int
    length: int


class Store(Protocol):
    """The verbs; `storage` says what each promises. The modules `local_files` and `object_store` have them all."""

    def stat(self, path: str) -> Stat | None: ...
    def sizes(self, folder: str) -> dict[str, int]: ...
    def folders(self, folder: str) -> set[str]: ...
    def viewing(self, path: str) -> AbstractContextManager[View]: ...
    def open_read(self, path: str) -> BinaryIO: ...
    def read_range(self, path: str, offset: int, length: int) -> bytes: ...
    def read_bytes(self, path: str) -> bytes: ...
    def read_ahead(self, pieces: Iterable[Piece]) -> Generator[bytes]: ...
    def write_bytes(self, path: str, data: bytes) -> None: ...
    def atomic_write(self, path: str) -> AbstractContextManager[BinaryIO]: ...
    def copy(self, source: str, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def remove_all(self, paths: Iterable[str]) -> None: ...
    def locked(self, folder: str, waiting: Callable[[], None]) -> AbstractContextManager[None]: ...
    def sweep(self, folder: str) -> None: ...
