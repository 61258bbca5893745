"""What tests of every module share."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from server import Server

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def server() -> Iterator[Server]:
    """A real HTTP server that can break in every way; see server.py."""
    with Server() as serving:
        yield serving


@pytest.fixture
def program() -> Callable[[str], str]:
    """Find a program that a test needs; without it the test is skipped, and fails where CI should have it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name} is not installed")
        assert path
        return path

    return find


def missing(reason: str) -> None:
    """Skip a test for what is missing here; in CI everything is there, so it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, though CI installs it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_stream() -> Path:
    """The notebook's own input: 27 GIF frames of 500 × 375 pixels; it is not part of the project."""
    path = os.environ.get("IMAGETL_REAL_STREAM")
    if not path:
        pytest.skip("IMAGETL_REAL_STREAM does not name the notebook's all-images.img")
    return Path(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"no file system can be mounted here ({error})")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every thread, child process and descriptor that a test started is gone when it ends."""
    resource_tracker.ensure_running()  # Python's own process for multiprocessing, which stays
    process = psutil.Process()
    threads = set(threading.enumerate())
    children = set(process.children())
    descriptors = process.num_fds()
    yield
    wait_until(lambda: not _new_threads(threads), 10)
    assert not _new_threads(threads), "threads are left"
    left = set(process.children()) - children
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive, "child processes are left"
    assert process.num_fds() <= descriptors + 8, "descriptors are left"  # libraries keep a few for good


def _new_threads(threads: set[threading.Thread]) -> set[threading.Thread]:
    """Those started since, but for those that distributed and its event loop keep for good."""
    kept = ("Dask-Offload", "asyncio_")
    return {thread for thread in threading.enumerate() if not thread.name.startswith(kept)} - threads


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Come back as soon as the condition holds, or after so many seconds."""
    waiting = threading.Event()
    for _ in range(int(seconds * 50)):
        if condition():
            return
        waiting.wait(0.02)
