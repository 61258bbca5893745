"""URLs without their secrets, the names made of them, and the record beside a data file."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from workflow import file_url

from imagetl_luigi import storage
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.source import (
    Source,
    check_url,
    default_workspace,
    describe,
    local_path,
    public_url,
    read_record,
    record_path,
    source_id,
    write_record,
)

SECRET = "hunter2"
SOURCE = Source(url="https://example.org/ä.img", etag='"1"', length=3, sha256="0" * 64, fetched_at="2020-01-01")
SECRET_NAMES = """
token access_token TOKEN api_key apikey api-key password passwd client_secret auth signature sig Signature
X-Amz-Signature X-Amz-Credential X-Amz-Security-Token X-Goog-Signature x-oss-signature x%2Damz-signature
"""

words = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n"), max_size=12)
hosts = st.from_regex(r"[a-z]{1,9}(\.[a-z]{2,5})?(:[1-9][0-9]{0,3})?", fullmatch=True)
fields = st.lists(st.tuples(st.from_regex(r"q[a-z]{0,3}x", fullmatch=True), words), max_size=3)
secrets = st.sampled_from(SECRET_NAMES.split())


@st.composite
def urls(draw: st.DrawFn) -> str:
    """URLs without secrets, as a server would see them."""
    path = "/".join(quote(word) for word in draw(st.lists(words, max_size=3)))
    query = urlencode(draw(fields))
    return f"{draw(st.sampled_from(['http', 'https']))}://{draw(hosts)}/{path}" + (f"?{query}" if query else "")


# URLs without their secrets


@given(urls())
def test_a_url_without_secrets_stays_as_it_is(url: str) -> None:
    assert public_url(url) == url


@given(urls(), secrets, st.booleans())
def test_secrets_are_left_out_and_nothing_else(url: str, name: str, first: bool) -> None:
    base, _, query = url.partition("?")
    shown = [field for field in query.split("&") if field]
    secret = [f"{name}={SECRET}"]
    full = f"{base}?{'&'.join(secret + shown if first else shown + secret)}#{SECRET}"
    full = full.replace("://", f"://{SECRET}:p%40ss{SECRET}@")
    assert public_url(full) == url
    assert public_url(public_url(full)) == public_url(full)
    assert source_id(full) == source_id(url)
    assert default_workspace(full) == default_workspace(url)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("sv=2024&se=2030&sp=r&sr=b&sig=f00&v=1", "v=1"),
        ("Expires=1&Key-Pair-Id=K&Policy=P&Signature=f00&v=1", "v=1"),
        ("AWSAccessKeyId=A&Expires=1&Signature=f00", ""),
        ("X-Goog-Date=1&X-Goog-Signature=f00&v=1", "v=1"),
        ("a=%FF&b=%2B+c&token=f00&d&d", "a=%FF&b=%2B+c&d&d"),
        ("st=1&se=2&policy=none&expires=0", "st=1&se=2&policy=none&expires=0"),
        ("a=token&author=me&design=sig", "a=token&author=me&design=sig"),
    ],
    ids=["azure", "cloudfront", "aws-2", "google", "verbatim", "unsigned", "values"],
)
def test_of_a_signed_query_all_that_changes_with_the_signature_is_left_out(query: str, shown: str) -> None:
    base = "https://example.org/a.img"
    assert public_url(f"{base}?{query}") == (f"{base}?{shown}" if shown else base)


@pytest.mark.parametrize(
    "url",
    ["http://[::1/a", "http://me:hun/ter2@host/a", "http://me:hun#ter2@host/a", "http://h:99999/", "http://h℀:x@h/"],
)
def test_a_url_that_cannot_be_taken_apart_is_refused_and_not_shown(url: str) -> None:
    for use in (public_url, source_id, default_workspace):
        with pytest.raises(ParameterError, match="no valid host and port") as error:
            use(url)
        assert url.partition("://")[2] not in str(error.value)
        assert "hun" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/cams/a b%20.img", "s3://bucket/cams/a b%20.img"),
        ("s3://AKIAME:hunter2@bucket/a.img", "s3://bucket/a.img"),
        ("s3://bucket/a.img?versionId=1", "s3://bucket/a.img?versionId=1"),
        ("gs://bucket/a.img?X-Goog-Signature=hunter2", "gs://bucket/a.img"),
        ("ftp://me:hunter2@host:2121/a.img", "ftp://host:2121/a.img"),
        ("abfs://container@account.dfs.core.windows.net/a.img", "abfs://container@account.dfs.core.windows.net/a.img"),
        ("az://me:hunter2@container/a.img", "az://container/a.img"),
        ("memory://a.img", "memory://a.img"),
        ("s3://bucket/cam#1.img", "s3://bucket/cam#1.img"),
    ],
)
def test_urls_of_stores_are_shown_without_secrets_too(url: str, shown: str) -> None:
    assert public_url(url) == shown
    assert public_url(shown) == shown
    assert source_id(url) == source_id(shown)
    assert re.fullmatch(r"data/[A-Za-z0-9_-]+", default_workspace(url))


@pytest.mark.parametrize(
    "url", ["http:///a.img", "https://?a", "s3://", "s4://b/a.img", "abfs://c@a/a.img", "local:///a"]
)
def test_what_cannot_be_fetched_is_refused(url: str) -> None:
    with pytest.raises(ParameterError):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["http://h/a", "HTTPS://h", "s3://b/a.img", "memory://a", "a.img", "file:///a", "c:a#b"]
)
def test_what_can_be_fetched_is_taken(url: str) -> None:
    check_url(url)


# Names made of URLs


@given(st.one_of(urls(), st.text().filter(lambda text: "://" not in text and not text.lower().startswith("file:"))))
@example("..")
@example("/")
@example("https://example.org/..%2F..%2Fetc%2Fpasswd")
@example("\udcff.img")
def test_the_default_workspace_is_a_folder_below_data(url: str) -> None:
    workspace = default_workspace(url)
    assert re.fullmatch(r"data/[A-Za-z0-9_-]{1,49}", workspace)
    assert workspace.endswith(source_id(url)[:8])
    assert re.fullmatch(r"[0-9a-f]{16}", source_id(url))


@given(urls(), urls())
@example("https://example.org/a.img?page=1", "https://example.org/a.img?page=2")
@example("https://example.org/a.img?st=1", "https://example.org/a.img?st=2")
@example("https://example.org/a.img", "https://example.org/A.img")
@example("https://example.org/a/x.img", "https://example.org/b/x.img")
@example("https://example.org/%FF.img?sig=1", "https://example.org/%FE.img?sig=1")
@example("https://example.org/x?a=%FF&sig=1", "https://example.org/x?a=%FE&sig=1")
@example("camera:1#1.img", "camera:1#2.img")
@example("s3://bucket/cam#1.img", "s3://bucket/cam#2.img")
def test_two_urls_never_share_a_workspace(one: str, other: str) -> None:
    assert (default_workspace(one) == default_workspace(other)) == (one == other)


def test_a_workspace_is_named_so_that_people_know_it() -> None:
    assert re.fullmatch(r"data/all-images-\w{8}", default_workspace("https://h/x/all%20images.img?raw=true"))
    assert re.fullmatch(r"data/stream-\w{8}", default_workspace("https://h/"))
    assert re.fullmatch(r"data/b-\w{8}", default_workspace("a/b.img"))


# Paths


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).map(lambda name: f"/{name}"))
@example("/a b")
@example("/50%25 #1?.img")
@example("//a")
@example("/\udcff")
def test_a_path_comes_back_from_its_file_url(path: str) -> None:
    assert local_path(file_url(path)) == path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("a.img", "a.img"),
        ("/a b%20.img", "/a b%20.img"),
        ("c:a#b?c.img", "c:a#b?c.img"),
        ("//[a", "//[a"),
        ("file:///a%20b.img", "/a b.img"),
        ("file:/a.img", "/a.img"),
        ("FILE://localhost/a.img", "/a.img"),
        ("http://example.org/a.img", None),
        ("ftp://example.org/a.img", None),
    ],
)
def test_a_plain_path_means_itself_and_other_urls_no_path(url: str, path: str | None) -> None:
    assert local_path(url) == path
    if path is not None:
        assert public_url(url) == os.path.abspath(path)


def test_a_file_of_another_machine_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"'data'; write three slashes"):
        local_path("file://data/a.img")


# Records


@pytest.fixture(params=["local", "memory"])
def data_file(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    path = str(tmp_path / "a.img") if request.param == "local" else f"memory://{uuid.uuid4().hex}/a.img"
    storage.write_bytes(path, b"abc")
    return path


def test_a_record_comes_back_as_it_was_written(data_file: str) -> None:
    assert read_record(data_file) is None
    write_record(data_file, SOURCE, "3-1")
    assert read_record(data_file) == (SOURCE, "3-1")
    assert os.path.basename(record_path(data_file)) == ".a.img.source.json"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"fingerprint": "1"}', '{"fingerprint": "1", "x": 1}'])
def test_a_spoilt_record_is_none(data_file: str, text: str) -> None:
    storage.write_bytes(record_path(data_file), text.encode())
    assert read_record(data_file) is None
    assert describe(data_file, "https://me:pw@h/a").url == "https://h/a"


def test_a_file_is_described_by_its_record_until_it_is_another_file(data_file: str) -> None:
    write_record(data_file, SOURCE, str(storage.fingerprint(data_file)))
    assert describe(data_file, SOURCE.url) == SOURCE
    storage.write_bytes(data_file, b"abcd")
    found = describe(data_file, SOURCE.url)
    assert (found.length, found.etag, found.fetched_at) == (4, None, None)
    assert found.sha256 == "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
