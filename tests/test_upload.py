"""upload: to S3 in parts, through moments in which the store is away; nothing is left of one that fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import fsspec
import pytest
import s3_requests
from relay import Relay
from s3 import BUCKET, S3
from waiting import until

from imagetl_luigi import object_store, remote, storage, upload
from imagetl_luigi.errors import StorageError
from imagetl_luigi.settings import MiB

DATA = bytes(range(256)) * 4096 * 12  # 12 MiB


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little at a time as S3 takes."""
    monkeypatch.setattr(upload, "UPLOAD", 5 * MiB)


@pytest.fixture
def relay(s3_server: S3, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """What lies between us and the store, and can be cut."""
    with Relay(urlsplit(s3_server.endpoint).netloc) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.address}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield between
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def unfinished(place: str) -> list[str]:
    uploads = fsspec.filesystem("s3").call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", [])
    return [upload["Key"] for upload in uploads if f"s3://{BUCKET}/{upload['Key']}".startswith(place)]


def write(path: str) -> None:
    with storage.atomic_write(path) as file:
        for start in range(0, len(DATA), MiB):
            file.write(memoryview(DATA)[start : start + MiB])


def test_what_is_written_goes_up_in_parts_as_it_comes(s3: str) -> None:
    with s3_requests.listed() as requests:
        with storage.atomic_write(f"{s3}/file") as file:
            file.write(DATA[: 6 * MiB])
            assert [request.partition(" ")[0] for request in requests] == ["POST", "PUT"]
            file.write(DATA[6 * MiB :])
        assert [request.partition(" ")[0] for request in requests] == ["POST", "PUT", "PUT", "PUT", "POST"]
    assert storage.read_bytes(f"{s3}/file") == DATA


def test_no_byte_is_lost_where_parts_meet(s3: str) -> None:
    for size in (5 * MiB - 1, 5 * MiB, 5 * MiB + 1, 10 * MiB, 10 * MiB + 1):
        with storage.atomic_write(f"{s3}/file") as file:
            file.write(DATA[: size - 1])
            file.write(DATA[size - 1 : size])
        assert storage.read_bytes(f"{s3}/file") == DATA[:size]
    assert unfinished(s3) == []


def test_an_upload_goes_on_after_the_store_was_away(s3: str, relay: Relay) -> None:
    with ThreadPoolExecutor(1) as other, s3_requests.listed() as requests, storage.atomic_write(f"{s3}/file") as file:
        file.write(DATA[: 6 * MiB])
        with relay.cut():
            writing = other.submit(file.write, DATA[6 * MiB :])
            until(lambda: len(requests) >= 4)
            assert not writing.done()
        writing.result(30)
    assert storage.read_bytes(f"{s3}/file") == DATA
    assert unfinished(s3) == []


def test_an_upload_that_the_store_does_not_take_is_said_and_aborted(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(f"{s3}/file", b"old")

    def refuse(request: str) -> None:
        if "partNumber=2" in request:
            raise PermissionError("no more")

    with pytest.raises(StorageError, match="no more; the credentials in use"), s3_requests.before_each(refuse):
        write(f"{s3}/file")
    assert storage.read_bytes(f"{s3}/file") == b"old"
    assert unfinished(s3) == []


def test_a_store_that_stays_away_ends_an_upload(s3: str, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    said = pytest.raises(StorageError, match=r"cannot write .*/file: .*; is the store up")
    with said, storage.atomic_write(f"{s3}/file") as file:
        file.write(DATA[: 6 * MiB])
        with relay.cut():
            file.write(DATA[6 * MiB :])
    assert not storage.exists(f"{s3}/file")


def test_parts_that_lie_in_the_store_are_joined_there(s3: str) -> None:
    parts = [DATA[: 5 * MiB], DATA[5 * MiB : 10 * MiB], DATA[:1]]
    paths = [f"{s3}/a b+%/{number}" for number in range(3)]
    for path, data in zip(paths, parts, strict=True):
        storage.write_bytes(path, data)
    with s3_requests.listed() as requests:
        object_store.merge(f"{s3}/joined", paths)
    assert len(requests) == 5
    assert storage.read_bytes(f"{s3}/joined") == b"".join(parts)
    assert unfinished(s3) == []


def test_joining_what_is_not_there_leaves_nothing(s3: str) -> None:
    storage.write_bytes(f"{s3}/0", DATA[: 5 * MiB])
    with pytest.raises(StorageError, match=f"cannot write {s3}/joined: "):
        object_store.merge(f"{s3}/joined", [f"{s3}/0", f"{s3}/none", f"{s3}/0"])
    assert not storage.exists(f"{s3}/joined")
    assert unfinished(s3) == []


def test_what_cannot_be_renamed_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes("memory://renaming/file", b"old")

    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "mv", refuse)
    for act in (write, lambda path: storage.write_bytes(path, DATA)):
        with pytest.raises(StorageError, match="cannot write memory://renaming/file: not here; the credentials"):
            act("memory://renaming/file")
    assert storage.sizes("memory://renaming") == {"file": 3}


def test_other_stores_join_through_this_machine() -> None:
    paths = [f"memory://joining/{number}" for number in range(3)]
    for path in paths:
        storage.write_bytes(path, path.encode())
    object_store.merge("memory://joining/joined", paths)
    assert storage.read_bytes("memory://joining/joined") == "".join(paths).encode()
