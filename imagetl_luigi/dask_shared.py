"""One Dask cluster of this machine for all stages of a run, in whichever process each of them runs.

Luigi forks for `--workers` above 1, and what is started in one of those processes ends with it. So the cluster
is in a process of its own, which the first stage that needs it starts, and the others find by a file. It ends when
the last process of the run is gone, killed or not: they hold the writing end of a pipe, and it sees that closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict

from imagetl_luigi.errors import DaskWorkerError
from imagetl_luigi.settings import DaskSettings

PATIENCE = 10.0
"""Seconds that the end of a cluster is waited for."""


_MAIN = f"import {__name__} as shared; shared.main()"


class SharedCluster:
    """A cluster that does not run yet. To be made in the driver before Luigi forks; it costs a pipe."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._folder = os.path.join(tempfile.gettempdir(), f"imagetl_luigi-{uuid.uuid4().hex}")

    def address(self, settings: DaskSettings) -> str:
        """Where its scheduler listens; it is started if it does not run.

        Raises:
            DaskWorkerError: it cannot be started.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(os.path.join(self._folder, "starting"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            end = time.monotonic() + settings.wait_for_workers
            while self._running() == "" and time.monotonic() < end:  # whoever started it was killed meanwhile
                time.sleep(0.05)
            return self._running() or self._start(settings)

    def close(self) -> None:
        """End it: nobody else of the run is left. Its port is free then for the dashboard of the next run."""
        os.close(self._writing)
        os.close(self._reading)
        end = time.monotonic() + PATIENCE
        while self._running() is not None and time.monotonic() < end:
            time.sleep(0.02)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _running(self) -> str | None:
        """The address, if whoever wrote it is alive, who holds a lock on the file; empty while it is starting."""
        try:
            with open(self._file, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with open(self._file) as written:
                return written.read()
        except FileNotFoundError:
            pass
        return None

    def _start(self, settings: DaskSettings) -> str:
        said, saying = os.pipe()  # not its standard output, which its workers have as well
        command = [sys.executable, "-P", "-c", _MAIN, self._file, str(saying), json.dumps(asdict(settings))]
        # in a session of its own, so that the terminal's Ctrl-C reaches the driver alone
        process = subprocess.Popen(  # noqa: S603 - it is this module
            command, stdin=self._reading, pass_fds=[saying], start_new_session=True
        )
        os.close(saying)
        with open(said) as hearing:
            problem = hearing.read()
        process.wait()
        address = self._running()
        if not address:
            raise DaskWorkerError(
                f"no Dask cluster can be started here: {problem or 'it was killed'}; "
                "correct [dask], or do without it: [dask] scheduler = threads"
            )
        return address

    @property
    def _file(self) -> str:
        return os.path.join(self._folder, "address")


_shared: SharedCluster | None = None


def prepare() -> None:
    """See that what is forked from now on shares a cluster."""
    global _shared
    _shared = _shared or SharedCluster()


def address(settings: DaskSettings) -> str:
    """Where the scheduler of the run's cluster listens. Raises DaskWorkerError."""
    prepare()
    assert _shared
    return _shared.address(settings)


def close() -> None:
    """End the run's cluster."""
    global _shared
    if _shared:
        _shared.close()
    _shared = None


def serve(path: str, saying: int, settings: DaskSettings) -> None:
    """Be the cluster: write its address to `path`, close `saying`, and end when standard input does."""
    import dask

    from imagetl_luigi.dask_cluster import LOCAL, local_cluster

    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TimeoutError("one has been started, and does not get ready") from None
        file.truncate(0)
        with dask.config.set(LOCAL), local_cluster(settings) as cluster:
            file.write(cluster.scheduler_address)
            file.flush()
            os.close(saying)
            deserted = 0.0
            while not select.select([sys.stdin], [], [], 1)[0]:
                deserted = 0.0 if cluster.scheduler.workers else deserted + 1
                if deserted > settings.wait_for_workers / 3:
                    # Dask restarts its workers, but for one that dies between its first task and its report to be ready
                    deserted = 0.0
                    cluster.scale(0)
                    cluster.scale(settings.cluster_workers)
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)  # whoever made it may have been killed


def main() -> None:
    """What `SharedCluster` starts. It is nobody's child: with a task, Luigi ends all that descends from it."""
    if os.fork():
        os._exit(0)
    path, saying, settings = sys.argv[1:]
    try:
        serve(path, int(saying), DaskSettings(**json.loads(settings)))
    except Exception as error:  # of Dask or of the system
        with contextlib.suppress(OSError):  # it ran already, and nobody listens
            os.write(int(saying), str(error).encode())
        sys.exit(1)
