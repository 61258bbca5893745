"""Fetching: the whole file or none, whatever the server, the network, the disk or the user does."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3_requests
from hypothesis import given, settings
from hypothesis import strategies as st
from s3 import READER_KEY, READER_SECRET, S3
from server import (
    Fault,
    Server,
    chunked,
    cut,
    drip,
    gzipped,
    header,
    hold,
    ignore_if_range,
    ignore_range,
    redirect,
    silent,
    status,
)
from waiting import wait_until
from workflow import file_url

from imagetl_luigi import part_objects, storage
from imagetl_luigi.download import fetch
from imagetl_luigi.errors import DownloadError, ParameterError, StorageError
from imagetl_luigi.settings import DownloadSettings, Limits, MiB
from imagetl_luigi.source import Source, read_record, record_path

BODY = random.Random(1).randbytes(10_000)
LONG_AGO = "Wed, 01 Jan 2020 00:00:00 GMT"

RUN = """
import sys
from imagetl_luigi.download import fetch
from imagetl_luigi.settings import DownloadSettings, Limits
fetch(*sys.argv[1:], settings=DownloadSettings(), limits=Limits(), progress=lambda *_: None)
"""

RUN_OVERTAKEN = """
def overtake(event, _, overtaken=[]):
    if event == "fcntl.flock" and not overtaken:
        overtaken.append(True)
        fetch(*sys.argv[1:], settings=DownloadSettings(), limits=Limits(), progress=lambda *_: None)
import sys
sys.addaudithook(overtake)
"""
"""Before it locks the part, which is open by then, another run fetches all and publishes."""


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A data file on this machine."""
    return str(tmp_path / "workspace" / "image-data.img")


@pytest.fixture(params=["local", pytest.param("memory", marks=pytest.mark.slow)])
def data_file(request: pytest.FixtureRequest, local: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A data file here, or in a store, where its bytes arrive in parts of 3,500."""
    monkeypatch.setattr(part_objects, "LENGTH", 3_500)
    yield local if request.param == "local" else f"memory:/{local}"
    fsspec.filesystem("memory").store.clear()


def get(url: str, data_file: str, **options: Any) -> Source:
    source = get_unless(None, url, data_file, **options)
    assert source
    return source


def get_unless(
    known: Source | None,
    url: str,
    data_file: str,
    *,
    limits: Limits | None = None,
    progress: Any = None,
    **chosen: float,
) -> Source | None:
    quick: dict[str, Any] = {"retry_wait": 0.0, "connect_timeout": 5.0, "read_timeout": 5.0, "total_timeout": 60.0}
    return fetch(
        url,
        data_file,
        settings=DownloadSettings(**quick | chosen),
        limits=limits or Limits(),
        progress=progress or (lambda *_: None),
        known=known,
    )


def read(path: str) -> bytes:
    return storage.read_bytes(path)


def asked(server: Server, name: str) -> list[str | None]:
    return [request.headers[name] for request in server.requests]


def files(data_file: str) -> list[str]:
    """Names of all that is in the folder of the data file and below it."""
    fs, folder = fsspec.core.url_to_fs(data_file.rpartition("/")[0])
    fs.invalidate_cache()
    return sorted(filter(None, (name[len(folder) + 1 :] for name in fs.find(folder))))


def arrived(data_file: str) -> int:
    """Bytes of it that wait for the rest."""
    folder = os.path.dirname(data_file)
    names = [name for name in files(data_file) if re.fullmatch(r"[^.].*\.part(/\w+-\d+)?", name)]
    return sum(storage.size(f"{folder}/{name}") for name in names)


# A version that is known


@pytest.mark.parametrize("names", [{"etag": '"1"'}, {"last_modified": LONG_AGO}, {"etag": '"1"', "last_modified": "x"}])
def test_a_version_that_is_known_is_not_sent_again_and_leaves_nothing(
    server: Server, data_file: str, names: dict[str, str]
) -> None:
    url = server.put("/a.img", BODY, **names)
    source = get(url, data_file)
    assert source.validator == names.get("etag", LONG_AGO)
    other = f"{os.path.dirname(data_file)}/other/b.img"
    server.once(status(503))  # the question is as patient as the download
    assert get_unless(source, url, other) is None
    assert [request.sent for request in server.requests] == [len(BODY), 2, 0]
    assert files(other) == []
    server.put("/a.img", BODY[::-1], etag='"2"')
    changed = get_unless(source, url, other)
    assert changed
    assert read(other) == BODY[::-1]


@pytest.mark.parametrize("names", [{}, {"etag": 'W/"1"'}, {"last_modified": LONG_AGO, "Date": LONG_AGO}])
def test_what_is_no_strong_validator_makes_no_version_known(
    server: Server, data_file: str, names: dict[str, str]
) -> None:
    assert get(server.put("/a.img", BODY, **names), data_file).validator is None


def test_a_304_about_an_etag_that_became_weak_is_not_believed(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='W/"1"')
    source = get_unless(version(url, '"1"'), url, data_file)
    assert source
    assert read(data_file) == BODY
    assert asked(server, "If-None-Match") == ['"1"', None]


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
def test_a_304_that_does_not_name_the_version_is_not_believed(server: Server, data_file: str, name: str) -> None:
    url = server.put("/a.img", BODY, **{name: LONG_AGO if name == "Last-Modified" else '"1"'})  # type: ignore[arg-type]
    known = version(url, LONG_AGO if name == "Last-Modified" else '"1"')
    server.once(header(name, None))
    assert get_unless(known, url, data_file)
    assert [request.sent for request in server.requests] == [0, len(BODY)]


def test_a_304_is_believed_only_from_where_the_version_came(server: Server, data_file: str) -> None:
    old, new = server.put("/24.img", BODY, etag='"1"'), server.put("/25.img", BODY[::-1], etag='"1"')
    latest = server.put("/latest", b"")
    server.once(redirect(old))
    source = get(latest, data_file)
    assert source.location == old
    other = f"{os.path.dirname(data_file)}/other/b.img"
    server.once(redirect(old))
    assert get_unless(source, latest, other) is None
    for _ in range(2):  # with the question, and without
        server.once(redirect(new))
        server.once()
    assert get_unless(source, latest, other)
    assert read(other) == BODY[::-1]


def version(url: str, validator: str) -> Source:
    """A version of the source that was fetched before."""
    return Source(url=url, validator=validator, length=len(BODY), sha256="")


def test_what_was_begun_is_of_another_version_and_gone_on_with(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='"2"')
    server.always(cut(4_000))
    with pytest.raises(DownloadError):
        get_unless(version(url, '"1"'), url, data_file, retries=0)
    server.always()
    assert get_unless(version(url, '"1"'), url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "If-None-Match") == ['"1"', None]


# The whole file


def test_the_whole_file_appears_with_its_record_and_nothing_else(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"', last_modified=LONG_AGO)
    steps: list[tuple[int, int | None]] = []
    source = get(url, data_file, progress=lambda *step: steps.append(step))
    assert read(data_file) == BODY
    assert files(data_file) == [os.path.basename(record_path(data_file)), "image-data.img"]
    assert read_record(data_file) == (source, storage.fingerprint(data_file))
    assert source.fetched_at and datetime.fromisoformat(source.fetched_at) <= datetime.now(UTC)
    assert (source.url, source.etag, source.last_modified, source.length, source.sha256) == (
        url,
        '"1"',
        LONG_AGO,
        len(BODY),
        hashlib.sha256(BODY).hexdigest(),
    )
    assert steps[-1] == (len(BODY), len(BODY))
    assert asked(server, "Accept-Encoding") == ["identity"]


@pytest.mark.parametrize("path", ["/two words.img", "/50%.img", "/a&b;c='d'\"e\".img", "/größe/日本.img", "/a+b.img"])
@pytest.mark.parametrize("query", ["", "?raw=true&name=ü x&quote='\""])
def test_any_characters_may_stand_in_a_url(server: Server, data_file: str, path: str, query: str) -> None:
    for url in (server.put(path, BODY) + query, server.url() + path + query):
        get(url, data_file)
        assert read(data_file) == BODY
        storage.remove(data_file)


def test_redirects_are_followed_to_another_server_and_so_is_the_rest(server: Server, data_file: str) -> None:
    with Server() as elsewhere:
        target = elsewhere.put("/b.img", BODY, etag='"1"')
        server.always(redirect(target))
        elsewhere.once(cut(4000))
        source = get(server.url("/a.img"), data_file)
        assert asked(elsewhere, "Range") == [None, "bytes=4000-"]
    assert read(data_file) == BODY
    assert source.url == server.url("/a.img")


def test_a_compressed_body_is_unpacked_and_never_gone_on_with(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    server.once(gzipped, cut(4000))
    server.once(gzipped)
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, None]


@pytest.mark.parametrize(
    "body",
    [b"<!---->" * 500, b"<!-- no end <html>", b"<htmlx>", b"GIF89a<html>", b"\n\n\n\n", b"<?xml ?><svg/>"],
    ids=repr,
)
def test_what_only_resembles_a_web_page_is_taken(server: Server, data_file: str, body: bytes) -> None:
    get(server.put("/a.img", body), data_file)
    assert read(data_file) == body


# What passes


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param((status(500),), id="500"),
        pytest.param((status(502),), id="502"),
        pytest.param((status(429),), id="429"),
        pytest.param((status(408),), id="408"),
        pytest.param((cut(0),), id="no body"),
        pytest.param((cut(1),), id="one byte"),
        pytest.param((chunked, cut(9000)), id="half a chunk"),
        pytest.param((cut(9000), chunked), id="no last chunk"),
        pytest.param((hold(4000),), id="nothing more"),
        pytest.param((silent,), id="no answer"),
    ],
)
@pytest.mark.parametrize("validator", [{"etag": '"1"'}, {"last_modified": LONG_AGO}, {}], ids=["etag", "date", "none"])
def test_what_passes_is_tried_again(
    server: Server, data_file: str, faults: tuple[Fault, ...], validator: dict[str, str]
) -> None:
    url = server.put("/a.img", BODY, **validator)
    server.once(*faults)
    get(url, data_file, read_timeout=0.1)
    assert read(data_file) == BODY
    assert len(server.requests) == 2


def test_a_length_that_was_too_long_once_is_begun_anew(
    server: Server, data_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    server.once(header("Content-Length", str(len(BODY) + 1)))
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, "bytes=10000-", None]
    assert f"{url} has no byte 10,000" in caplog.text


@pytest.mark.parametrize("validator", [{}, {"last_modified": LONG_AGO}], ids=["etag", "etag and date"])
@pytest.mark.parametrize("framing", [(), (chunked,)], ids=["length", "chunked"])
def test_no_byte_is_fetched_twice(
    server: Server, data_file: str, validator: dict[str, str], framing: tuple[Fault, ...]
) -> None:
    url = server.put("/a.img", BODY, etag='"1"', **validator)
    server.once(cut(3000), *framing)
    server.once(cut(4000), *framing)
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, "bytes=3000-", "bytes=7000-"]
    assert asked(server, "If-Range") == [None, '"1"', '"1"']
    assert framing or sum(request.sent for request in server.requests) == len(BODY)


def test_a_date_serves_where_there_is_no_etag(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, last_modified=LONG_AGO)
    server.once(cut(3000))
    get(url, data_file)
    assert asked(server, "If-Range") == [None, LONG_AGO]
    assert sum(request.sent for request in server.requests) == len(BODY)


@pytest.mark.parametrize(
    "validator",
    [
        {"etag": 'W/"1"'},
        {"etag": 'W/"1"', "last_modified": LONG_AGO},
        {"last_modified": formatdate(32503680000, usegmt=True)},
        {"last_modified": "yesterday"},
        {"last_modified": LONG_AGO, "Date": LONG_AGO},
    ],
    ids=["weak", "weak-with-date", "date-to-come", "no-date", "date-of-this-second"],
)
def test_what_is_no_strong_validator_is_never_given_to_if_range(
    server: Server, data_file: str, validator: dict[str, str]
) -> None:
    url = server.put("/a.img", BODY, **validator)
    server.once(cut(3000))
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == asked(server, "If-Range") == [None, None]


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        ((ignore_range,), 2),
        ((status(416),), 3),
        ((header("Content-Range", f"bytes 3001-9999/{len(BODY)}"),), 3),
        ((header("Content-Range", f"bytes 3000-9998/{len(BODY) - 1}"),), 3),
        ((header("Content-Range", "pages 3000-9999/10000"),), 3),
        ((header("Content-Range", None),), 3),
        ((header("ETag", '"2"'),), 3),
        ((gzipped,), 3),
    ],
    ids=["200", "416", "wrong-start", "wrong-length", "wrong-unit", "no-content-range", "other-etag", "compressed"],
)
def test_a_rest_that_does_not_fit_is_dropped_and_all_begun_anew(
    server: Server, data_file: str, faults: tuple[Fault, ...], requests: int
) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    server.once(cut(3000))
    server.once(*faults)
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, "bytes=3000-", None][:requests]


def test_a_206_that_is_not_asked_for_is_not_taken(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY)
    server.once(lambda response: response.give(206, BODY[5:], {"Content-Range": "bytes 5-9999/10000"}))
    get(url, data_file)
    assert read(data_file) == BODY


def test_a_file_replaced_by_a_shorter_one_is_fetched_anew(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    server.once(cut(3000))
    with pytest.raises(DownloadError, match="broke off"):
        get(url, data_file, retries=0)
    server.put("/a.img", BODY[:100], etag='"1"')
    get(url, data_file)
    assert read(data_file) == BODY[:100]


VERSIONS = [random.Random(seed).randbytes(length) for seed, length in enumerate([400, 400, 300])]
NAMES = [
    lambda version: {"etag": f'"{version}"'},
    lambda version: {"last_modified": f"Wed, 0{version + 1} Jan 2020 00:00:00 GMT"},
    lambda version: {"etag": f'W/"{version}"', "last_modified": LONG_AGO},
]


@settings(max_examples=25)
@given(
    names=st.sampled_from(NAMES),
    tries=st.lists(
        st.tuples(
            st.sampled_from(range(len(VERSIONS))),
            st.sampled_from([ignore_if_range, ignore_range, gzipped, chunked]),
            st.integers(1, 400),
        ),
        min_size=2,
        max_size=4,
    ),
)
@pytest.mark.parametrize("store", ["", "memory:/"])
def test_bytes_of_two_versions_are_never_mixed(store: str, names: Any, tries: list[tuple[int, Fault, int]]) -> None:
    with Server() as server, tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patching:
        patching.setattr(part_objects, "LENGTH", 150)
        data_file = f"{store}{folder}/data"
        for version, fault, end in tries:
            url = server.put("/a.img", VERSIONS[version], **names(version))
            server.once(fault, cut(end))
            with contextlib.suppress(DownloadError):
                get(url, data_file, retries=0)
            assert not storage.exists(data_file) or read(data_file) in VERSIONS
        url = server.put("/a.img", VERSIONS[0], **names(0))
        assert get(url, data_file).length == len(read(data_file))
        assert read(data_file) in VERSIONS


# Waiting


def in_two_seconds() -> str:
    return formatdate(datetime.now(UTC).timestamp() + 2, usegmt=True)


@pytest.mark.parametrize("when", [lambda: "1", in_two_seconds], ids=["seconds", "date"])
def test_a_server_that_asks_for_time_gets_it(
    server: Server, local: str, caplog: pytest.LogCaptureFixture, when: Any
) -> None:
    url = server.put("/a.img", BODY)
    server.once(status(503, retry_after=when()))
    get(url, local)
    first, second = server.requests
    assert second.at - first.at > 0.9
    assert f"{url} answered 503 Service Unavailable; trying again in" in caplog.text


@pytest.mark.parametrize("when", ["", "soon", "-1", "1.5", LONG_AGO, "Wed, 01 Jan 2030 00:00:00 +99999999999999999999"])
def test_a_retry_after_that_says_nothing_is_overlooked(server: Server, data_file: str, when: str) -> None:
    url = server.put("/a.img", BODY)
    server.once(status(503, retry_after=when))
    get(url, data_file)
    assert read(data_file) == BODY


@pytest.mark.parametrize("when", ["3600", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_nobody_waits_longer_than_the_whole_download_may_take(server: Server, data_file: str, when: str) -> None:
    server.always(status(503, retry_after=when))
    with pytest.raises(DownloadError, match="503"):
        get(server.url("/a.img"), data_file)
    assert len(server.requests) == 1


# What does not pass


@pytest.mark.parametrize(
    ("faults", "requests", "message"),
    [
        ((status(404),), 1, "answered 404 Not Found; check the URL"),
        ((status(403),), 1, "answered 403 Forbidden"),
        ((status(204),), 1, "answered 204"),
        ((status(500),), 3, "answered 500"),
        ((cut(0),), 3, "broke off"),
        ((cut(100),), 3, "broke off"),
        ((chunked, cut(100)), 3, "broke off"),
        ((header("Content-Length", str(len(BODY) + 1)),), 3, "broke off"),
        ((silent,), 3, "timed out"),
        ((hold(100),), 3, "timed out"),
        ((lambda response: response.give(200, b"", {}),), 1, "is empty"),
        ((lambda response: response.give(200, b"\n<!-- x --><!DOCTYPE html>", {}),), 1, "is a web page"),
        ((lambda response: response.give(200, b'\xef\xbb\xbf<?xml version="1.0"?><HTML>', {}),), 1, "is a web page"),
        ((redirect("/a.img"),), 31, "Exceeded 30 redirects"),
        ((redirect("ftp://example.org/a.img"),), 1, "cannot be fetched"),
        ((redirect("http://[/"),), 1, "cannot be fetched"),
        ((redirect("http://127.0.0.1:99999/"),), 1, "cannot be fetched"),
    ],
)
def test_what_does_not_pass_is_one_clear_error_and_no_file(
    server: Server, data_file: str, faults: tuple[Fault, ...], requests: int, message: str
) -> None:
    url = server.put("/a.img", BODY)
    server.always(*faults)
    with pytest.raises(DownloadError, match=message) as error:
        get(url, data_file, read_timeout=0.1)
    assert str(error.value).startswith(url)
    assert len(server.requests) == requests
    assert files(data_file) == []


@pytest.mark.parametrize("faults", [(), (chunked,)], ids=["by-its-length", "by-its-bytes"])
def test_a_stream_beyond_the_limit_is_refused(server: Server, data_file: str, faults: tuple[Fault, ...]) -> None:
    url = server.put("/a.img", BODY)
    server.always(*faults)
    with pytest.raises(DownloadError, match=r"more than \[limits\] stream_bytes = 9,999 bytes"):
        get(url, data_file, limits=Limits(stream_bytes=9_999))
    assert len(server.requests) == 1
    assert files(data_file) == []
    get(url, data_file, limits=Limits(stream_bytes=10_000))


def test_a_body_that_drips_for_too_long_is_given_up_and_gone_on_with_by_the_next_run(
    server: Server, data_file: str
) -> None:
    url = server.put("/a.img", BODY[:200], etag='"1"')
    server.once(drip(0.02))
    with pytest.raises(DownloadError, match=r"within \[download\] total_timeout; run again to go on"):
        get(url, data_file, total_timeout=0.1)
    assert len(server.requests) == 1
    got = arrived(data_file)
    get(url, data_file)
    assert asked(server, "Range") == [None, f"bytes={got}-"]
    assert read(data_file) == BODY[:200]


@contextlib.contextmanager
def deaf_port(*, backlog: bool) -> Iterator[int]:
    """A port that refuses connections, or one whose queue is full, so that they are not even refused."""
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        if backlog:
            bound.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(bound.getsockname())
        yield bound.getsockname()[1]


@pytest.mark.parametrize(("backlog", "reason"), [(False, "Connection refused"), (True, "timed out")])
def test_a_server_that_is_not_there_is_asked_two_times_more(
    data_file: str, caplog: pytest.LogCaptureFixture, backlog: bool, reason: str
) -> None:
    with deaf_port(backlog=backlog) as port, pytest.raises(DownloadError, match=reason):
        get(f"http://127.0.0.1:{port}/a.img", data_file, connect_timeout=0.1)
    assert caplog.text.count("trying again") == 2
    assert files(data_file) == []


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'a' * 64}.example", "a..example", "*.example", ":80"])
def test_a_host_that_cannot_be_is_a_download_error(data_file: str, host: str) -> None:
    with pytest.raises(DownloadError):
        get(f"http://{host}/a.img", data_file)
    assert files(data_file) == []


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "zip://a.img::s3://bucket/a.zip",
        "HTPP://example.org/a.img",
        "http://",
        "http:///a.img",
        "http://?a",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        "file://host/a.img",
    ],
)
def test_what_is_no_url_to_fetch_is_a_parameter_error(data_file: str, url: str) -> None:
    with pytest.raises(ParameterError):
        get(url, data_file)
    assert files(data_file) == []


# Local files


@pytest.mark.parametrize(
    "name", ["a.img", "two words.img", "50%25.img", "a#b?c=d&e.img", "größe 日本.img", "http:a.img"]
)
def test_paths_and_file_urls_are_copied(tmp_path: Path, data_file: str, name: str) -> None:
    original = tmp_path / name
    original.write_bytes(BODY)
    for url in (str(original), file_url(str(original)), file_url(str(original)).replace("file://", "FILE://localhost")):
        source = get(url, data_file)
        assert read(data_file) == BODY
        assert (source.url, source.length) == (str(original), len(BODY))
        storage.remove(data_file)
    assert original.read_bytes() == BODY


def test_bytes_that_are_no_text_may_stand_in_a_file_name(tmp_path: Path, data_file: str) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.img")
    Path(path).write_bytes(BODY)
    get(path, data_file)
    get(file_url(path), data_file)
    assert read(data_file) == BODY


def test_a_path_with_no_file_is_a_download_error(tmp_path: Path, data_file: str) -> None:
    for path in (tmp_path / "none.img", tmp_path, Path("a\0b")):
        with pytest.raises(DownloadError, match="there is no file"):
            get(str(path), data_file)
    with pytest.raises(DownloadError, match="more than"):
        get(__file__, data_file, limits=Limits(stream_bytes=1))
    assert files(data_file) == []


@pytest.mark.parametrize("length", [10, 20_000])
def test_a_file_that_changes_while_it_is_copied_is_not_taken(tmp_path: Path, data_file: str, length: int) -> None:
    original = tmp_path / "a.img"
    original.write_bytes(bytes(600_000))
    with pytest.raises(DownloadError, match="changed while it was copied"):
        get(str(original), data_file, progress=lambda *_: os.truncate(original, 600_000 + length))
    with pytest.raises(DownloadError, match="changed while it was copied"):
        get(str(original), data_file, progress=lambda *_: os.truncate(original, length))
    assert files(data_file) == []


# Runs that end early


@contextlib.contextmanager
def another_process(server: Server, url: str, data_file: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process of its own that has fetched 4,000 bytes and waits for more; killed in the end."""
    server.once(hold(4000))
    with subprocess.Popen([sys.executable, "-c", RUN, url, data_file]) as process:
        part = Path(f"{data_file}.part")
        try:
            wait_until(lambda: part.exists() and part.stat().st_size == 4000, 30)
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_the_part_of_a_killed_process_is_gone_on_with(server: Server, local: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    with another_process(server, url, local):
        pass
    assert files(local) == ["image-data.img.part", "image-data.img.part.json"]
    source = get(url, local)
    assert read(local) == BODY
    assert source.sha256 == hashlib.sha256(BODY).hexdigest()
    assert asked(server, "Range") == [None, "bytes=4000-"]


def test_two_processes_at_once_are_one_clear_error(server: Server, local: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    with another_process(server, url, local):
        with pytest.raises(DownloadError, match=r"image-data\.img\.part is being written by another process"):
            get(url, local)
        assert os.path.getsize(f"{local}.part") == 4000
    assert len(server.requests) == 1


def test_a_run_that_opened_the_part_just_before_it_was_published_does_not_spoil_it(server: Server, local: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    run = subprocess.run([sys.executable, "-c", RUN_OVERTAKEN + RUN, url, local], capture_output=True, check=False)
    assert b"is being written by another process" in run.stderr
    assert read(local) == BODY
    assert len(server.requests) == 1


def test_the_part_of_another_url_is_not_used(server: Server, data_file: str) -> None:
    server.once(cut(4000))
    with pytest.raises(DownloadError):
        get(server.put("/a.img", BODY[::-1], etag='"1"'), data_file, retries=0)
    get(server.put("/b.img", BODY, etag='"1"'), data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, None]


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"url": 1}', b'{"surprise": true}', b"\xff"])
def test_a_part_with_a_spoilt_note_is_not_used(server: Server, data_file: str, note: bytes) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    storage.write_bytes(f"{data_file}.part" + "/000000" * storage.is_remote(data_file), b"anything")
    storage.write_bytes(f"{data_file}.part.json", note)
    get(url, data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None]


def test_a_part_that_is_whole_is_published_without_a_request(server: Server, data_file: str) -> None:
    def interrupt(there: int, of: int | None) -> None:
        if there == of:
            raise KeyboardInterrupt

    url = server.put("/a.img", BODY, etag='"1"')
    with pytest.raises(KeyboardInterrupt):
        get(url, data_file, progress=interrupt)
    assert arrived(data_file) == len(BODY)
    assert not storage.exists(data_file)
    source = get(url, data_file)
    assert read(data_file) == BODY
    assert (source.etag, source.sha256) == ('"1"', hashlib.sha256(BODY).hexdigest())
    assert len(server.requests) == 1


# An S3 server

LARGE = random.Random(2).randbytes(12 * MiB + 1)

RUN_IN_SMALL_PARTS = f"""
from imagetl_luigi import part_objects
part_objects.LENGTH = {5 * MiB}
"""


@pytest.fixture
def in_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data file in S3, whose bytes arrive in the smallest parts that S3 can join."""
    monkeypatch.setattr(part_objects, "LENGTH", 5 * MiB)
    return f"{s3}/image-data.img"


@contextlib.contextmanager
def watched(data_file: str) -> Iterator[set[int | None]]:
    """The sizes that the file is seen to have by somebody who looks all the time; None for no file."""
    seen: set[int | None] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            found = storage.stat(data_file)
            seen.add(found.size if found else None)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def test_into_s3_it_goes_on_with_what_an_earlier_run_left_and_nothing_is_seen_before(
    server: Server, in_s3: str
) -> None:
    url = server.put("/a.img", LARGE, etag='"1"')
    server.once(cut(7 * MiB))
    with watched(in_s3) as seen:
        with pytest.raises(DownloadError, match="broke off"):
            get(url, in_s3, retries=0)
        assert arrived(in_s3) == 7 * MiB
        source = get(url, in_s3)
        assert wait_until(lambda: len(LARGE) in seen, 20)
    assert seen == {None, len(LARGE)}
    assert read(in_s3) == LARGE
    assert asked(server, "Range") == [None, f"bytes={7 * MiB}-"]
    assert asked(server, "If-Range") == [None, '"1"']
    assert source.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert read_record(in_s3) == (source, storage.fingerprint(in_s3))
    assert files(in_s3) == [".image-data.img.source.json", "image-data.img"]


def test_into_s3_a_version_that_was_replaced_is_begun_anew(server: Server, in_s3: str) -> None:
    url = server.put("/a.img", LARGE, etag='"1"')
    server.once(cut(11 * MiB))
    with pytest.raises(DownloadError):
        get(url, in_s3, retries=0)
    server.put("/a.img", BODY, etag='"2"')
    get(url, in_s3)
    assert read(in_s3) == BODY
    assert asked(server, "If-Range") == [None, '"1"']
    assert files(in_s3) == [".image-data.img.source.json", "image-data.img"]


@pytest.mark.slow
def test_into_s3_the_parts_of_a_killed_process_are_gone_on_with(server: Server, in_s3: str) -> None:
    url = server.put("/a.img", LARGE, etag='"1"')
    server.once(hold(11 * MiB))
    with subprocess.Popen([sys.executable, "-c", RUN_IN_SMALL_PARTS + RUN, url, in_s3]) as process:
        assert wait_until(lambda: arrived(in_s3) == 10 * MiB, 60)
        process.kill()
    get(url, in_s3)
    assert read(in_s3) == LARGE
    assert asked(server, "Range") == [None, f"bytes={10 * MiB}-"]
    assert files(in_s3) == [".image-data.img.source.json", "image-data.img"]


@pytest.mark.slow
def test_into_s3_a_server_that_is_away_for_a_while_is_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_objects, "LENGTH", 5 * MiB)
    url = server.put("/a.img", LARGE, etag='"1"')
    requests = itertools.count()

    def leave_and_return(_: str) -> None:
        number = next(requests)
        if number % 12 == 5:
            s3.kill()
        elif number % 12 == 9:
            s3.start()

    with S3(tmp_path / "s3") as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        data_file = f"{s3.bucket}/w/image-data.img"
        with s3_requests.before_each(leave_and_return):
            get(url, data_file)
        assert next(requests) > 24
        assert read(data_file) == LARGE
        assert len(server.requests) == 1
        assert files(data_file) == [".image-data.img.source.json", "image-data.img"]


def test_into_s3_who_may_only_read_is_told_so_before_the_url_is_asked(
    server: Server, in_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StorageError, match="; the credentials in use do not allow it") as error:
        get(url, in_s3)
    assert READER_KEY not in str(error.value)
    assert files(in_s3) == []


@pytest.mark.parametrize("body", [b"", b"<!DOCTYPE html>", BODY], ids=["empty", "web page", "too large"])
def test_into_s3_what_is_refused_leaves_nothing(server: Server, in_s3: str, body: bytes) -> None:
    with pytest.raises(DownloadError):
        get(server.put("/a.img", body, etag='"1"'), in_s3, limits=Limits(stream_bytes=9_999))
    assert files(in_s3) == []


# The disk


def test_a_full_disk_is_a_storage_error_and_the_next_run_goes_on(server: Server, small_disk: Path) -> None:
    body = BODY * 20
    url = server.put("/a.img", body, etag='"1"')
    data_file = str(small_disk / "data.img")
    hog = small_disk / "hog"
    hog.write_bytes(bytes(150_000))
    with pytest.raises(StorageError, match=r"no space for .*data\.img: .* of 200,000; free some and run again"):
        get(url, data_file)
    assert not os.path.exists(data_file)
    got = os.path.getsize(f"{data_file}.part")
    assert got > 50_000
    hog.unlink()
    source = get(url, data_file)
    assert read(data_file) == body
    assert source.sha256 == hashlib.sha256(body).hexdigest()
    assert asked(server, "Range") == [None, f"bytes={got}-"]


def test_a_full_disk_leaves_nothing_of_a_local_file(tmp_path: Path, small_disk: Path) -> None:
    original = tmp_path / "a.img"
    original.write_bytes(bytes(300_000))
    with pytest.raises(StorageError, match="no space"):
        get(str(original), str(small_disk / "data.img"))
    assert list(small_disk.iterdir()) == []


def test_a_data_file_that_is_a_folder_is_a_storage_error_before_any_request(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="it is a folder"):
        get(server.put("/a.img", BODY), str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="File exists"):
        get(server.put("/a.img", BODY), str(tmp_path / "file" / "data.img"))
    assert server.requests == []


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    return folder


@pytest.fixture
def nobody(closed: Path) -> Iterator[None]:
    """Without root's rights, for which no permission is ever denied."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_a_denied_permission_is_a_storage_error(closed: Path, nobody: None) -> None:
    with pytest.raises(StorageError, match="Permission denied; allow this user to use it"):
        get(__file__, str(closed / "data.img"))


# Secrets


@pytest.mark.parametrize(
    "faults", [(), (cut(100),), (status(404),), (status(500),), (silent,), (redirect("http://["),)]
)
def test_secrets_of_a_url_are_in_no_record_note_error_or_log(
    server: Server, data_file: str, caplog: pytest.LogCaptureFixture, faults: tuple[Fault, ...]
) -> None:
    caplog.set_level(logging.INFO)
    server.put("/a.img", BODY, etag='"1"')
    server.always(*faults)
    url = f"http://me:hunter2@127.0.0.1:{server.port}/a.img?raw=true&X-Amz-Signature=hunter2&token=hunter2#hunter2"
    told = ""
    try:
        get(url, data_file, read_timeout=0.1)
    except DownloadError:
        told = traceback.format_exc()
    assert server.requests[0].headers["Authorization"]
    assert told or storage.exists(data_file)
    kept = b"".join(read(f"{os.path.dirname(data_file)}/{name}") for name in files(data_file))
    assert "hunter2" not in told + caplog.text
    assert b"hunter2" not in kept
    assert b"raw=true" in kept or b"raw=true" in told.encode()


def test_a_url_signed_anew_goes_on_with_the_part_of_the_old_one(server: Server, data_file: str) -> None:
    url = server.put("/a.img", BODY, etag='"1"')
    server.once(cut(4000))
    with pytest.raises(DownloadError):
        get(f"{url}?X-Amz-Date=1&X-Amz-Signature=old", data_file, retries=0)
    get(f"{url}?X-Amz-Date=2&X-Amz-Signature=new", data_file)
    assert read(data_file) == BODY
    assert asked(server, "Range") == [None, "bytes=4000-"]
