"""The workflow with an S3 workspace on a real Dask cluster: scheduler and workers are processes of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import distributed
import psutil
import pytest
from cluster import Contents, Job, at_work, end, local_run, small_frames, workers
from dask_processes import Dask
from relay import Relay
from s3 import S3

COUNT = 300

Stream = tuple[Path, Contents]
"""A source, and what a run on this machine makes of it."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    folder = tmp_path_factory.mktemp("small")
    source = small_frames(folder / "small.img", COUNT)
    return source, local_run(source, folder / "local")


@pytest.fixture(scope="module")
def cluster(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler and two workers, for all tests that do them no harm, or bring a third one for it."""
    with contextlib.ExitStack() as stack:
        yield started(stack, s3_server, tmp_path_factory.mktemp("cluster"), 2)


def started(stack: contextlib.ExitStack, s3: S3, folder: Path, count: int) -> Dask:
    """A cluster in which no worker shares a working directory with anybody."""
    dask = Dask(stack, folder)
    for number in range(count):
        add_worker(stack, dask, s3, folder / f"worker-{number}")
    workers(dask, count)
    return dask


def add_worker(stack: contextlib.ExitStack, dask: Dask, s3: S3, folder: Path, *options: str) -> psutil.Process:
    folder.mkdir()
    return psutil.Process(dask.worker(*options, folder=folder, path="", stack=stack, **s3.environment).pid)


def done_by(dask: Dask) -> dict[str, int]:
    """How many chunks each worker has run."""
    with distributed.Client(dask.address, set_as_default=False) as client:
        return client.run(lambda dask_worker: dask_worker.state.executed_count)


@pytest.mark.slow
def test_all_workers_write_frames_and_the_scheduler_carries_no_pixels(
    s3_server: S3, real_stream: Path, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        dask = Dask(stack, tmp_path)
        relay = stack.enter_context(Relay(dask.address.removeprefix("tcp://")))
        dask.address = f"tcp://{relay.address}"
        for number in range(3):
            add_worker(stack, dask, s3_server, tmp_path / f"worker-{number}")
        workers(dask, 3)
        before = relay.count
        job = Job(s3_server, dask.address, real_stream, tmp_path / "real")
        ended = job.run()
        carried = relay.count - before
        assert ended.returncode == 0, ended.stderr
        assert all(done_by(dask).values())
    assert job.contents() == local_run(real_stream, tmp_path / "local")
    assert carried < real_stream.stat().st_size / 4, "mostly heartbeats, which are more the longer it takes"


@pytest.mark.slow
def test_a_worker_that_is_killed_half_way_and_not_replaced_is_not_missed(
    cluster: Dask, s3_server: S3, small: Stream, tmp_path: Path
) -> None:
    source, expected = small
    with contextlib.ExitStack() as stack:
        third = add_worker(stack, cluster, s3_server, tmp_path / "third", "--no-nanny")
        workers(cluster, 3)
        job = Job(s3_server, cluster.address, source, tmp_path / "killed")
        running = stack.enter_context(job.half_way(COUNT))
        at_work(third).kill()
        ended = end(running)
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected


@pytest.mark.slow
def test_a_store_that_is_silent_for_five_seconds_is_waited_for(
    cluster: Dask, s3_server: S3, small: Stream, tmp_path: Path
) -> None:
    source, expected = small
    job = Job(s3_server, cluster.address, source, tmp_path / "silent")
    with job.half_way(COUNT) as running:
        with s3_server.silent():
            threading.Event().wait(5)
        ended = end(running)
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected


@pytest.mark.slow
def test_what_was_written_before_the_driver_was_killed_is_not_written_again(
    cluster: Dask, s3_server: S3, small: Stream, tmp_path: Path
) -> None:
    source, expected = small
    job = Job(s3_server, cluster.address, source, tmp_path / "driver")
    with job.half_way(COUNT) as running:
        running.kill()
        running.wait()
        before = job.frames()
    ended = job.run()
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected
    assert job.frames().items() >= before.items()


@pytest.mark.slow
def test_when_the_whole_cluster_is_killed_the_run_says_so_and_the_next_one_completes_it(
    cluster: Dask, s3_server: S3, small: Stream, tmp_path: Path
) -> None:
    source, expected = small
    with contextlib.ExitStack() as stack:
        dask = Dask(stack, tmp_path)
        worker = add_worker(stack, dask, s3_server, tmp_path / "worker", "--no-nanny")
        job = Job(s3_server, dask.address, source, tmp_path / "scheduler", "--dask-wait-for-workers=5")
        with job.half_way(COUNT) as running:
            dask.scheduler.kill()
            worker.kill()  # it would do what it has at hand
            ended = end(running)
    assert ended.returncode == 30
    assert f"the Dask scheduler at {dask.address} is gone; what was done is kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    before = job.frames()
    job.address = cluster.address
    ended = job.run()
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected
    assert job.frames().items() >= before.items()
