"""A bar at the terminal, which log lines do not garble. It is imported when one is to be shown."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

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


@contextlib.contextmanager
def shown(name: str, noun: str, done: int, total: int | None) -> Iterator[Bar]:
    """A bar on standard error, gone when the block ends; until then, log lines are written above it."""
    in_bytes = noun == "bytes"
    with (
        _logs_above(),
        Bar(
            desc=name,
            initial=done,
            total=total,
            unit="B" if in_bytes else f" {noun}",
            unit_scale=in_bytes,
            unit_divisor=1024,
            file=sys.stderr,
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
