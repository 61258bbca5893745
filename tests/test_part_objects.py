"""part_objects: the bytes of a download in an object store, until all are there."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
import s3_requests
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetl_luigi import part_objects, storage
from imagetl_luigi.errors import StorageError
from imagetl_luigi.part import Note, Part
from imagetl_luigi.part import opened as part_of
from imagetl_luigi.part_objects import PartObjects
from imagetl_luigi.settings import MiB
from imagetl_luigi.source import part_path, read_record
from imagetl_luigi.targets import DataFileTarget
from imagetl_luigi.workspace import Workspace

URL = "http://example.org/a.img"
NOTE = Note(url=URL, etag='"1"', validator='"1"')
serial = itertools.count()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(part_objects, "LENGTH", 10)
    yield
    fsspec.filesystem("memory").store.clear()


def opened(data_file: str) -> Part:
    """As a run that nobody ends politely: what is not stored when it is dropped is lost, as by a kill."""
    return Part(URL, data_file, PartObjects(part_path(data_file), data_file))


def begin(data_file: str) -> Part:
    part = opened(data_file)
    if not part.note.validator:
        part.restart(NOTE)
    return part


def below(prefix: str) -> list[str]:
    """Names of all objects below a URL."""
    fs, root = fsspec.core.url_to_fs(prefix)
    fs.invalidate_cache()
    return sorted(name[len(root) :].lstrip("/") for name in fs.find(root))


def a_place() -> str:
    return f"memory://{next(serial)}/w"


STEPS = st.lists(st.tuples(st.integers(0, 35), st.sampled_from(["goes on", "leaves", "killed"])), max_size=12)


@settings(max_examples=50)
@given(data=st.binary(max_size=120), steps=STEPS)
def test_whatever_is_written_and_interrupted_the_bytes_come_out(data: bytes, steps: list[tuple[int, str]]) -> None:
    place = a_place()
    data_file = f"{place}/a.img"
    part = begin(data_file)
    for length, then in steps:
        part.write(data[part.size :][:length])
        there = part.size
        if then == "leaves":
            part.leave()
        if then != "goes on":
            part = begin(data_file)
            assert part.size <= there
            assert there - part.size < (10 if then == "killed" else 1)
        assert not storage.exists(data_file)
        assert part.digest.digest() == hashlib.sha256(data[: part.size]).digest()
        assert part.head == data[: part.size]
    part.write(data[part.size :])
    source = part.publish()
    assert storage.read_bytes(data_file) == data
    assert source.sha256 == hashlib.sha256(data).hexdigest()
    assert read_record(data_file) == (source, storage.fingerprint(data_file))
    assert below(place) == [".a.img.source.json", "a.img"]


class Killed(BaseException):
    """In the place of a kill: nothing catches it, and nobody tidies up after it."""


def stopping(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Raise Killed just before or just after one of the changes that are made from now on."""
    moments = itertools.count(1)

    def wrap(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*arguments: Any, **options: Any) -> Any:
            if next(moments) == moment:
                raise Killed
            result = change(*arguments, **options)
            if next(moments) == moment:
                raise Killed
            return result

        return changing

    memory = fsspec.get_filesystem_class("memory")
    for name in ("pipe_file", "mv", "rm_file", "rm"):
        monkeypatch.setattr(memory, name, wrap(getattr(memory, name)))


@pytest.mark.slow
@pytest.mark.parametrize("validator", ['"1"', None], ids=["with a validator", "without"])
@pytest.mark.parametrize("length", [10, 35])
@pytest.mark.parametrize("moment", range(1, 26))
def test_killed_at_any_moment_of_publishing_it_is_ended_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, length: int, validator: str | None, moment: int
) -> None:
    place, data = a_place(), random.Random(length).randbytes(length)
    data_file = f"{place}/a.img"
    part = opened(data_file)
    part.restart(Note(url=URL, etag='"1"', validator=validator, length=length))
    part.write(data)
    with monkeypatch.context() as patching, contextlib.suppress(Killed):
        stopping(patching, moment)
        part.publish()
    if not DataFileTarget(Workspace.of(URL, place, "a.img"), URL).exists():
        again = opened(data_file)
        if storage.exists(data_file):
            assert again.whole, "what was joined is not fetched again"
        if not again.whole:
            again.restart(NOTE)
            again.write(data)
        again.publish()
    assert storage.read_bytes(data_file) == data
    source, fingerprint = read_record(data_file) or pytest.fail("there is no record")
    assert (source.etag, source.length, source.sha256) == ('"1"', length, hashlib.sha256(data).hexdigest())
    assert fingerprint == storage.fingerprint(data_file)
    assert below(place) == [".a.img.source.json", "a.img"]


def test_a_data_file_of_before_is_not_taken_for_the_one_that_was_being_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data_file = f"{a_place()}/a.img"
    storage.write_bytes(data_file, b"of yesterday, and as long")
    part = begin(data_file)
    part.write(b"of today, and just as long")
    with monkeypatch.context() as patching, pytest.raises(Killed):
        patching.setattr(storage, "write_bytes", killed)
        part.publish()
    again = opened(data_file)
    assert (again.size, again.whole) == (0, False)
    assert storage.read_bytes(data_file) == b"of yesterday, and as long"


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("spoil", [b"", b"longer than any part may be"], ids=["empty", "too long"])
@pytest.mark.parametrize("number", range(3))
def test_parts_that_no_run_of_today_wrote_are_not_used(number: int, spoil: bytes) -> None:
    data_file = f"{a_place()}/a.img"
    data = bytes(range(25))
    part = begin(data_file)
    part.write(data)
    part.leave()
    storage.write_bytes(f"{data_file}.part/{NOTE.batch}-00000{number}", spoil)
    part = begin(data_file)
    assert part.size == 10 * number
    part.write(data[part.size :])
    part.publish()
    assert storage.read_bytes(data_file) == data


def test_two_that_fetch_different_versions_at_the_same_time_never_mix_them() -> None:
    data_file = f"{a_place()}/a.img"
    old, new = b"a" * 35, b"b" * 35
    slow = opened(data_file)
    slow.restart(Note(url=URL, etag='"1"', validator='"1"'))
    slow.write(old)
    quick = opened(data_file)
    quick.restart(Note(url=URL, etag='"2"', validator='"2"'))
    quick.write(new[:30])
    with pytest.raises(StorageError, match="cannot read"):
        slow.publish()
    assert not storage.exists(data_file)
    quick.write(new[30:])
    quick.publish()
    assert storage.read_bytes(data_file) == new


def test_of_two_that_fetch_the_same_version_at_the_same_time_both_end_well_or_say_so() -> None:
    data_file = f"{a_place()}/a.img"
    data = bytes(range(35))
    first, second = begin(data_file), begin(data_file)
    first.write(data)
    second.write(data)
    first.publish()
    with pytest.raises(StorageError, match="cannot read"):
        second.publish()
    assert storage.read_bytes(data_file) == data
    assert DataFileTarget(Workspace.of(URL, data_file.rpartition("/")[0], "a.img"), URL).path == data_file


def test_a_note_that_cannot_be_read_just_now_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data_file = f"{a_place()}/a.img"
    part = begin(data_file)
    part.write(bytes(35))
    part.leave()
    with monkeypatch.context() as patching, pytest.raises(StorageError):
        patching.setattr(storage, "read_bytes", refused)
        opened(data_file)
    assert opened(data_file).size == 35


def refused(path: str) -> bytes:
    raise StorageError(f"cannot read {path}: Access Denied")


def test_what_went_wrong_is_told_though_what_has_arrived_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data_file = f"{a_place()}/a.img"
    with pytest.raises(KeyboardInterrupt), part_of(URL, data_file) as part:
        part.restart(NOTE)
        part.write(bytes(35))
        monkeypatch.setattr(storage, "write_bytes", lambda path, data: refused(path))
        raise KeyboardInterrupt
    assert f"what has arrived of {URL} cannot be kept: cannot read" in caplog.text


# A real S3 server, of which the least part is 5 MiB


@pytest.fixture
def in_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(part_objects, "LENGTH", 5 * MiB)
    return f"{s3}/a.img"


def unfinished(place: str) -> list[str]:
    """Keys of the uploads that were begun below a URL and neither completed nor given up."""
    fs, root = fsspec.core.url_to_fs(place)
    bucket, _, prefix = root.partition("/")
    return [upload["Key"] for upload in fs.list_multipart_uploads(bucket) if upload["Key"].startswith(prefix)]


@pytest.mark.parametrize("length", [1, 5 * MiB, 12 * MiB])
def test_s3_joins_the_parts_itself_and_nothing_is_left(in_s3: str, s3: str, length: int) -> None:
    data = random.Random(length).randbytes(length)
    part = begin(in_s3)
    for start in range(0, length, MiB):
        part.write(data[start : start + MiB])
    assert not storage.exists(in_s3)
    with s3_requests.listed() as requests:
        part.publish()
    assert storage.read_bytes(in_s3) == data
    assert below(s3) == [".a.img.source.json", "a.img"]
    assert unfinished(s3) == []
    assert len(requests) < 20
    if length > 5 * MiB:
        assert not [request for request in requests if request.startswith("GET") and "list-type" not in request]


def test_a_join_that_breaks_leaves_the_parts_and_no_upload(
    in_s3: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(0).randbytes(12 * MiB)
    part = begin(in_s3)
    part.write(data)
    storage.remove(f"{in_s3}.part/{NOTE.batch}-000000")
    with pytest.raises(StorageError, match=f"cannot write {in_s3}"):
        part.publish()
    assert not storage.exists(in_s3)
    assert unfinished(s3) == []
