"""worker_check: whether a Dask worker sees the workspace that the driver sees, before any frame is written."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from dask_processes import TASKS, Dask
from pictures import encode, noise
from s3 import READER_KEY, READER_SECRET, S3
from test_dask_connect import address_of, hiding
from waiting import until
from workflow import command, stream

from imagetl_luigi import storage
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.errors import DaskWorkerError, StorageError
from imagetl_luigi.settings import DaskSettings
from imagetl_luigi.worker_check import SameWorkspace
from imagetl_luigi.workspace import Workspace

DATA = bytes(range(256)) * 1024


@pytest.fixture(params=["local", "memory", "s3"])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> SameWorkspace:
    """What is to be seen in a workspace of each kind."""
    places = {"local": lambda: str(tmp_path), "memory": lambda: f"memory:/{tmp_path}"}
    return seen_in(places.get(request.param, lambda: request.getfixturevalue("s3"))())


def seen_in(root: str) -> SameWorkspace:
    storage.write_bytes(f"{root}/image-data.img", DATA)
    storage.write_bytes(f"{root}/frames/.manifest-digest", b"digest")
    return SameWorkspace.seen_here(Workspace(root, f"{root}/image-data.img", f"{root}/clip.gif"), b"digest")


def test_who_sees_the_same_passes_and_leaves_nothing(check: SameWorkspace) -> None:
    check()
    assert storage.sizes(check.frames) == {".manifest-digest": 6}


def test_who_writes_into_one_folder_what_is_read_in_others_is_checked_by_a_mark(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/w/manifest.json", b"{}")
    check = SameWorkspace.of_folder(f"{tmp_path}/_gallery", f"{tmp_path}/w/manifest.json", "--root")
    check()
    storage.remove(check.mark)
    with pytest.raises(StorageError, match=r"_gallery/\.mark is not what the driver sees there; .* choose a --root in"):
        check()


def test_where_the_data_file_is_gone_it_must_be_gone_there_too(check: SameWorkspace) -> None:
    storage.remove(check.data_file)
    with pytest.raises(StorageError, match=r"image-data.img is not what the driver sees there"):
        check()
    replace(check, ends=None)()


@pytest.mark.parametrize("change", ["no data", "other data", "no mark", "other mark"])
def test_who_sees_something_else_does_not_pass(check: SameWorkspace, change: str) -> None:
    path = check.data_file if change.endswith("data") else check.mark
    storage.remove(path)
    if change.startswith("other"):
        storage.write_bytes(path, b"something else")
    with pytest.raises(
        StorageError, match=f"{path} is not what the driver sees there; give {socket.gethostname()} a way"
    ):
        check()


@pytest.mark.parametrize("other", [b"x" + DATA[1:], DATA[:-1] + b"x", DATA + b"x"], ids=["begin", "end", "length"])
def test_a_data_file_of_another_day_is_not_taken_for_this_one(check: SameWorkspace, other: bytes) -> None:
    storage.write_bytes(check.data_file, other)
    with pytest.raises(StorageError, match=r"image-data.img is not what the driver sees there"):
        check()


def test_a_data_file_of_this_machine_and_a_workspace_in_a_store_do_not_go_together(tmp_path: Path) -> None:
    data_file = str(tmp_path / "image-data.img")
    storage.write_bytes(data_file, DATA)
    check = SameWorkspace.seen_here(Workspace("memory://w", data_file, "memory://w/clip.gif"), b"digest")
    storage.remove(data_file)
    with pytest.raises(StorageError, match=r"or choose a --data-file in an object store"):
        check()


def test_who_may_only_read_does_not_pass(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = seen_in(s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StorageError, match=r"cannot write s3://.*the credentials in use do not allow it"):
        check()


@pytest.fixture(scope="module")
def silence() -> Iterator[str]:
    """The endpoint of a store that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def dask(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler and a worker that reaches the store."""
    with contextlib.ExitStack() as stack:
        dask = Dask(stack, tmp_path_factory.mktemp("dask"))
        dask.worker("--no-nanny", **s3_server.environment)
        yield dask


@pytest.mark.slow
@pytest.mark.parametrize(
    ("misfit", "message"),
    [
        ("away", r"cannot read s3://.*; is the store up, and its address right \(for S3: AWS_ENDPOINT_URL\)\?"),
        ("silent", r"its check did not end within 8 s; can it reach what the tasks need\?"),
        ("without credentials", r"cannot read s3://.*; give credentials in the environment"),
        ("read only", r"cannot write s3://.*; the credentials in use do not allow it"),
        ("without s3fs", r".*needs a package that is not installed: pip install 'imagetl_luigi\[s3\]'"),
    ],
)
def test_a_worker_that_cannot_use_the_store_is_named_before_any_task_runs(
    misfit: str, message: str, dask: Dask, s3: str, silence: str, tmp_path: Path
) -> None:
    changes = {
        "away": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        "silent": {"AWS_ENDPOINT_URL": silence},
        "without credentials": {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": str(tmp_path),
        },
        "read only": {"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET},
        "without s3fs": {"PYTHONPATH": f"{hiding(tmp_path / 'path', 's3fs')}:{TASKS}"},
    }
    name = misfit.replace(" ", "-")
    worker = dask.worker("--no-nanny", f"--name={name}", **changes[misfit])
    try:
        until(lambda: f"name: {name}" in dask.log.read_text())
        with pytest.raises(DaskWorkerError, match=f"{address_of(dask, name)} cannot be used: {message}"):
            DaskWorker(DaskSettings(scheduler=dask.address, wait_for_workers=10.0), check=seen_in(s3)).__enter__()
    finally:
        worker.kill()
        worker.wait()
    assert storage.sizes(f"{s3}/frames") == {".manifest-digest": 6}


@pytest.mark.slow
def test_memory_is_no_workspace_for_processes(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(stream([encode(noise(), "GIF")]))
    options = ["--local-scheduler", "--url", "a.img", "--workspace", "memory://here", "--dask-scheduler", "cluster"]
    options += ["--dask-cluster-workers", "1", "--dask-dashboard", "127.0.0.1:0"]
    ended = command("CombineGif", *options, folder=tmp_path)
    assert ended.returncode == 30
    assert "memory://here/image-data.img is not what the driver sees there" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_frames_are_converted_on_a_cluster_though_the_data_file_was_removed(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(stream([encode(noise(seed=seed), "PNG") for seed in range(3)]))
    options = ["--local-scheduler", "--url", "a.img", "--workspace", "here", "--dask-scheduler", "cluster"]
    options += ["--dask-cluster-workers", "1", "--dask-dashboard", "127.0.0.1:0"]
    assert command("CombineGif", *options, folder=tmp_path).returncode == 0
    clip = (tmp_path / "here/clip.gif").read_bytes()
    shutil.rmtree(tmp_path / "here/converted")
    (tmp_path / "here/clip.gif").unlink()
    (tmp_path / "here/image-data.img").unlink()
    again = command("CombineGif", *options, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "here/clip.gif").read_bytes() == clip
