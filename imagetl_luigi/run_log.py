"""One log file a run: a new one, the removal of old ones, and what in it matters to a person."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections import deque
from datetime import UTC, datetime
from typing import Self

from imagetl_luigi.local_files import explaining

_NAME = re.compile(r"nightly-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)(?:-(\d+))?\.log")
_OWN = "nightly: "
_GRAVE = re.compile(r"(WARNING|ERROR|CRITICAL): |\S+: error: ")
"""How Luigi's messages begin that matter, and argparse's."""

_OTHER = re.compile(rf"(DEBUG|INFO): |{_OWN}")

MOST_LINES = 20
"""Lines of a log that are shown to a person."""


class RunLog:
    """The log file of one run, which it holds open and locked; a context manager.

    Attributes:
        path: the file.
        descriptor: for a child's output.
    """

    def __init__(self, folder: str) -> None:
        """Make a file of the present second. Raises StorageError."""
        self._folder = folder
        with explaining("write", folder):
            os.makedirs(folder, exist_ok=True)
            self.path, self.descriptor = _create(os.path.join(folder, f"nightly-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"))
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def note(self, text: str) -> None:
        """Append a line of our own. Raises StorageError."""
        with explaining("write", self.path):
            os.write(self.descriptor, f"{_OWN}{text}\n".encode(errors="backslashreplace"))

    def prune(self, keep: int) -> None:
        """Remove all log files of the folder but the newest, this one among them, and those of runs that go on.

        Raises StorageError.
        """
        with explaining("remove old logs in", self._folder):
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
            logs = sorted(filter(None, map(_NAME.fullmatch, names)), key=_age)
            for match in logs[: max(0, len(logs) - keep)]:
                _remove_unless_locked(os.path.join(self._folder, match[0]))

    def what_matters(self) -> list[str]:
        """The last lines of warnings and errors, each message once; where there are none, the last lines."""
        tail: deque[str] = deque(maxlen=MOST_LINES)
        messages: dict[tuple[str, ...], None] = {}
        message: list[str] | None = None
        with explaining("read", self.path), open(self.path, errors="replace") as file:
            for line in file:
                if _GRAVE.match(line):
                    _keep(messages, message)
                    message = []
                elif _OTHER.match(line):
                    _keep(messages, message)
                    message = None
                if line.strip() and not line.startswith(_OWN):
                    tail.append(line.rstrip("\n"))
                    if message is not None:
                        message.append(tail[-1])
        _keep(messages, message)
        lines = [line for message in messages for line in message]
        return lines[-MOST_LINES:] or list(tail)


def _create(stem: str) -> tuple[str, int]:
    """A new file; a second one of the same second gets a number."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    number = 1
    while True:
        path = f"{stem}.log" if number == 1 else f"{stem}-{number}.log"
        with contextlib.suppress(FileExistsError):
            return path, os.open(path, flags, 0o666)
        number += 1


def _age(match: re.Match[str]) -> tuple[str, int]:
    return match[1], int(match[2] or 1)


def _remove_unless_locked(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(descriptor)


def _keep(messages: dict[tuple[str, ...], None], message: list[str] | None) -> None:
    """Take a message as the latest, and as many as may be shown."""
    if message is not None:
        key = tuple(message[:1] + message[1:][-MOST_LINES:])
        messages.pop(key, None)
        messages[key] = None
        if len(messages) > MOST_LINES:
            del messages[next(iter(messages))]
