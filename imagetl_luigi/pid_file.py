"""A file that names the process which runs a service, and is locked by it for as long as it lives.

The lock is what counts: a file that a killed process left behind, or whose number is another process's by now,
misleads nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

SETTLED = 0.02
"""Seconds after which a process that has just got the lock has written its number."""

PATIENCE = 1.0
"""Seconds in which the lock is tried for: whoever asks for the holder has it for a moment."""


class PidFile:
    """The file at `path`; see the module."""

    def __init__(self, path: str) -> None:
        self.path = path

    def hold(self) -> bool:
        """Lock it until this process ends, and write our number into it; False if another process holds it."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + PATIENCE
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() > until:
                os.close(file)
                return False
            time.sleep(SETTLED)
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        return True

    def holder(self) -> int | None:
        """The number of the process that holds it, or None."""
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="ascii") as file:
            last = ""
            while not _locked(file.fileno(), fcntl.LOCK_SH):
                file.seek(0)
                now = file.read().strip()
                if now and now == last:
                    return int(now)
                last = now
                time.sleep(SETTLED)
        return None


def _locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
