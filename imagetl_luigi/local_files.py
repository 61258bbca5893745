"""The verbs of `storage` on the files of this machine, in bare system calls where frames are concerned.

A file is written beside its destination, under a temporary name that says which process is
writing it, and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import re
import shutil
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from stat import S_ISREG
from typing import BinaryIO

from imagetl_luigi.errors import ImagetlError, StorageError
from imagetl_luigi.settings import MiB
from imagetl_luigi.store import Piece, Stat, View

_HOST = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:64]
_TEMPORARY = re.compile(r"\.imagetl-(\w+)-(\d+)-\d+\.tmp")
_LOCK = ".lock"
_serial = itertools.count()

_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS}
"""What a file system says that has no links, or no more of them (link(2))."""

_REMEDIES = {
    errno.ENOSPC: "free some space there and run again",
    errno.EDQUOT: "free some space there or raise the quota, and run again",
    errno.EFBIG: "the file system or the process limit (ulimit -f) allows no file of this size",
    errno.EACCES: "allow this user to use it, or choose another place",
    errno.EPERM: "allow this user to use it, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EEXIST: "a part of the path is a file; choose another path",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "it is a folder; choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def stat(path: str) -> Stat | None:
    """Size and version of the file at `path`, by one system call; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # whoever opens it will say so
        return None
    return Stat(status.st_size, str(status.st_mtime_ns)) if S_ISREG(status.st_mode) else None


def sizes(folder: str) -> dict[str, int]:
    """Name and bytes of every file in `folder`, by one listing; empty where there is no folder."""
    with explaining("list", folder):
        try:
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}


def folders(folder: str) -> set[str]:
    """Names of the folders in `folder`, by one listing; empty where there is none."""
    with explaining("list", folder):
        try:
            with os.scandir(folder) as entries:
                return {entry.name for entry in entries if entry.is_dir()}
        except FileNotFoundError:
            return set()


@contextlib.contextmanager
def viewing(path: str) -> Iterator[View]:
    """Map what is looked at into memory: nothing is copied, which makes this twice as fast as reading."""
    with explaining("read", path), open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_POPULATE", 0)  # one call instead of a fault a page

        def view(offset: int, length: int) -> tuple[mmap.mmap, int]:
            begin = offset - offset % mmap.ALLOCATIONGRANULARITY  # a mapping begins at a page
            end = min(offset + length, size)
            with explaining("read", path):
                shown = mmap.mmap(file.fileno(), end - begin, flags=flags, prot=mmap.PROT_READ, offset=begin)
            return shown, offset - begin

        yield view


def open_read(path: str) -> BinaryIO:
    """The file at `path`, for reading from start to end. Raises StorageError."""
    with explaining("read", path):
        return open(path, "rb", buffering=MiB)


def read_range(path: str, offset: int, length: int) -> bytes:
    """`length` bytes of the file from `offset` on; fewer where the file ends before. Raises StorageError."""
    with explaining("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, length, offset)
            while len(data) < length:  # pread stops at 2 GiB, or at a signal
                more = os.pread(descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data
        finally:
            os.close(descriptor)


def read_bytes(path: str) -> bytes:
    """The whole file. Raises StorageError."""
    with explaining("read", path), open(path, "rb", buffering=0) as file:
        return file.read()


def read_ahead(pieces: Iterable[Piece]) -> Generator[bytes]:
    """The bytes of the pieces in order; the system reads ahead by itself."""
    return (read_range(*piece) for piece in pieces)


def write_bytes(path: str, data: bytes) -> None:
    """Write a small file whole or not at all, without waiting for the disk.

    For what can be made again, such as frames: bare system calls, a third of the cost of
    `atomic_write`. Makes missing folders. Raises StorageError.
    """
    temporary = _temporary_beside(path)
    with explaining("write", path):
        descriptor = _create(temporary)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            remove(temporary)
            raise


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """A file to write to, which appears at `path` when the block ends well and never otherwise.

    Synced to the disk before it appears, so that it survives a power cut. Makes missing folders.

    Raises:
        StorageError: no space, no permission and the like.
    """
    sweep(os.path.dirname(path))
    temporary = _temporary_beside(path)
    with explaining("write", path):
        try:
            with open(_create(temporary), "wb", buffering=1 << 18) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            publish(temporary, path)
        except BaseException:
            remove(temporary)
            raise


def publish(temporary: str, path: str) -> None:
    """Give a file that is whole and synced its final name, and sync that too."""
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy(source: str, path: str) -> None:
    """Give the file a second name (link(2)); none of ours is ever changed in place. Copied where there are no links."""
    temporary = _temporary_beside(path)
    with explaining("copy", f"{source} to {path}"):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        try:
            os.link(os.path.realpath(source), temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with open_read(source) as original, atomic_write(path) as file:
                shutil.copyfileobj(original, file, MiB)
            return
        try:
            publish(temporary, path)
        finally:
            remove(temporary)  # is left by rename(2) where both are the same file already


def remove(path: str) -> None:
    """Remove the file at `path`; nothing happens where there is none."""
    with explaining("remove", path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def remove_all(paths: Iterable[str]) -> None:
    """Remove these files, as far as they are there."""
    for path in paths:
        remove(path)


def remove_folder(folder: str) -> None:
    """Remove the folder if nothing is in it but the file that `locked` makes, which the caller then holds."""
    with explaining("remove", folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if set(os.listdir(folder)) <= {_LOCK}:
            remove(os.path.join(folder, _LOCK))
            os.rmdir(folder)


@contextlib.contextmanager
def locked(folder: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder alone among all processes; call `waiting` if another one holds it. Makes the folder."""
    path = os.path.join(folder, _LOCK)
    with explaining("lock", path):
        while True:
            os.makedirs(folder, exist_ok=True)
            with open(path, "ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    waiting()
                    fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_nlink:  # or who held it has removed the folder
                    yield
                    return


def sweep(folder: str) -> None:
    """Remove the temporary files that processes of this host left in `folder` when they were killed."""
    for name in leftovers(folder):
        remove(os.path.join(folder, name))


def leftovers(folder: str) -> list[str]:
    """Names of the files that `sweep` would remove."""
    try:
        matches = list(filter(None, map(_TEMPORARY.fullmatch, os.listdir(folder or "."))))
    except OSError:  # whoever writes there will say so
        return []
    return [match[0] for match in matches if match[1] == _HOST and not _alive(int(match[2]))]


@contextlib.contextmanager
def explaining(verb: str, path: str) -> Iterator[None]:
    """Turn the system's error about `path` into one that says what to do; other errors pass."""
    try:
        yield
    except ImagetlError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        remedy = _REMEDIES.get(error.errno)
        raise StorageError(
            f"cannot {verb} {path}: {os.strerror(error.errno)}" + (f"; {remedy}" if remedy else "")
        ) from error


def _temporary_beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".imagetl-{_HOST}-{os.getpid()}-{next(_serial)}.tmp")


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        return os.open(path, flags, 0o666)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
