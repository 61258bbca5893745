"""Wait for what is to come, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float, every: float = 0.02) -> bool:
    """Come back as soon as the condition holds, or after so many seconds; whether it does. It is looked at `every`
    so many seconds, which should be few looks where one is dear.
    """
    waiting = threading.Event()
    for _ in range(int(seconds / every)):
        if condition():
            return True
        waiting.wait(every)
    return False


def until(condition: Callable[[], object], seconds: float = 20, every: float = 0.02) -> None:
    """Come back as soon as the condition holds. Raises AssertionError if it does not within the time."""
    assert wait_until(condition, seconds, every), "it never came true"
