"""dask_shared: one cluster for all processes of a run, which ends with the last of them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import distributed
import psutil
import pytest
from waiting import until

from imagetl_luigi import dask_shared
from imagetl_luigi.dask_shared import SharedCluster
from imagetl_luigi.errors import DaskWorkerError
from imagetl_luigi.settings import DaskSettings

SETTINGS = DaskSettings(scheduler="cluster", cluster_workers=1, dashboard="127.0.0.1:0")

RUN = """
import os, sys, time
from imagetl_luigi import dask_shared
from imagetl_luigi.settings import DaskSettings
settings = DaskSettings(scheduler="cluster", cluster_workers=1, dashboard="127.0.0.1:0")
dask_shared.prepare()
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os.write(1, f"{dask_shared.address(settings)}\\n".encode())
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
os.write(1, f"{dask_shared.address(settings)}\\n".encode())
sys.stdin.read()
"""
"""A driver whose forked processes want the cluster at the same time; it stays until its input ends."""


def clusters() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        ours = (process.info["environ"] or {}).get("TMPDIR") == os.environ["TMPDIR"]
        if ours and "shared.main()" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, signal.SIGKILL], ids=["at the end", "killed"])
def test_forked_processes_share_one_that_ends_with_the_driver(end: signal.Signals | None) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    assert run.stdin
    with run:
        addresses = {run.stdout.readline() for _ in range(4)}
        assert len(addresses) == 1
        with distributed.Client(addresses.pop().strip()) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert len(clusters()) == 1
        if end:
            run.send_signal(end)
    until(lambda: not clusters())


@pytest.mark.slow
def test_one_that_was_killed_is_started_anew_and_leaves_nothing(tmp_path: Path) -> None:
    shared = SharedCluster()
    first = shared.address(SETTINGS)
    assert shared.address(SETTINGS) == first
    (process,) = clusters()
    assert process not in psutil.Process().children(recursive=True)  # all of which Luigi ends with a task
    workers = process.children(recursive=True)
    process.kill()
    process.wait()
    assert shared.address(SETTINGS) != first
    shared.close()
    until(lambda: not clusters())
    assert list(Path(os.environ["TMPDIR"]).glob("imagetl_luigi-????????????????????????????????")) == []
    psutil.wait_procs(workers, timeout=20)
    assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.slow
def test_one_that_loses_all_workers_gets_new_ones() -> None:
    shared = SharedCluster()
    with distributed.Client(shared.address(replace(SETTINGS, wait_for_workers=3))) as client:
        (before,) = client.scheduler_info()["workers"]
        client.retire_workers([before])  # which Dask does not replace
        until(lambda: client.scheduler_info()["workers"].keys() - {before}, seconds=60)
    shared.close()
    until(lambda: not clusters())


@pytest.mark.slow
def test_one_that_cannot_start_is_one_clear_error() -> None:
    shared = SharedCluster()
    with pytest.raises(DaskWorkerError, match=r"no Dask cluster can be started here: .*'x'; correct \[dask\], or do w"):
        shared.address(DaskSettings(scheduler="cluster", dashboard="127.0.0.1:x"))
    shared.close()


def test_one_whose_starter_was_killed_is_waited_for() -> None:
    shared = SharedCluster()
    Path(shared._folder).mkdir()
    with open(shared._file, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as one that starts has it
        starts = threading.Timer(0.2, lambda: (file.write("tcp://127.0.0.1:9"), file.flush()))
        starts.start()
        assert shared.address(SETTINGS) == "tcp://127.0.0.1:9"
        starts.join()
    shared.close()


@pytest.mark.slow
def test_one_that_never_gets_ready_is_an_error() -> None:
    shared = SharedCluster()
    Path(shared._folder).mkdir()
    with open(shared._file, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(
            DaskWorkerError, match="no Dask cluster can be started here: one has been started, and does not get"
        ):
            shared.address(replace(SETTINGS, wait_for_workers=0.1))
    shared.close()


def test_what_was_prepared_and_never_needed_costs_nothing() -> None:
    dask_shared.prepare()
    dask_shared.prepare()
    dask_shared.close()
    dask_shared.close()
    assert clusters() == []
