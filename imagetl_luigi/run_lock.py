"""A lock that one run at a time holds, and that says who does."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime

from imagetl_luigi.errors import ImagetlError
from imagetl_luigi.local_files import explaining


class AlreadyRunning(ImagetlError):
    """Another run holds the lock."""


@contextlib.contextmanager
def held(path: str, what: str) -> Iterator[int]:
    """Hold the lock on the file `path`, for `what` that is named in messages, or do not wait; yield its descriptor.

    It is an flock: the system gives it back when the last process that holds it has ended, however it did. A child
    that is given the descriptor holds it, too, until the block ends: then nobody does, whoever still has it open.

    Raises:
        AlreadyRunning: another run holds it; names that one's process and start.
        StorageError: the file cannot be written, or its file system has no locks.
    """
    with explaining("lock", path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with explaining("lock", path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise AlreadyRunning(f"{what} is in use by another run ({holder or 'which has just begun'})") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
