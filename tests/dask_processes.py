"""A real Dask scheduler and real workers, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask_tasks
import psutil
from waiting import until

TASKS = str(Path(dask_tasks.__file__).parent)


@contextlib.contextmanager
def process(
    *command: str, env: dict[str, str] | None = None, inside: Sequence[str] = (), **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this environment, which is ended with everything that it started; `inside` is a command that
    runs it in other surroundings.
    """
    program = [*inside, sys.executable, "-m", *command]
    running = subprocess.Popen(program, env={**os.environ, "PYTHONPATH": TASKS, **(env or {})}, **options)
    try:
        yield running
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*psutil.Process(running.pid).children(recursive=True), running]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        running.wait()


class Dask:
    """A real `dask scheduler`, and the workers that a test asks for.

    Args:
        options: of the scheduler and of every worker, as those of TLS. They have no dashboard otherwise, since to
            import that takes them longer than all else.
        host: address of this machine on which all of them listen.
        environment: of the scheduler.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        folder: Path,
        *options: str,
        host: str = "127.0.0.1",
        **environment: str,
    ) -> None:
        self._stack = stack
        self._options = [f"--host={host}", "--no-dashboard", *options]
        self.log = folder / "dask.log"
        self._log = stack.enter_context(self.log.open("w"))
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            stack, ["scheduler", "--port=0", f"--scheduler-file={file}", *self._options], TASKS, environment
        )
        until(file.exists)
        until(lambda: '"address"' in file.read_text())
        self.address = file.read_text().split('"address": "')[1].split('"')[0]

    def worker(
        self,
        *options: str,
        path: str = TASKS,
        folder: Path | None = None,
        inside: Sequence[str] = (),
        stack: contextlib.ExitStack | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start one, in a folder and in surroundings of its own if they are given; it ends with `stack`, or else
        with the scheduler.
        """
        command = ["worker", self.address, "--nthreads=1", *self._options, *options]
        return self._start(stack or self._stack, command, path, environment, cwd=folder, inside=inside)

    def _start(
        self,
        stack: contextlib.ExitStack,
        command: list[str],
        path: str,
        environment: dict[str, str],
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        program = process("dask", *command, env={"PYTHONPATH": path, **environment}, stderr=self._log, **options)
        return stack.enter_context(program)
