"""The verbs of `storage` on whatever fsspec knows by a URL: s3://, gs://, memory:// and others.

An object appears when its upload is completed, so nothing of it is seen before. Where fsspec's file system is
none of objects, as FTP, a temporary name and a rename do the same.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import io
import itertools
import os
import shutil
import stat as modes
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, cast

from imagetl_luigi import local_files, prefetch, remote
from imagetl_luigi.content_type import typed
from imagetl_luigi.errors import StorageError
from imagetl_luigi.remote import OBJECT_STORES, S3, may_pass, patiently, place, scheme_of, within
from imagetl_luigi.settings import MiB
from imagetl_luigi.store import Piece, Stat, View
from imagetl_luigi.upload import Upload, in_parts, renamed, spooled, streamed

BLOCK = 4 * MiB
"""Bytes of a request where a file is read from start to end."""

USUAL = 16 * MiB
"""Bytes for whose transfer a request is given time where nobody knows how many there are."""

explaining = remote.explaining


def stat(path: str) -> Stat | None:
    """Size and version, by one request; where there is none, S3 is asked once more whether it is a folder."""
    with explaining("read", path):
        try:
            found = patiently(path, lambda fs, key: _info(fs, key))
        except FileNotFoundError:
            return None
        return Stat(int(found["size"]), _version(found)) if found["type"] == "file" else None


def sizes(folder: str) -> dict[str, int]:
    """One listing, in as many requests as the store has pages."""
    return {name: int(entry["size"]) for name, entry in _listed(folder, "file")}


def folders(folder: str) -> set[str]:
    """One listing; of what lies in them, nothing is listed."""
    return {name for name, _ in _listed(folder, "directory")}


def _listed(folder: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and entry of what is of this type."""

    def entries(fs: Any, key: str) -> list[dict[str, Any]]:
        fs.invalidate_cache()
        listed: list[dict[str, Any]] = fs.ls(key, detail=True)
        return listed

    with explaining("list", folder):
        try:
            listed = patiently(folder, entries)
        except FileNotFoundError:
            return []
        itself = place(folder)[1].strip("/")  # some list a file as a folder of itself, or keep a mark of the folder
        named = [(entry["name"].strip("/"), entry) for entry in listed if entry["type"] == kind]
        return [(name.rpartition("/")[2], entry) for name, entry in named if name != itself]


@contextlib.contextmanager
def viewing(path: str) -> Iterator[View]:
    """What is looked at, and what was fetched ahead of it, is in memory."""
    with contextlib.closing(_Ahead(path)) as ahead:
        shown, base = b"", 0

        def view(offset: int, length: int) -> tuple[bytes, int]:
            """What is new is read, what lies before `offset` dropped."""
            nonlocal shown, base
            end = base + len(shown)
            start = min(offset, end)
            pieces = [shown[start - base :]]
            while end < offset + length and (piece := ahead.next()):
                pieces.append(piece)
                end += len(piece)
            shown, base = b"".join(pieces)[offset - start :], offset
            return shown[:length], 0

        yield view


def open_read(path: str) -> BinaryIO:
    """A buffered reader that fetches ahead."""
    return io.BufferedReader(_Ahead(path), MiB)


def read_range(path: str, offset: int, length: int) -> bytes:
    """One request. None for no bytes: the HTTP of the stores has no way to ask for them."""
    return _read(path, offset, offset + length, length) if length else b""


def read_bytes(path: str) -> bytes:
    """One request."""
    return _read(path, 0, None, USUAL)


def read_ahead(pieces: Iterable[Piece]) -> Generator[bytes]:
    """Many at a time, neighbours with one request, in bounded memory."""
    return prefetch.read_ahead(pieces, read_range)


def write_bytes(path: str, data: bytes) -> None:
    """One request to an object store."""
    with explaining("write", path):
        patiently(path, lambda fs, key: _pipe(fs, key, path, data))


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Uploads in parts while it is written; the parts become an object at the end."""
    writing = in_parts if scheme_of(path) in S3 else streamed if scheme_of(path) in OBJECT_STORES else spooled
    with contextlib.ExitStack() as stack:
        with explaining("write", path):
            file = stack.enter_context(writing(path))
        yield cast(BinaryIO, _Explaining(path, file))
        with explaining("write", path):
            stack.close()


def copy(source: str, path: str) -> None:
    """By the store itself, if it is one of objects, where the copy appears whole; else through this machine."""
    if scheme_of(path) in OBJECT_STORES:
        with explaining("write", path):
            found = stat(source)
            size = found.size if found else 0
            # stores keep the Content-Type of what they copy, but for S3 in parts, as s3fs has it do above 5 GB
            patiently(path, lambda fs, key: fs.cp_file(place(source)[1], key, **typed(path), **within(fs, size)))
        return
    with contextlib.closing(open_read(source)) as original, atomic_write(path) as file:
        shutil.copyfileobj(original, file, MiB)


def remove(path: str) -> None:
    """Nothing happens where there is none, which each kind of store says with an error of its own, or not at all."""
    with explaining("remove", path):
        try:
            patiently(path, lambda fs, key: fs.rm_file(key, **within(fs)))
        except Exception as error:
            if may_pass(error) or stat(path) is not None:
                raise


def remove_all(paths: Iterable[str]) -> None:
    """A request for each thousand, where the store can do that.

    fsspec does not say which it could not remove, and stops at the first that is not there. So what is left then
    is removed one by one.
    """
    for folder, group in itertools.groupby(paths, lambda path: path.rpartition("/")[0]):
        names = {path.rpartition("/")[2] for path in group}
        keys = [key for name in names if not glob.has_magic(key := place(f"{folder}/{name}")[1])]
        with explaining("remove", folder):
            try:
                patiently(folder, partial(_remove_keys, keys))
            except Exception as error:
                if may_pass(error):
                    raise
        for name in names & sizes(folder).keys():
            remove(f"{folder}/{name}")


def remove_folder(folder: str) -> None:
    """Where the store has folders; in one of objects they are but a part of names."""
    if scheme_of(folder) not in OBJECT_STORES and not sizes(folder) and not folders(folder):
        with explaining("remove", folder):
            patiently(folder, lambda fs, key: fs.isdir(key) and fs.rmdir(key))


@contextlib.contextmanager
def locked(folder: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Only among the processes of this user on this machine: no store has locks that outlive no crash."""
    name = hashlib.sha256(folder.encode()).hexdigest()[:32]
    ours = os.path.join(tempfile.gettempdir(), f"imagetl_luigi-{os.getuid()}")
    with local_files.explaining("lock", ours):
        os.makedirs(ours, mode=0o700, exist_ok=True)
        status = os.lstat(ours)
        if not modes.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise StorageError(f"cannot lock {folder}: {ours} belongs to somebody else; remove it or set TMPDIR")
    with local_files.locked(os.path.join(ours, name), waiting):
        yield


def sweep(folder: str) -> None:
    """Nothing: uploads that were broken off are not seen, and are for the store's own rules to remove."""


def leftovers(folder: str) -> list[str]:
    """None; see `sweep`."""
    return []


def merge(path: str, parts: list[str]) -> None:
    """Join objects into one, in the store itself where it can, else through this machine, one part at a time.

    Args:
        parts: in order; but for the last, of 5 MiB or more (Amazon S3, limits of multipart uploads).
    """
    if scheme_of(path) in S3 and len(parts) > 1:
        with explaining("write", path), Upload(path) as upload, ThreadPoolExecutor(prefetch.REQUESTS) as pool:
            list(pool.map(upload.copy, itertools.count(1), parts))
        return
    with atomic_write(path) as file:
        for data in map(read_bytes, parts):
            file.write(data)


class _Explaining:
    """A file to write to, whose errors say what to do; those of who writes to it are not the store's."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes) -> int:
        """Write all of it."""
        with explaining("write", self._path):
            return self._file.write(data)


class _Ahead(io.RawIOBase):
    """An object from start to end, fetched ahead."""

    def __init__(self, path: str) -> None:
        found = stat(path)
        if found is None:
            raise StorageError(f"cannot read {path}: {os.strerror(errno.ENOENT)}")
        self._path = path
        self._left = found.size
        self._pieces = read_ahead(
            Piece(path, start, min(BLOCK, found.size - start)) for start in range(0, found.size, BLOCK)
        )
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def next(self) -> bytes:
        """The next bytes, as they come; none at the end."""
        expected = min(BLOCK, self._left)
        data = next(self._pieces, b"")
        if len(data) < expected:
            raise StorageError(f"{self._path} was replaced by a shorter file while it was read; run again")
        self._left -= expected
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill some of the buffer; say how many bytes."""
        if not self._rest:
            self._rest = memoryview(self.next())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._pieces.close()
        super().close()


def _read(path: str, start: int, end: int | None, expected: int) -> bytes:
    def ask(fs: Any, key: str) -> bytes:
        data: bytes = fs.cat_file(key, start=start, end=end, **within(fs, expected))
        return data

    with explaining("read", path):
        try:
            return patiently(path, ask)
        except Exception as error:
            if may_pass(error) or isinstance(error, FileNotFoundError):
                raise
            found = stat(path)
            if found is None or found.size > start:
                raise
            return b""  # where the file ends before, stores answer with errors of their own


def _info(fs: Any, key: str) -> dict[str, Any]:
    fs.invalidate_cache()
    found: dict[str, Any] = fs.info(key, **within(fs))
    return found


def _version(info: dict[str, Any]) -> str:
    """The store's own name for this version of an object, or when it was made."""
    names = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "modify", "modified", "created")
    return str(next((info[name] for name in names if info.get(name)), "")).strip('"')


def _remove_keys(keys: list[str], fs: Any, _: str) -> None:
    fs.rm(keys)


def _pipe(fs: Any, key: str, path: str, data: bytes) -> None:
    if scheme_of(path) in OBJECT_STORES:
        fs.pipe_file(key, data, **typed(path), **within(fs, len(data)))
        return
    with renamed(fs, key) as temporary:
        fs.pipe_file(temporary, data)
