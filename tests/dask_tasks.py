"""Luigi tasks that know nothing of images, for DaskWorker to run: good ones, bad ones and deadly ones."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import distributed
import luigi

from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.settings import DaskSettings


class Note(luigi.Task):
    """Notes in a file that it ran, so that one can count how often each did, and where."""

    log = luigi.Parameter()
    number = luigi.IntParameter()

    def run(self) -> None:
        self.note(os.getpid())

    def note(self, text: object) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(f"{self.number} {text}\n".encode())


class Message(Note):
    """Notes the Dask message in which it came."""

    def run(self) -> None:
        self.note(distributed.get_worker().get_current_task())


class Slow(Note):
    def run(self) -> None:
        super().run()
        threading.Event().wait(0.02)


class Fail(Note):
    def run(self) -> None:
        raise ValueError(f"number {self.number}")


class Exit(Note):
    def run(self) -> None:
        sys.exit(3)


class Yield(Note):
    def run(self) -> Iterator[luigi.Task]:
        yield Note(log=self.log, number=-1)


class Clumsy(Exception):
    """Cannot be rebuilt from its arguments, so pickle writes it and cannot read it."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


class FailClumsily(Note):
    def run(self) -> None:
        raise Clumsy("number", str(self.number))


class Locked(Exception):
    """Cannot be pickled, nor even printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class FailLocked(Note):
    def run(self) -> None:
        raise Locked(threading.Lock())


def arrive_badly(kind: type[BaseException]) -> None:
    raise kind("of the package that the task is in")


class ArriveBadly(Note):
    """Cannot be unpacked where it arrives: its module fails to be imported there, say."""

    kind: type[BaseException]

    def __reduce__(self) -> tuple[object, ...]:
        return arrive_badly, (self.kind,)


class ArriveDenied(ArriveBadly):
    kind = PermissionError


class ArriveLate(ArriveBadly):
    kind = TimeoutError


class FailAtLength(Note):
    """With a message of a hundred kilobytes."""

    def run(self) -> None:
        raise ValueError("long " * 20_000)


class Unpicklable(Note):
    def __getstate__(self) -> object:
        raise TypeError("it holds a socket")


class Kill(Note):
    """Kills every worker that it meets."""

    def run(self) -> None:
        super().run()
        os.kill(os.getpid(), signal.SIGKILL)


class KillOnce(Note):
    """Kills the first worker that it meets."""

    def run(self) -> None:
        try:
            Path(f"{self.log}.{self.number}").touch(exist_ok=False)
        except FileExistsError:
            super().run()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


class KillNumber(Note):
    """Kills the process that has its number."""

    def run(self) -> None:
        os.kill(self.number, signal.SIGKILL)
        threading.Event().wait(60)


class StopNumber(Note):
    """Stops the process that has its number, until somebody lets it go on."""

    def run(self) -> None:
        os.kill(self.number, signal.SIGSTOP)


class KillWith(Note):
    """Sends its own process the signal that has its number."""

    def run(self) -> None:
        os.kill(os.getpid(), self.number)


class Batch(luigi.Task):
    """Runs many of one kind, as a Luigi task does that uses DaskWorker."""

    log = luigi.Parameter()
    place = luigi.Parameter()
    kind = luigi.Parameter(default="Note")
    count = luigi.IntParameter(default=50)

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.log}.done")

    def run(self) -> None:
        kind = globals()[self.kind]
        tasks = (kind(log=self.log, number=number) for number in range(self.count))
        settings = DaskSettings(scheduler=self.place, cluster_workers=2, dashboard="127.0.0.1:0")
        with DaskWorker(settings, report_to=self) as worker:
            failures = worker.run(tasks, self.count)
        with self.output().open("w") as file:
            file.write(f"{len(failures)} failed")
