"""The plain `luigi` command with a workspace on a real S3 server and a real Dask cluster, and what must come of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import psutil
from botocore.session import get_session
from dask_processes import Dask
from pictures import gif
from s3 import KEY, S3, SECRET
from waiting import until
from workflow import command, started, stream

Contents = dict[str, object]
"""What lies in a workspace: the MD5 of each file, and of the manifest all that two runs have in common."""


def small_frames(path: Path, count: int) -> Path:
    """A stream of so many GIFs of half a kilobyte, no two of the same colours."""
    picture = gif((24, 24))
    colours = (number.to_bytes(6, "big") for number in range(count))
    path.write_bytes(stream(picture[:13] + colour + picture[19:] for colour in colours))
    return path


def local_run(source: Path, folder: Path) -> Contents:
    """What a run on this machine makes of the source."""
    folder.mkdir(parents=True)
    ended = command("CombineGif", "--local-scheduler", "--url", source, "--workspace", "here", folder=folder)
    assert ended.returncode == 0, ended.stderr
    root = folder / "here"
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    digests = {name: hashlib.md5(path.read_bytes()).hexdigest() for name, path in files.items()}
    return _comparable(digests, lambda name: files[name].read_bytes())


def _comparable(digests: dict[str, str], read: Callable[[str], bytes]) -> Contents:
    """Without the lock, the record of the download, and the fields of the manifest that tell of file and time."""
    found = {name: digest for name, digest in digests.items() if name not in (".lock", ".image-data.img.source.json")}
    manifest = json.loads(read("manifest.json"))
    del manifest["fingerprint"], manifest["source"]["fetched_at"]
    return {**found, "manifest.json": manifest}


class Job:
    """One source, one workspace in an S3 server, and the commands that take the one to the other.

    Args:
        address: of the Dask scheduler.
        folder: where the commands are called.
        options: of the commands.
    """

    def __init__(self, s3: S3, address: str, source: Path, folder: Path, *options: str) -> None:
        self.address = address
        self.workspace = f"{s3.bucket}/{folder.name}"
        self._s3 = s3
        self._options = [*options, "--url", str(source)]
        self._folder = folder
        folder.mkdir(parents=True)

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return end(self.start())

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start it, with more options."""
        options = [*self._options, *more, "--workspace", self.workspace, "--dask-scheduler", self.address]
        return started(
            "CombineGif",
            "--local-scheduler",
            *options,
            folder=self._folder,
            TMPDIR=str(self._folder),
            **self._s3.environment,
        )

    @contextlib.contextmanager
    def half_way(self, count: int) -> Iterator[subprocess.Popen[str]]:
        """The command when it has written a good part of so many frames, one at a time on each worker."""
        with self.start("--dask-at-once=1") as running, self._client() as client:
            there = 0

            def some_are_there() -> bool:
                nonlocal there
                there = len(self._frames(client))
                return there >= count // 4 or running.poll() is not None

            try:
                until(some_are_there, 120, every=0.1)
                assert count // 4 <= there < count, f"{there} frames; {running.communicate()[1]}"
                yield running
            finally:
                running.kill()

    def frames(self) -> dict[str, object]:
        """Each frame that is there, and when it was written."""
        with self._client() as client:
            return self._frames(client)

    def _frames(self, client: Any) -> dict[str, object]:
        listed = self._listed(client)
        return {name: found["LastModified"] for name, found in listed.items() if name.startswith("frames/frame_")}

    def contents(self) -> Contents:
        """All that lies in the workspace. S3's ETag of a small object is its MD5."""
        with self._client() as client:
            digests = {name: found["ETag"].strip('"') for name, found in self._listed(client).items()}
            return _comparable(digests, lambda name: client.get_object(**self._place(name))["Body"].read())

    def _client(self) -> contextlib.closing[Any]:
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        return contextlib.closing(get_session().create_client("s3", endpoint_url=self._s3.endpoint, **keys))

    def _place(self, name: str) -> dict[str, str]:
        bucket, _, folder = self.workspace.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{folder}/{name}"}

    def _listed(self, client: Any) -> dict[str, dict[str, Any]]:
        place = self._place("")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=place["Bucket"], Prefix=place["Key"])
        return {found["Key"].removeprefix(place["Key"]): found for page in pages for found in page.get("Contents", [])}


def end(running: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the command's end."""
    with running:
        out, errors = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, out, errors)


def at_work(worker: psutil.Process) -> psutil.Process:
    """The process that does the work: a child, if a nanny minds it."""
    children = worker.children(recursive=True)
    return next((child for child in children if "spawn_main" in " ".join(child.cmdline())), worker)


def workers(dask: Dask, count: int) -> None:
    """Wait until so many workers are there."""
    with distributed.Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)
