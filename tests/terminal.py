"""A real terminal: a pseudo-terminal for a program to write to, and an emulator that knows what is on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

import pyte

ROWS, COLUMNS = 100, 250


class Terminal:
    """A pseudo-terminal, from entering its `with` block to leaving it; large, so that nothing wraps or scrolls.

    Attributes:
        file: what a program writes to.
        seen: every line that the cursor was in.
    """

    def __enter__(self) -> Self:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.file: TextIO = os.fdopen(slave, "w")
        self.seen: set[str] = set()
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        os.close(self._master)

    def lines(self) -> list[str]:
        """What stands on the screen when everybody has closed the terminal."""
        self.file.close()
        data = b""
        with contextlib.suppress(OSError):  # what Linux reads from a terminal that nobody has open
            while piece := os.read(self._master, 1 << 16):
                data += piece
        for piece in re.split(rb"(?<=[\r\n])", data):
            self._stream.feed(piece)
            self.seen.add(self._line(self._screen.cursor.y))
        return [self._line(row) for row in range(self._screen.cursor.y + 1)]

    def _line(self, row: int) -> str:
        return "".join(self._screen.buffer[row][column].data for column in range(COLUMNS)).rstrip()

    def run(self, command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> list[str]:
        """Run a command in it; what stands on the screen when it has ended."""
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=self.file, stdout=self.file):
            return self.lines()
