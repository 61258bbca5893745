"""Files behind a few verbs: on this machine, or on any file system that fsspec knows by a URL.

A path with `://` in it, such as `s3://bucket/prefix/clip.gif`, is of an object store; any other is a local one.
A file appears under its name only when all of its bytes are there, and a second writer of the same bytes does no
harm. All verbs raise StorageError where the store refuses or cannot be reached; the message says what to do.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO

from imagetl_luigi import local_files
from imagetl_luigi.errors import StorageError
from imagetl_luigi.store import Piece, Stat, Store, View

__all__ = ["Piece", "Stat", "View"]


def is_remote(path: str) -> bool:
    """Whether `path` is the URL of an object store."""
    return "://" in path


def check(path: str) -> None:
    """Refuse a URL that no store can be behind, without a request.

    Raises:
        ParameterError: an unknown scheme, or one that needs a package which is not installed.
    """
    if is_remote(path):
        from imagetl_luigi import remote

        remote.check(path)


def stat(path: str) -> Stat | None:
    """Size and version of the file at `path`, by one request; None where there is none."""
    return _store(path).stat(path)


def exists(path: str) -> bool:
    """Whether there is a file at `path`."""
    return stat(path) is not None


def size(path: str) -> int:
    """Bytes of the file at `path`."""
    found = stat(path)
    if found is None:
        raise StorageError(f"cannot read {path}: {os.strerror(errno.ENOENT)}")
    return found.size


def fingerprint(path: str) -> str | None:
    """A short text that changes when the file does, or None where there is no file."""
    found = stat(path)
    return f"{found.size}-{found.version}" if found else None


def sizes(folder: str) -> dict[str, int]:
    """Name and bytes of every file in `folder`, by one listing; empty where there is no folder."""
    return _store(folder).sizes(folder)


def folders(folder: str) -> set[str]:
    """Names of the folders in `folder`, by one listing; empty where there is none."""
    return _store(folder).folders(folder)


def viewing(path: str) -> AbstractContextManager[View]:
    """Look at one part of the file after the other, from its start to its end."""
    return _store(path).viewing(path)


def open_read(path: str) -> BinaryIO:
    """The file at `path`, for reading from start to end."""
    return _store(path).open_read(path)


def read_range(path: str, offset: int, length: int) -> bytes:
    """`length` bytes of the file from `offset` on; fewer where the file ends before."""
    return _store(path).read_range(path, offset, length)


def read_ahead(pieces: Iterable[Piece]) -> Generator[bytes]:
    """The bytes of each piece, in order. From an object store those that come next are fetched meanwhile, many
    at a time and neighbours together, within a bound of memory. Close it if you do not take all.
    """
    for remote, group in itertools.groupby(pieces, lambda piece: is_remote(piece.path)):
        yield from _store("://" if remote else "").read_ahead(group)


def read_bytes(path: str) -> bytes:
    """The whole file."""
    return _store(path).read_bytes(path)


def read_if_there(path: str) -> bytes | None:
    """The whole file, or None where there is none; a store that cannot be reached is an error."""
    try:
        return read_bytes(path)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Write a small file whole or not at all; on this machine without waiting for the disk.

    For what can be made again, such as frames: it costs a third of `atomic_write`. Makes missing folders.
    """
    _store(path).write_bytes(path, data)


def atomic_write(path: str) -> AbstractContextManager[BinaryIO]:
    """A file to write to, which appears at `path` when the block ends well and never otherwise.

    It is synced to the disk, or taken by the store, before it appears. Makes missing folders.
    """
    return _store(path).atomic_write(path)


def copy(source: str, path: str) -> None:
    """Have the file at `source` at `path` as well, whole or not at all; both are in the same store.

    Where it can be, no byte is read: on this machine both are names of one file, and a store copies by itself.
    Makes missing folders.
    """
    _store(path).copy(source, path)


def remove(path: str) -> None:
    """Remove the file at `path`; nothing happens where there is none."""
    _store(path).remove(path)


def remove_all(paths: Iterable[str]) -> None:
    """Remove files of one folder, as far as they are there."""
    listed = list(paths)
    if listed:
        _store(listed[0]).remove_all(listed)


def remove_folder(folder: str) -> None:
    """Remove the folder if no file is in it but that of the lock, which the caller then holds."""
    _store(folder).remove_folder(folder)


def locked(folder: str, waiting: Callable[[], None]) -> AbstractContextManager[None]:
    """Hold the folder alone among the processes of this machine; call `waiting` if another one holds it."""
    return _store(folder).locked(folder, waiting)


def sweep(folder: str) -> None:
    """Remove what processes of this machine left in `folder` when they were killed."""
    _store(folder).sweep(folder)


def leftovers(folder: str) -> list[str]:
    """Names of the files in `folder` that `sweep` would remove."""
    return _store(folder).leftovers(folder)


class Comparison:
    """Takes what is written and compares it with what `file` holds. Nothing is kept.

    Attributes:
        equal: whether all of it was the same so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.equal = True
        self._file = file

    def write(self, data: bytes) -> int:
        """Compare the next bytes."""
        self.equal = self.equal and self._file.read(len(data)) == data
        return len(data)

    def at_end(self) -> bool:
        """Whether the file holds no more."""
        return not self._file.read(1)


def _store(path: str) -> Store:
    if "://" not in path:
        return local_files
    from imagetl_luigi import object_store  # fsspec takes a while to import

    return object_store
