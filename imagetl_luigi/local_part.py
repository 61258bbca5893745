"""The file of this machine in which the bytes of a download arrive; see `part`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import IO

from imagetl_luigi import local_files, storage
from imagetl_luigi.errors import DownloadError
from imagetl_luigi.settings import MiB


class LocalPart:
    """Bytes in the file `path`, which is open and locked, and becomes `data_file`."""

    def __init__(self, path: str, data_file: str, file: IO[bytes]) -> None:
        self._path = path
        self._data_file = data_file
        self._file = file

    def pieces(self, batch: str | None) -> Iterator[bytes]:
        """What the file holds, of which there is one batch; what is written goes behind it."""
        while data := self._file.read(MiB):
            yield data

    def write(self, data: memoryview) -> int:
        """Append what fits."""
        return self._file.write(data)

    def clear(self, batch: str) -> None:
        """Drop all."""
        self._file.seek(0)
        self._file.truncate()

    def keep(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        """Remove the file."""
        storage.remove(self._path)

    def seal(self) -> str:
        """Sync the file. It keeps its fingerprint when it is renamed."""
        os.fsync(self._file.fileno())
        return str(storage.fingerprint(self._path))

    def sealed(self, fingerprint: str) -> bool:
        """Whether it is still the file that was sealed."""
        return fingerprint == storage.fingerprint(self._path)

    def publish(self) -> None:
        """Rename it."""
        local_files.publish(self._path, self._data_file)


@contextlib.contextmanager
def opened(path: str, data_file: str) -> Iterator[LocalPart]:
    """The file at `path`, held by this process alone, for the bytes of `data_file`.

    Raises:
        DownloadError: another process is writing to it.
    """
    with local_files.explaining("write", data_file):
        if os.path.isdir(data_file):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0) as file:
            if not _lock(file, path):
                raise DownloadError(f"{path} is being written by another process; wait until it has ended")
            yield LocalPart(path, data_file, file)


def _lock(file: IO[bytes], path: str) -> bool:
    """Lock the file, unless another process has; between open and lock it may have published it, too."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
