"""Whether a process sees the same workspace as the driver: run on every Dask worker before it is given frames."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError


@dataclass(frozen=True, kw_only=True)
class SameWorkspace:
    """What must be seen there. Call it where it is to be checked.

    Attributes:
        data_file, size: the file that frames are read from, and its bytes; None if it was removed, since converting
            does without it.
        frames: the folder that they are written to.
        mark, content: a file in it that the driver has just written, and what it holds: another disk under the
            same path does not have it.
    """

    data_file: str
    size: int | None
    frames: str
    mark: str
    content: bytes

    def __call__(self) -> None:
        """Read and write there.

        Raises:
            StorageError, ParameterError: say what cannot be done and what to do.
        """
        storage.check(self.mark)  # is what such a store needs installed?
        found = storage.stat(self.data_file)
        if (found.size if found else None) != self.size:
            raise self._other(self.data_file)
        if storage.read_if_there(self.mark) != self.content:
            raise self._other(self.mark)
        trial = os.path.join(self.frames, f".imagetl-{uuid.uuid4().hex}.tmp")
        storage.write_bytes(trial, b"")
        storage.remove(trial)

    def _other(self, path: str) -> StorageError:
        where = "in the same store" if storage.is_remote(path) else "in the same folder"
        return StorageError(
            f"{path} is not what the driver sees there; give {socket.gethostname()} a way to find it {where}, "
            "or choose a --workspace in an object store such as s3://bucket/prefix"
        )
