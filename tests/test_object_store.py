"""object_store: marks of folders, processes that share a client, servers that stop for a moment."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from s3 import BUCKET, S3

from imagetl_luigi import object_store, prefetch, remote, storage
from imagetl_luigi.errors import StorageError
from imagetl_luigi.storage import Piece

DATA = bytes(range(256)) * 40


def use(place: str, name: str) -> None:
    """Write and read, one by one and in threads."""
    storage.write_bytes(f"{place}/{name}", DATA)
    with storage.atomic_write(f"{place}/{name}.again") as file:
        file.write(DATA)
    pieces = [Piece(f"{place}/{name}", start, 10) for start in range(0, len(DATA), 1000)]
    assert list(storage.read_ahead(pieces)) == [DATA[piece.offset :][:10] for piece in pieces]
    with storage.open_read(f"{place}/{name}.again") as file:
        assert file.read() == DATA
    assert name in storage.sizes(place)


def use_and_fork(place: str, name: str, depth: int) -> None:
    gc.collect()  # of what is the parent's, too
    use(place, name)
    if depth:
        in_child("fork", place, f"{name}-{depth}", depth - 1)
        use(place, name)


def in_child(method: str, place: str, name: str, depth: int = 0) -> None:
    run(method, use_and_fork, place, name, depth)


def run(method: str, function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own, which has to end well."""
    child = multiprocessing.get_context(method).Process(target=function, args=arguments)  # type: ignore[attr-defined]
    child.start()
    child.join(60)
    hung = child.is_alive()
    child.kill()
    child.join()
    assert not hung, "it hangs"
    assert child.exitcode == 0


# Processes and threads


def test_a_fork_and_its_forks_use_the_store_as_their_parent_does(s3: str) -> None:
    use(s3, "parent")
    for number in range(3):
        in_child("fork", s3, f"child {number}", depth=1)
        use(s3, "parent")


def still_there(reference: Callable[[], object]) -> None:
    gc.collect()
    assert reference() is not None


def test_a_fork_does_not_close_the_connections_of_its_parent(s3: str) -> None:
    use(s3, "parent")
    reference = weakref.ref(remote.place(s3)[0])
    run("fork", still_there, reference)
    use(s3, "parent")


@pytest.mark.slow
def test_a_fork_in_the_midst_of_requests_does_not_hang(s3: str) -> None:
    use(s3, "parent")
    ended = threading.Event()

    def keep_using(number: int) -> None:
        while not ended.is_set():
            use(s3, f"thread {number}")

    with ThreadPoolExecutor(3) as threads:
        using = [threads.submit(keep_using, number) for number in range(3)]
        try:
            for number in range(3):
                in_child("fork", s3, f"child {number}")
        finally:
            ended.set()
        for thread in using:
            thread.result(30)


@pytest.mark.slow
def test_a_spawned_process_uses_the_store_with_its_environment(s3: str) -> None:
    use(s3, "parent")
    in_child("spawn", s3, "child")


def test_threads_see_each_others_files_at_once(s3: str) -> None:
    def write_and_list(number: int) -> None:
        for turn in range(4):
            name = f"{number} {turn}"
            storage.write_bytes(f"{s3}/shared/{name}", DATA)
            assert storage.sizes(f"{s3}/shared")[name] == len(DATA)
            assert storage.size(f"{s3}/shared/{name}") == len(DATA)
            storage.remove(f"{s3}/shared/{name}")
            assert name not in storage.sizes(f"{s3}/shared")
            assert not storage.exists(f"{s3}/shared/{name}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write_and_list, range(8)))


def replace(path: str) -> None:
    storage.remove(path)
    storage.write_bytes(f"{path}.new", DATA)


def test_what_another_process_does_is_seen_at_once(s3: str) -> None:
    path = f"{s3}/folder/file"
    storage.write_bytes(path, DATA)
    assert storage.sizes(f"{s3}/folder") == {"file": len(DATA)}
    run("fork", replace, path)
    assert not storage.exists(path)
    assert storage.sizes(f"{s3}/folder") == {"file.new": len(DATA)}
    run("fork", replace, f"{path}.new")
    assert storage.sizes(f"{s3}/folder") == {"file.new.new": len(DATA)}


# Marks of folders


def test_a_mark_of_a_folder_is_no_file(s3: str) -> None:
    """Amazon's console makes one, and SeaweedFS shows one for a folder that is empty by now."""
    prefix = s3.removeprefix(f"s3://{BUCKET}/")
    fsspec.filesystem("s3").call_s3("put_object", Bucket=BUCKET, Key=f"{prefix}/folder/", Body=b"")
    assert storage.sizes(f"{s3}/folder") == {}
    storage.write_bytes(f"{s3}/folder/file", b"x")
    assert storage.sizes(f"{s3}/folder") == {"file": 1}
    storage.remove(f"{s3}/folder/file")
    assert storage.sizes(f"{s3}/folder") == {}
    assert not storage.exists(f"{s3}/folder")


def test_a_file_is_no_folder_of_itself(s3: str) -> None:
    storage.write_bytes(f"{s3}/file", b"x")
    assert storage.sizes(f"{s3}/file") == {}


def test_a_scheme_may_be_written_in_any_case(s3: str) -> None:
    storage.write_bytes(s3.replace("s3:", "S3:") + "/file", DATA)
    assert storage.read_bytes(f"{s3}/file") == DATA
    storage.write_bytes("MEMORY://place/file", DATA)
    assert storage.read_bytes("memory://place/file") == DATA


@pytest.mark.parametrize("shorter", [b"", DATA[:1000]], ids=["empty", "shorter"])
def test_a_file_that_gets_shorter_while_it_is_read_is_said(monkeypatch: pytest.MonkeyPatch, shorter: bytes) -> None:
    monkeypatch.setattr(object_store, "BLOCK", 700)
    monkeypatch.setattr(prefetch, "MOST_TOGETHER", 700)
    monkeypatch.setattr(prefetch, "MOST_AHEAD", 700)
    storage.write_bytes("memory://place/file", DATA)
    with (
        pytest.raises(StorageError, match=r"place/file was replaced by a shorter file"),
        storage.viewing("memory://place/file") as view,
    ):
        view(0, 10)
        storage.write_bytes("memory://place/file", shorter)
        view(500, 3000)


class Foreign(Exception):
    """Of a package that has nothing to do with stores."""


@pytest.mark.parametrize("error", [Foreign("scheduler"), KeyboardInterrupt(), OSError(5, "of another disk")])
def test_an_error_of_who_writes_is_not_taken_for_one_of_the_store(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, storage.atomic_write("memory://place/unwritten"):
        raise error
    assert raised.value is error
    assert not storage.exists("memory://place/unwritten")


# Outages


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["away", "silent"])
def test_a_server_that_stops_for_a_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    with S3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        place = f"{server.bucket}/place"
        use(place, "before")
        with ThreadPoolExecutor(4) as threads:
            with getattr(server, outage)():
                using = [threads.submit(use, place, f"meanwhile {number}") for number in range(4)]
                assert not any(thread.done() for thread in using)
            for thread in using:
                thread.result(60)
        assert {name for name in storage.sizes(place) if not name.endswith(".again")} == {
            "before",
            *(f"meanwhile {number}" for number in range(4)),
        }
        fsspec.filesystem("s3").clear_instance_cache()
