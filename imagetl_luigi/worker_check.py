"""Whether a process sees the same workspace as the driver: run on every Dask worker before it is given frames."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from dataclasses import dataclass
from typing import Self

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError
from imagetl_luigi.workspace import Workspace

_LOOK = 64 * 1024
"""Bytes that are compared at either end of the data file: other frames of the same sizes are seen there."""

MARK = ".mark"
"""Name of the file that `of_folder` leaves, for who has asked to remove it when the workers are done."""


@dataclass(frozen=True, kw_only=True)
class SameWorkspace:
    """What must be seen there. Make it by `seen_here`, and call it where it is to be checked.

    Attributes:
        data_file: the file that frames are read from.
        ends: digest of its size and both its ends; None if it was removed, since converting does without it.
        frames: the folder that they are written to.
        mark: a file in it that the driver has just written; another disk under the same path does not have it.
        content: what the mark holds.
        option: the one that names the place, for messages.
    """

    data_file: str
    ends: str | None
    frames: str
    mark: str
    content: bytes
    option: str = "--workspace"

    @classmethod
    def seen_here(cls, paths: Workspace, content: bytes) -> Self:
        """What this process sees, where the mark holds `content`. Raises StorageError."""
        return cls(
            data_file=paths.data_file,
            ends=_ends(paths.data_file),
            frames=paths.frames,
            mark=paths.mark,
            content=content,
        )

    @classmethod
    def of_folder(cls, folder: str, read: str, option: str) -> Self:
        """The same for who reads files like `read`, and writes into `folder`, where this leaves a mark.

        Raises StorageError.
        """
        mark, content = os.path.join(folder, MARK), uuid.uuid4().hex.encode()
        storage.write_bytes(mark, content)
        return cls(data_file=read, ends=_ends(read), frames=folder, mark=mark, content=content, option=option)

    def __call__(self) -> None:
        """Read and write there.

        Raises:
            StorageError, ParameterError: say what cannot be done and what to do.
        """
        storage.check(self.mark)  # is what such a store needs installed?
        if _ends(self.data_file) != self.ends:
            raise self._other(self.data_file)
        if storage.read_if_there(self.mark) != self.content:
            raise self._other(self.mark)
        trial = os.path.join(self.frames, f".imagetl-{uuid.uuid4().hex}.tmp")
        storage.write_bytes(trial, b"")
        storage.remove(trial)

    def _other(self, path: str) -> StorageError:
        alone = storage.is_remote(self.mark) and not storage.is_remote(path)
        option = "--data-file" if alone else self.option
        where = "in the same store" if storage.is_remote(path) else "in the same folder"
        return StorageError(
            f"{path} is not what the driver sees there; give {socket.gethostname()} a way to find it {where}, "
            f"or choose a {option} in an object store such as s3://bucket/prefix"
        )


def _ends(path: str) -> str | None:
    found = storage.stat(path)
    if found is None:
        return None
    digest = hashlib.sha256(str(found.size).encode())
    for offset in (0, max(0, found.size - _LOOK)):
        digest.update(storage.read_range(path, offset, _LOOK))
    return digest.hexdigest()
