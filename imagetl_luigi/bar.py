"""A bar at the terminal, which log lines do not garble. It is imported when one is to be shown."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """tqdm's, without its thread, which would outlive the bar, and with a lock that Ctrl-C does not leave locked."""

    monitor_interval = 0

    def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
        """Draw it anew."""
        with contextlib.nullcontext() if nolock else self.get_lock():  # type: ignore[no-untyped-call]
            super().refresh(nolock=True)

    def show(self, done: int, total: int | None) -> None:
        """Set how much is done."""
        self.total = total
        self.update(done - self.n)


class _Above:
    """Standard error while there is a bar: whole lines are written above it, whoever writes them."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._begun = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)

    def write(self, text: str) -> int:
        """Write the lines that are whole by now."""
        lines, end, self._begun = (self._begun + text).rpartition("\n")
        if end:
            Bar.write(lines, file=self._terminal)
        return len(text)

    def close(self) -> None:
        """Write what there is of a line."""
        self._terminal.write(self._begun)


@contextlib.contextmanager
def shown(name: str, noun: str, done: int, total: int | None) -> Iterator[Bar]:
    """A bar on standard error, gone when the block ends; until then, log lines are written above it."""
    in_bytes = noun == "bytes"
    terminal = sys.stderr
    with (
        _logs_above(),
        contextlib.closing(_Above(terminal)) as above,
        contextlib.redirect_stderr(cast(TextIO, above)),
        Bar(
            desc=name,
            initial=done,
            total=total,
            unit="B" if in_bytes else f" {noun}",
            unit_scale=in_bytes,
            unit_divisor=1024,
            file=terminal,
            leave=False,
            dynamic_ncols=True,
        ) as bar,
    ):
        yield bar


@contextlib.contextmanager
def _logs_above() -> Iterator[None]:
    """Let every logger write above the bar that writes to the terminal, at the level at which it does so."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    levels = {
        logger: min(handler.level for handler in logger.handlers if _is_console(handler))
        for logger in known
        if isinstance(logger, logging.Logger) and any(map(_is_console, logger.handlers))
    }
    with logging_redirect_tqdm(list(levels), Bar):
        for logger, level in levels.items():
            logger.handlers[-1].setLevel(level)  # tqdm's handler, which would show all
        yield


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
