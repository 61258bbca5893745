"""storage: what every kind of store promises, kept alike by local files, memory, FTP, S3 and Google's.

FTP and memory stand for all file systems of fsspec that are none of objects: they go by a temporary name and a rename.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import random
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import s3_requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3 import BUCKET

from imagetl_luigi import content_type as content_types
from imagetl_luigi import object_store, prefetch, storage, upload
from imagetl_luigi.errors import StorageError
from imagetl_luigi.settings import MiB
from imagetl_luigi.storage import Piece

Write = Callable[[str, bytes], None]


def write_atomically(path: str, data: bytes) -> None:
    with storage.atomic_write(path) as file:
        file.write(data)


WRITERS = pytest.mark.parametrize("write", [storage.write_bytes, write_atomically])
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("ftp", "gs")]
KINDS = ["local", "memory", "s3", *SLOW]
NAMES = [
    "a b",
    "50%25",
    "a+b",
    "größe 日本",
    "a&b=c",
    "'\"",
    "-x",
    ".hidden",
    "{0}",
    "~",
    "a@b:c",
    "a,b",
    "$x",
    "n" * 200,
]
some_examples = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def local(tmp_path: Path) -> str:
    return str(tmp_path / "place")


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def ftp(ftp_server: str) -> Iterator[str]:
    yield f"{ftp_server}/{uuid.uuid4().hex}"
    gc.collect()  # closes its connections


@pytest.fixture
def gs(gs_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in gs_server.items():
        monkeypatch.setenv(name, value)
    for scheme in ("gs", "gcs"):
        monkeypatch.setitem(fsspec.config.conf, scheme, {"token": "anon"})
    yield f"gs://tests/{uuid.uuid4().hex}"
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    gc.collect()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> str:
    """An empty place in each kind of store."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upload as little at a time as S3 takes, and read so little, too."""
    monkeypatch.setattr(upload, "UPLOAD", 5 * MiB)


def unfinished(place: str) -> list[str]:
    """Uploads to S3 that were neither completed nor aborted: they take space, and nobody sees them."""
    if not place.startswith("s3://"):
        return []
    uploads = fsspec.filesystem("s3").call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", [])
    return [upload["Key"] for upload in uploads if f"{BUCKET}/{upload['Key']}" in place]


# Whole or nothing


@WRITERS
def test_a_written_file_holds_its_bytes_in_folders_made_for_it(place: str, write: Write) -> None:
    for data in (b"", b"x", bytes(range(256)) * 2000):
        path = f"{place}/new/folder {len(data)}/file"
        write(path, data)
        assert storage.read_bytes(path) == storage.read_if_there(path) == data
        assert storage.sizes(f"{place}/new/folder {len(data)}") == {"file": len(data)}
        assert storage.size(path) == len(data)
        assert storage.exists(path)


@WRITERS
def test_a_file_is_replaced_whole(place: str, write: Write) -> None:
    path = f"{place}/file"
    write(path, b"a long first version")
    write(path, b"second")
    assert storage.read_bytes(path) == b"second"
    assert storage.sizes(place) == {"file": 6}


@pytest.mark.parametrize("written", [100, 12 * MiB], ids=["little", "parts"])
@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "old"])
def test_an_error_in_the_middle_leaves_what_was_there_and_nothing_else(
    place: str, small_parts: None, old: bytes | None, written: int
) -> None:
    if place.startswith("gs://") and written > upload.UPLOAD:
        pytest.skip("the emulator refuses to abort an upload, and gcsfs insists for half a minute")
    path = f"{place}/file"
    if old is not None:
        storage.write_bytes(path, old)
    with pytest.raises(ZeroDivisionError), storage.atomic_write(path) as file:
        file.write(bytes(written))
        raise ZeroDivisionError
    assert storage.read_if_there(path) == old
    assert storage.sizes(place) == ({} if old is None else {"file": 3})
    assert unfinished(place) == []


def test_nothing_is_seen_of_a_file_before_it_is_whole(place: str, small_parts: None) -> None:
    path = f"{place}/file"
    with storage.atomic_write(path) as file:
        for _ in range(12):
            file.write(bytes(MiB))
            assert not storage.exists(path)
            assert "file" not in storage.sizes(place)
    assert storage.sizes(place) == {"file": 12 * MiB}
    assert unfinished(place) == []


@pytest.mark.slow
def test_a_large_file_is_written_and_read_in_bounded_memory(
    place: str, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "MOST_AHEAD", 4 * MiB)
    monkeypatch.setattr(object_store, "BLOCK", MiB)
    path, piece, count = f"{place}/file", bytes(MiB), 64
    if place.startswith("memory"):
        pytest.skip("memory holds it all")
    tracemalloc.start()
    try:
        with storage.atomic_write(path) as file:
            for number in range(count):
                file.write(piece[:-1] + bytes([number]))
        with storage.open_read(path) as file:
            for number in range(count):
                assert file.read(MiB)[-1] == number
        assert tracemalloc.get_traced_memory()[1] < 40 * MiB
    finally:
        tracemalloc.stop()
    assert storage.size(path) == count * MiB


@WRITERS
def test_an_identical_second_writer_at_the_same_time_is_harmless(place: str, write: Write) -> None:
    data = bytes(range(256)) * 100
    path = f"{place}/new/folder/file"
    at_once = threading.Barrier(4)
    seen: set[bytes | None] = set()

    def write_and_look(_: int) -> None:
        at_once.wait()
        for _ in range(3):
            write(path, data)
            seen.add(storage.read_if_there(path))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_and_look, range(4)))
    assert seen == {data}
    assert storage.sizes(f"{place}/new/folder") == {"file": len(data)}


def test_a_writer_that_is_overtaken_by_another_is_harmless(place: str, small_parts: None) -> None:
    path, data = f"{place}/file", bytes(range(256)) * 4096 * 7
    with storage.atomic_write(path) as slow:
        slow.write(data[: len(data) // 2])
        write_atomically(path, data)
        slow.write(data[len(data) // 2 :])
    assert storage.read_bytes(path) == data
    assert storage.sizes(place) == {"file": len(data)}
    assert unfinished(place) == []


# Reading


def unspoilt(place: str, data: bytes) -> bytes:
    """The data with another end: Google's emulator drops line ends there."""
    return data + b"." if place.startswith("gs://") else data


@given(data=st.binary(max_size=3000), offset=st.integers(0, 3500), length=st.integers(0, 3500))
@some_examples
def test_a_range_is_what_a_slice_is_and_shorter_at_the_end(place: str, data: bytes, offset: int, length: int) -> None:
    path = f"{place}/ranged"
    data = unspoilt(place, data)
    storage.write_bytes(path, data)
    assert storage.read_range(path, offset, length) == data[offset : offset + length]
    assert storage.read_range(path, len(data), 1) == b""


@given(
    data=st.binary(min_size=1, max_size=9000), windows=st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 5000)))
)
@some_examples
def test_views_whose_beginning_moves_on_show_what_slices_show(
    place: str, data: bytes, windows: list[tuple[int, int]]
) -> None:
    path = f"{place}/viewed"
    data = unspoilt(place, data)
    storage.write_bytes(path, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "BLOCK", 700)
        with storage.viewing(path) as view:
            for offset, length in sorted(windows):
                if offset < len(data):
                    buffer, position = view(offset, length)
                    assert buffer[position:][:length] == data[offset : offset + length]


@given(data=st.binary(max_size=9000), counts=st.lists(st.integers(0, 3000)))
@some_examples
def test_a_file_is_read_from_start_to_end_in_pieces_of_any_size(place: str, data: bytes, counts: list[int]) -> None:
    path = f"{place}/read"
    data = unspoilt(place, data)
    storage.write_bytes(path, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "BLOCK", 700)
        patch.setattr(prefetch, "MOST_TOGETHER", 1500)
        with storage.open_read(path) as file:
            read = [file.read(count) for count in counts]
            assert b"".join([*read, file.read()]) == data
            assert file.read(1) == b""
    whole = b"".join(read)
    assert whole == data[: sum(counts)]
    assert all(len(piece) <= count for piece, count in zip(read, counts, strict=True))


FILES = [bytes([number]) * 50 + bytes(range(256)) * 8 for number in range(3)]
pieces = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2300), st.integers(0, 400)), max_size=40)


@given(asked=pieces)
@some_examples
def test_read_ahead_brings_every_piece_in_order(place: str, local: str, asked: list[tuple[int, int, int]]) -> None:
    paths = [f"{place}/one", f"{place}/two", f"{local}/on this machine"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "MOST_TOGETHER", 500)
        patch.setattr(prefetch, "MOST_AHEAD", 2000)
        patch.setattr(prefetch, "_GAP", 30)
        for path, data in zip(paths, FILES, strict=True):
            if not storage.exists(path):
                storage.write_bytes(path, data)
        read = storage.read_ahead(Piece(paths[file], offset, length) for file, offset, length in asked)
        assert list(read) == [FILES[file][offset : offset + length] for file, offset, length in asked]


# What is not there


def test_a_missing_file_is_none_where_one_asks_and_an_error_where_one_reads(place: str) -> None:
    storage.write_bytes(f"{place}/file", b"")
    for path in (f"{place}/none", f"{place}/no/folder", f"{place}/file/below"):
        assert storage.stat(path) is None
        assert storage.fingerprint(path) is None
        assert storage.read_if_there(path) is None
        assert not storage.exists(path)
        for read in (
            storage.read_bytes,
            storage.size,
            lambda path: storage.read_range(path, 0, 1),
            lambda path: storage.open_read(path),
            lambda path: next(storage.read_ahead([Piece(path, 0, 1)])),
            lambda path: storage.viewing(path).__enter__(),
        ):
            with pytest.raises(StorageError, match=f"cannot read {path}: "):
                read(path)


def test_a_folder_is_no_file(place: str) -> None:
    storage.write_bytes(f"{place}/folder/file", b"x")
    assert storage.stat(f"{place}/folder") is None
    assert storage.sizes(place) == {}
    assert storage.sizes(f"{place}/none") == {}


# Names and listings


@WRITERS
def test_a_name_means_itself(place: str, write: Write) -> None:
    for name in NAMES:
        path = f"{place}/{name}/{name}"
        write(path, name.encode())
        assert storage.read_bytes(path) == name.encode()
        assert storage.read_range(path, 1, 1) == name.encode()[1:2]
        assert storage.sizes(f"{place}/{name}") == {name: len(name.encode())}
        assert storage.stat(path) is not None
        with storage.open_read(path) as file:
            assert file.read() == name.encode()
    for name in NAMES:
        storage.remove_all([f"{place}/{name}/{name}"])
        assert storage.sizes(f"{place}/{name}") == {}


def test_the_fingerprint_changes_with_the_file(place: str) -> None:
    path = f"{place}/file"
    storage.write_bytes(path, b"one")
    first = storage.fingerprint(path)
    assert first == storage.fingerprint(path)
    storage.write_bytes(path, b"three")
    assert storage.fingerprint(path) not in (None, first)


@pytest.mark.parametrize("kind", ["memory", "s3"])  # others know times to the second, or to some milliseconds
def test_the_fingerprint_changes_with_bytes_of_the_same_number(kind: str, request: pytest.FixtureRequest) -> None:
    path = f"{request.getfixturevalue(kind)}/file"
    storage.write_bytes(path, b"one")
    first = storage.fingerprint(path)
    storage.write_bytes(path, b"two")
    assert storage.fingerprint(path) != first


# Copying and listing


@pytest.mark.parametrize("size", [0, 5, 6 * MiB])
def test_a_copy_is_whole_replaces_what_was_there_and_is_a_file_of_its_own(place: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    source, copy = f"{place}/here/file", f"{place}/there/and there/copy"
    storage.write_bytes(source, data)
    storage.copy(source, copy)
    assert storage.read_bytes(copy) == data
    storage.write_bytes(source, b"new")
    assert storage.read_bytes(copy) == data
    storage.copy(source, copy)
    storage.copy(source, copy)
    assert storage.read_bytes(copy) == b"new"
    storage.remove(source)
    assert storage.read_bytes(copy) == b"new"
    assert storage.sizes(f"{place}/there/and there").keys() == {"copy"}


def test_a_copy_of_what_is_not_there_is_an_error_and_leaves_nothing(place: str) -> None:
    with pytest.raises(StorageError):
        storage.copy(f"{place}/none", f"{place}/copy")
    assert storage.stat(f"{place}/copy") is None


def test_on_this_machine_a_copy_takes_no_space(local: str) -> None:
    storage.write_bytes(f"{local}/a", b"x")
    storage.copy(f"{local}/a", f"{local}/b")
    assert os.path.samefile(f"{local}/a", f"{local}/b")


def test_of_a_symbolic_link_the_file_is_copied(local: str) -> None:
    storage.write_bytes(f"{local}/a/real", b"data")
    os.symlink("real", f"{local}/a/link")
    storage.copy(f"{local}/a/link", f"{local}/b/copy")
    assert storage.read_bytes(f"{local}/b/copy") == b"data"


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_where_there_are_no_links_the_bytes_are_copied(
    local: str, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, "no links here")

    storage.write_bytes(f"{local}/a", b"data")
    monkeypatch.setattr(os, "link", refuse)
    storage.copy(f"{local}/a", f"{local}/b")
    assert storage.read_bytes(f"{local}/b") == b"data"
    assert not os.path.samefile(f"{local}/a", f"{local}/b")


def test_folders_are_listed_by_name_and_files_are_none_of_them(place: str) -> None:
    for name in ("2026-11-23/clip.gif", "2026-11-24/frames/frame_00.gif", "file"):
        storage.write_bytes(f"{place}/{name}", b"x")
    assert storage.folders(place) == {"2026-11-23", "2026-11-24"}
    assert storage.folders(f"{place}/2026-11-23") == set()
    assert storage.folders(f"{place}/none") == set()


# Removing


def test_what_is_removed_is_gone_and_what_is_not_there_does_not_matter(place: str) -> None:
    for name in ("a", "b", "c", "d", "folder/a"):
        storage.write_bytes(f"{place}/{name}", b"x")
    storage.remove(f"{place}/a")
    storage.remove(f"{place}/a")
    storage.remove(f"{place}/none/a")
    storage.remove_all([f"{place}/{name}" for name in ("none", "b", "a", "folder/a", "folder/none", "c")])
    storage.remove_all([])
    assert storage.sizes(place) == {"d": 1}
    assert storage.sizes(f"{place}/folder") == {}


@pytest.mark.parametrize("kind", ["local", "memory", "s3"])
def test_a_name_is_never_a_pattern(kind: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(kind)
    for other in ("ab", "a"):
        storage.write_bytes(f"{place}/{other}", b"x")
    for name in ("a*", "a?", "[a]b", "*"):
        storage.write_bytes(f"{place}/{name}", b"x")
        storage.remove_all([f"{place}/{name}"])
        assert storage.sizes(place) == {"ab": 1, "a": 1}
        storage.write_bytes(f"{place}/{name}", b"x")
        storage.remove(f"{place}/{name}")
        assert storage.sizes(place) == {"ab": 1, "a": 1}


# One holder


def test_a_place_is_held_by_one_at_a_time(place: str) -> None:
    waits, held = threading.Event(), threading.Event()

    def hold() -> None:
        with storage.locked(place, waits.set):
            held.set()

    with storage.locked(place, lambda: pytest.fail("nobody holds it")):
        other = threading.Thread(target=hold)
        other.start()
        assert waits.wait(20)
        assert not held.is_set()
    other.join(20)
    assert held.is_set()


def test_a_folder_is_removed_when_nothing_is_in_it(place: str) -> None:
    folder = f"{place}/folder"
    storage.write_bytes(f"{folder}/file", b"x")
    storage.write_bytes(f"{folder}/inner/file", b"x")
    for path in (f"{folder}/file", f"{folder}/inner/file"):
        storage.remove_folder(folder)
        assert storage.read_bytes(path) == b"x"
        storage.remove(path)
        storage.remove_folder(f"{folder}/inner")
    storage.remove_folder(folder)
    storage.remove_folder(folder)
    assert storage.sizes(folder) == {}
    if not place.startswith(("s3://", "gs://")):  # where a folder is but a part of names
        assert storage.folders(place) == set()


# What browsers are told


def content_type(path: str) -> str:
    """The Content-Type that the store gives for an object."""
    fs, key = fsspec.core.url_to_fs(path)
    if path.startswith("s3:"):
        bucket, name, _ = fs.split_path(key)
        return str(fs.call_s3("head_object", Bucket=bucket, Key=name)["ContentType"])
    fs.invalidate_cache()
    return str(fs.info(key)["contentType"])


@pytest.mark.parametrize("kind", ["s3", pytest.param("gs", marks=pytest.mark.slow)])
def test_an_object_has_the_content_type_of_its_name_however_it_is_made(
    kind: str, request: pytest.FixtureRequest, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = request.getfixturevalue(kind)
    monkeypatch.setitem(content_types._TYPES, ".ours", "image/ours; of=this")  # SeaweedFS guesses those it knows
    page, picture, large = f"{place}/new/index.html", f"{place}/new/a.ours", bytes(6 * MiB)
    for write, data in itertools.product((storage.write_bytes, write_atomically), (b"small", large)):
        storage.remove_all([page, picture])
        write(page, data)
        write(picture, data)
        kinds = ["text/html; charset=utf-8", "image/ours; of=this"]
        if (kind, write) == ("gs", storage.write_bytes):
            kinds = ["text/html", "image/ours"]  # the emulator forgets the rest of it
        assert [content_type(page), content_type(picture)] == kinds
    storage.copy(picture, f"{place}/copy.ours")
    monkeypatch.setattr("s3fs.core.MANAGED_COPY_THRESHOLD", 0)  # as if it had more than 5 GB
    storage.copy(picture, f"{place}/in parts.ours")
    object_store.merge(f"{place}/joined.ours", [page, page])
    for name in ("copy", "in parts", "joined"):
        assert content_type(f"{place}/{name}.ours") == "image/ours; of=this"


# Requests, which are what costs time


def test_each_verb_costs_one_request(s3: str) -> None:
    path = f"{s3}/folder/file"
    storage.write_bytes(path, b"warm")  # a first request may look for credentials
    for number in range(20):
        storage.write_bytes(f"{s3}/folder/{number}", b"x")
    verbs: list[tuple[str, Callable[[], object]]] = [
        ("PUT", lambda: storage.write_bytes(path, b"some data")),
        ("PUT", lambda: write_atomically(path, b"some data")),
        ("HEAD", lambda: storage.stat(path)),
        ("GET", lambda: storage.read_bytes(path)),
        ("GET", lambda: storage.read_if_there(path)),
        ("GET", lambda: storage.read_range(path, 2, 3)),
        ("GET", lambda: storage.sizes(f"{s3}/folder")),
        ("GET", lambda: storage.folders(s3)),
        ("GET", lambda: list(storage.read_ahead([Piece(path, 0, 2), Piece(path, 4, 2), Piece(path, 6, 1)]))),
        ("DELETE", lambda: storage.remove(path)),
    ]
    for method, act in verbs:
        with s3_requests.listed() as requests:
            act()
        assert [request.partition(" ")[0] for request in requests] == [method]


@pytest.mark.slow
def test_thousands_of_names_take_a_request_for_each_thousand(s3: str) -> None:
    names = [f"frame_{number:05d}.gif" for number in range(2_100)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: storage.write_bytes(f"{s3}/frames/{name}", name.encode()), names))
    with s3_requests.listed() as requests:
        assert storage.sizes(f"{s3}/frames") == dict.fromkeys(names, 15)
    assert len(requests) == 3
    with s3_requests.listed() as requests:
        storage.remove_all(f"{s3}/frames/{name}" for name in names)
    assert [request.partition(" ")[0] for request in requests] == ["POST"] * 3 + ["GET"]
    assert storage.sizes(f"{s3}/frames") == {}
