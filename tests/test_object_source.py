"""object_source: a stream that lies in an object store itself."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3_requests
from s3 import READER_KEY, READER_SECRET

from imagetl_luigi import object_source, part_objects, prefetch, storage
from imagetl_luigi.download import fetch
from imagetl_luigi.errors import DownloadError, StorageError
from imagetl_luigi.settings import DownloadSettings, Limits
from imagetl_luigi.source import Source, read_record

BODY = random.Random(3).randbytes(10_500)


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read 1,000 bytes at a time, and store 3,500."""
    monkeypatch.setattr(object_source, "_REQUEST", 1_000)
    monkeypatch.setattr(prefetch, "MOST_TOGETHER", 1_000)
    monkeypatch.setattr(part_objects, "LENGTH", 3_500)
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def in_memory() -> str:
    return "memory://cams/a b/größe.img"


@pytest.fixture
def in_s3(s3: str) -> str:
    return f"{s3}/cams/a b/größe.img"


@pytest.fixture(params=["memory to local", "memory to memory", "s3 to local"])
def places(request: pytest.FixtureRequest, in_memory: str, in_s3: str, tmp_path: Path) -> tuple[str, str]:
    """Where the stream lies, and the data file that it is copied to."""
    source, target = request.param.split(" to ")
    where = in_memory if source == "memory" else in_s3
    storage.write_bytes(where, BODY)
    return where, str(tmp_path / "w/image-data.img") if target == "local" else "memory://w/image-data.img"


@pytest.fixture
def url(places: tuple[str, str]) -> str:
    return places[0]


@pytest.fixture
def data_file(places: tuple[str, str]) -> str:
    return places[1]


@pytest.fixture
def local(tmp_path: Path) -> str:
    return str(tmp_path / "w/image-data.img")


def get(url: str, data_file: str, *, retries: int = 2, limits: Limits | None = None, progress: Any = None) -> Source:
    return fetch(
        url,
        data_file,
        settings=DownloadSettings(retries=retries, retry_wait=0),
        limits=limits or Limits(),
        progress=progress or (lambda *_: None),
    )


def at(size: int, act: Callable[[], object]) -> Callable[[int, int | None], None]:
    """A progress callback that does something once, when so many bytes are there."""
    acts = [act]

    def progress(there: int, _: int | None) -> None:
        if there >= size and acts:
            acts.pop()()

    return progress


def interrupt() -> None:
    raise KeyboardInterrupt


def left(data_file: str) -> list[str]:
    """Names in the folder of the data file and below it."""
    fs, folder = fsspec.core.url_to_fs(data_file.rpartition("/")[0])
    return sorted(name[len(folder) + 1 :] for name in fs.find(folder))


def test_an_object_is_copied_whole_with_its_record(url: str, data_file: str) -> None:
    steps: list[tuple[int, int | None]] = []
    source = get(url, data_file, progress=lambda *step: steps.append(step))
    assert storage.read_bytes(data_file) == BODY
    assert (source.url, source.length, source.sha256) == (url, len(BODY), hashlib.sha256(BODY).hexdigest())
    assert source.etag == storage.stat(url).version  # type: ignore[union-attr]
    assert read_record(data_file) == (source, storage.fingerprint(data_file))
    assert left(data_file) == [".image-data.img.source.json", "image-data.img"]
    assert steps[-1] == (len(BODY), len(BODY))


def test_an_object_that_is_known_is_not_read(url: str, data_file: str) -> None:
    source = get(url, data_file)
    other = f"{data_file.rpartition('/')[0]}/other/b.img"
    quick = {"settings": DownloadSettings(), "limits": Limits(), "progress": lambda *_: None}
    assert fetch(url, other, known=source, **quick) is None
    assert left(other) == []
    storage.write_bytes(url, BODY[::-1])
    assert fetch(url, other, known=source, **quick)
    assert storage.read_bytes(other) == BODY[::-1]


def test_an_interrupted_copy_is_gone_on_with(in_s3: str, local: str) -> None:
    storage.write_bytes(in_s3, BODY)
    with pytest.raises(KeyboardInterrupt):
        get(in_s3, local, progress=at(6_000, interrupt))
    assert not storage.exists(local)
    with s3_requests.listed() as requests:
        get(in_s3, local)
    assert storage.read_bytes(local) == BODY
    asked = [request for request in requests if request.startswith("GET")]
    assert 5 <= len(asked) < 10, "some that were read ahead may be sent after the interrupt"
    assert left(local) == [".image-data.img.source.json", "image-data.img"]


@pytest.mark.parametrize("other", [BODY[::-1], BODY[:700], BODY * 2], ids=len)
def test_an_object_that_is_replaced_meanwhile_is_begun_anew(url: str, data_file: str, other: bytes) -> None:
    get(url, data_file, progress=at(3_000, lambda: storage.write_bytes(url, other)))
    assert storage.read_bytes(data_file) == other
    assert left(data_file) == [".image-data.img.source.json", "image-data.img"]


@pytest.mark.parametrize("other", [BODY[::-1], BODY[:700], BODY * 2], ids=len)
def test_an_object_that_was_replaced_between_two_runs_is_begun_anew(url: str, data_file: str, other: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        get(url, data_file, progress=at(6_000, interrupt))
    storage.write_bytes(url, other)
    get(url, data_file)
    assert storage.read_bytes(data_file) == other


def test_an_object_that_never_stays_the_same_is_given_up(in_memory: str, local: str) -> None:
    storage.write_bytes(in_memory, BODY)
    with pytest.raises(DownloadError, match=f"{in_memory} was replaced while it was copied"):
        get(in_memory, local, progress=lambda *_: storage.write_bytes(in_memory, BODY))
    assert left(local) == []


def test_an_object_that_is_removed_meanwhile_is_said_and_gone_on_with_when_it_is_back(in_s3: str, local: str) -> None:
    storage.write_bytes(in_s3, BODY * 4)
    with pytest.raises(StorageError, match=r"cannot read .*; was it removed meanwhile\?"):
        get(in_s3, local, progress=at(1_000, lambda: storage.remove(in_s3)))
    assert not storage.exists(local)
    storage.write_bytes(in_s3, BODY * 4)
    get(in_s3, local)
    assert storage.read_bytes(local) == BODY * 4


def test_a_missing_object_is_said_and_leaves_nothing(url: str, data_file: str) -> None:
    for missing in (f"{url}.none", url.rpartition("/")[0]):
        with pytest.raises(DownloadError, match=r"there is no object .*; check the url"):
            get(missing, data_file)
    assert left(data_file) == []


def test_an_object_that_may_not_be_read_is_said_and_leaves_nothing(
    in_s3: str, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(in_s3, BODY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)  # which is not that of the key
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StorageError, match=r"cannot read .*; the credentials in use do not allow it") as error:
        get(in_s3, local)
    assert READER_SECRET not in str(error.value)
    assert left(local) == []


def test_whoever_may_only_read_can_copy_it(in_s3: str, local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(in_s3, BODY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    fsspec.filesystem("s3").clear_instance_cache()
    get(in_s3, local)
    assert storage.read_bytes(local) == BODY


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"", "is empty"), (b"<!DOCTYPE html>", "is a web page"), (BODY, r"more than \[limits\] stream_bytes")],
    ids=["empty", "web page", "too large"],
)
def test_what_cannot_hold_frames_is_refused_and_leaves_nothing(
    in_memory: str, local: str, body: bytes, message: str
) -> None:
    storage.write_bytes(in_memory, body)
    with pytest.raises(DownloadError, match=message):
        get(in_memory, local, limits=Limits(stream_bytes=10_000))
    assert left(local) == []


def test_a_copy_that_takes_too_long_is_gone_on_with_by_the_next_run(in_memory: str, local: str) -> None:
    storage.write_bytes(in_memory, BODY)
    with pytest.raises(DownloadError, match=r"sent 1,000 bytes within \[download\] total_timeout; run again to go on"):
        fetch(
            in_memory,
            local,
            settings=DownloadSettings(total_timeout=0),
            limits=Limits(),
            progress=lambda *_: None,
        )
    steps: list[int] = []
    get(in_memory, local, progress=lambda there, _: steps.append(there))
    assert steps[0] == 2_000
    assert storage.read_bytes(local) == BODY
