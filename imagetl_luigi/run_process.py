"""Run a command to its end, with its output in a file, and let it have the signals that we get."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Passing:
    """Passes on the signals that end a run, from its making on; those that we were started to ignore stay ignored.

    The command has a process group of its own. So a Ctrl-C reaches it once, from us, and not from the terminal, too;
    and whoever stops only us stops all that it has started.

    Attributes:
        signal: the last one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in _PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._take)

    def run(self, command: Sequence[str], output: int, held: int) -> int:
        """Run it with its output in the descriptor `output`; return its exit code, 128 and more for a signal.

        It holds the descriptor `held` open, too, and is killed where the system can do that if we are.
        """
        self._process = subprocess.Popen(  # noqa: S603 - the caller's own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[held],
            process_group=0,
            preexec_fn=_dying_with_us(),
        )
        if self.signal:
            self._pass_on()
        code = self._process.wait()
        self._process = None
        if code < 0:
            return 128 - code
        return code or (128 + self.signal if self.signal else 0)

    def _take(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        if self._process:
            self._pass_on()

    def _pass_on(self) -> None:
        assert self._process and self.signal
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, self.signal)


def _dying_with_us() -> Callable[[], None] | None:
    """What a child of ours calls to be killed when we are; only Linux knows how."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def call() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # too late
            os.kill(os.getpid(), signal.SIGKILL)

    return call
