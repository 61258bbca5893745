"""remote: what a store refuses is said, what passes is waited for, and no secret is in any message."""

from __future__ import annotations

import errno
import ftplib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import ANY
from urllib.parse import urlsplit

import aiohttp
import botocore.exceptions
import fsspec
import pytest
import s3_requests
from google.auth.exceptions import DefaultCredentialsError, TransportError
from relay import Relay
from s3 import KEY, READER_KEY, READER_SECRET, S3, SECRET
from s3fs.errors import translate_boto_error
from waiting import until

from imagetl_luigi import remote, storage
from imagetl_luigi.errors import ParameterError, StorageError
from imagetl_luigi.settings import MiB
from imagetl_luigi.storage import Piece

GIVE_UP = "is the store up, and its address right"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No store has answered yet."""
    monkeypatch.setattr(remote, "_answered", set())


@pytest.fixture
def settings(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give other credentials or another endpoint, or none at all."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")

    def change(**names: str | None) -> None:
        for name, value in names.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    return change


@pytest.fixture
def relay(s3_server: S3, settings: Callable[..., None]) -> Iterator[Relay]:
    """What lies between us and the store, and can be cut."""
    with Relay(urlsplit(s3_server.endpoint).netloc) as between:
        settings(AWS_ENDPOINT_URL=f"http://{between.address}")
        yield between
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def message(act: Callable[[], object]) -> str:
    """What is said of the failure; nothing that is secret."""
    with pytest.raises(StorageError) as caught:
        act()
    text = str(caught.value)
    for secret in (SECRET, READER_SECRET, "hunter2"):
        assert secret not in text
    assert "\n" not in text
    return text


# URLs that no store can be behind


@pytest.mark.parametrize(
    "url", ["http://host/x", "https://host/x", "local:///x", "s3://", "s3:///", "zip://a::s3://b/c"]
)
def test_what_is_no_place_in_a_store_is_said(url: str) -> None:
    with pytest.raises(ParameterError, match="is no place in a store"):
        remote.check(url)


def test_an_unknown_scheme_is_said() -> None:
    with pytest.raises(ParameterError, match=r"'s4://b/x' is of no known store. Allowed: s3://…, gs://…, or another"):
        remote.check("s4://b/x")


@pytest.mark.parametrize(
    ("url", "package", "remedy"),
    [
        ("s3://b/x", "s3fs", r"pip install 'imagetl_luigi\[s3\]'"),
        ("gs://b/x", "gcsfs", r"pip install 'imagetl_luigi\[gcs\]'"),
        ("abfs://c/x", "adlfs", "Install adlfs"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    url: str, package: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    loaded = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(loaded, url.partition(":")[0], raising=False)
    with pytest.raises(ParameterError, match=f"'{url}' needs a package that is not installed: {remedy}"):
        remote.check(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://me:hunter2@bucket/x@y", "s3://bucket/x@y"),
        ("ftp://me@host/x?Signature=hunter2", "ftp://host/x"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("abfs://me:hunter2@account/x", "abfs://account/x"),
        ("s3://bucket/x", "s3://bucket/x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert remote.public(url) == shown


# What a store says


def test_what_a_store_refuses_is_said_with_a_remedy(s3: str, settings: Callable[..., None]) -> None:
    write = storage.write_bytes
    path = f"{s3}/file"
    write(path, b"x")
    assert message(lambda: storage.read_bytes(f"{path}.none")).endswith("; was it removed meanwhile?")
    settings(AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET)
    assert storage.read_bytes(path) == b"x"
    denied = "Access Denied; the credentials in use do not allow it; give others in the environment, or allow it"
    for act in (write, lambda path, _: storage.remove(path), lambda path, _: storage.remove_all([path])):
        assert message(lambda act=act: act(path, b"")).endswith(denied)  # type: ignore[misc]
    assert storage.read_bytes(path) == b"x"


@pytest.mark.parametrize(
    ("key", "secret"),
    [(KEY, "hunter2"), ("AKIANOBODY0000000000", SECRET), (KEY, READER_SECRET)],
    ids=["secret", "key", "mixed"],
)
def test_wrong_credentials_are_said_and_are_not_the_same_as_no_file(
    s3: str, settings: Callable[..., None], key: str, secret: str
) -> None:
    settings(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    for act in (storage.stat, storage.sizes, storage.read_bytes, storage.read_if_there):
        said = message(lambda act=act: act(f"{s3}/file"))  # type: ignore[misc]
        assert "the credentials in use do not allow it; give others" in said


def test_no_credentials_at_all_are_said(s3: str, settings: Callable[..., None]) -> None:
    settings(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    for act in (storage.stat, storage.sizes, storage.read_bytes):
        assert message(lambda act=act: act(f"{s3}/file")).endswith(  # type: ignore[misc]
            "Unable to locate credentials; give credentials in the environment or in the store's own configuration, "
            "never in a parameter"
        )


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://no-such-host.invalid:80"])
def test_a_store_that_was_never_there_is_given_up_at_once(
    s3: str, settings: Callable[..., None], endpoint: str
) -> None:
    settings(AWS_ENDPOINT_URL=endpoint)
    for act in (storage.stat, storage.sizes, lambda path: storage.write_bytes(path, b"")):
        with s3_requests.listed() as requests:
            assert GIVE_UP in message(lambda act=act: act(f"{s3}/file"))  # type: ignore[misc]
        assert len(requests) == 1


def test_a_missing_bucket_is_said() -> None:
    with pytest.raises(StorageError) as caught, remote.explaining("write", "s3://none/x"):
        raise s3_error("NoSuchBucket")
    assert str(caught.value) == "cannot write s3://none/x: NoSuchBucket …; create the bucket, or correct its name"


def test_a_password_in_a_url_is_in_no_message(s3: str, settings: Callable[..., None]) -> None:
    settings(AWS_ENDPOINT_URL="http://me:hunter2@127.0.0.1:9")
    message(lambda: storage.stat(f"{s3}/file"))
    for url in ("s3://me:hunter2@bucket/x", "ftp://me:hunter2@127.0.0.1:9/x"):
        for act in (storage.stat, storage.sizes, storage.read_bytes, storage.open_read, storage.remove):
            assert "me" not in message(lambda act=act, url=url: act(url)).split()  # type: ignore[misc]


def test_signed_addresses_in_a_message_are_cut() -> None:
    def fail() -> None:
        with remote.explaining("read", "s3://b/x"):
            raise OSError(errno.EIO, "no http://me:hunter2@host/x?X-Amz-Signature=hunter2 here")

    assert message(fail).startswith("cannot read s3://b/x: no http://host/x?… here; ")


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("x"), ValueError("x"), KeyboardInterrupt()], ids=repr)
def test_an_error_that_is_no_stores_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, remote.explaining("read", "s3://b/x"):
        raise error
    assert caught.value is error


# What passes


def s3_error(code: str) -> Exception:
    """What s3fs makes of an answer of the store."""
    answer = {"Error": {"Code": code, "Message": f"{code} …"}}
    made: Exception = translate_boto_error(botocore.exceptions.ClientError(answer, "GetObject"))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    "error",
    [
        *map(
            s3_error, ["SlowDown", "ServiceUnavailable", "503", "InternalError", "500", "RequestTimeout", "409", "Odd"]
        ),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://h"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="http://h"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://h"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="http://h"),
        botocore.exceptions.ResponseStreamingError(error="x"),
        botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        aiohttp.ClientPayloadError(),
        aiohttp.ServerDisconnectedError(),
        TransportError(),
        ftplib.error_temp("421 idle"),
        EOFError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_what_may_pass_is_known(error: Exception) -> None:
    assert remote.may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        *map(s3_error, ["NoSuchKey", "NoSuchBucket", "AccessDenied", "SignatureDoesNotMatch", "InvalidRange", "404"]),
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.ParamValidationError(report="x"),
        DefaultCredentialsError(),
        ftplib.error_perm("550 none"),
        FileNotFoundError(),
        PermissionError(),
        ValueError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_what_does_not_pass_is_known(error: BaseException) -> None:
    assert not remote.may_pass(error)


def read_some(path: str) -> object:
    with storage.open_read(path) as file:
        return file.read(1)


VERBS: dict[str, Callable[[str], object]] = {
    "stat": storage.stat,
    "sizes": lambda path: storage.sizes(path.rpartition("/")[0]),
    "read_range": lambda path: storage.read_range(path, 0, 2),
    "read_ahead": lambda path: list(storage.read_ahead([Piece(path, 0, 2)])),
    "open_read": read_some,
    "write": lambda path: storage.write_bytes(path, b"data"),
    "remove": storage.remove,
    "remove_all": lambda path: storage.remove_all([path]),
}


SLOW = VERBS.keys() - {"stat", "read_ahead", "write"}


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=pytest.mark.slow) if verb in SLOW else verb for verb in VERBS]
)
def test_a_store_that_has_answered_and_is_away_for_a_moment_is_waited_for(s3: str, relay: Relay, verb: str) -> None:
    path = f"{s3}/file"
    storage.write_bytes(path, b"data")
    expected = VERBS[verb](path)
    storage.write_bytes(path, b"data")
    with ThreadPoolExecutor(1) as other, s3_requests.listed() as requests:
        with relay.cut():
            waiting = other.submit(VERBS[verb], path)
            until(lambda: len(requests) >= 2)
            assert not waiting.done()
        assert waiting.result(30) == expected


def test_a_store_that_stays_away_is_given_up_after_a_while_and_then_at_once(
    s3: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.5)
    path = f"{s3}/file"
    storage.write_bytes(path, b"data")
    with relay.cut():
        with s3_requests.listed() as requests:
            assert GIVE_UP in message(lambda: storage.stat(path))
        assert len(requests) > 1
        for act in (storage.stat, storage.remove, lambda path: storage.write_bytes(path, b"other")):
            with s3_requests.listed() as requests:
                assert GIVE_UP in message(lambda act=act: act(path))  # type: ignore[misc]
            assert len(requests) == 1
    assert storage.read_bytes(path) == b"data"


@pytest.mark.parametrize("verb", ["stat", "read_range", "write", "write in parts", "remove"])
def test_a_store_that_stays_silent_is_given_up(
    s3: str, s3_server: S3, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    path = f"{s3}/file"
    act = {**VERBS, "write in parts": write_in_parts}[verb]
    storage.write_bytes(path, b"data")
    act(path)
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    monkeypatch.setattr(remote, "_SLOWEST", 64 * MiB)
    with s3_server.silent():
        assert GIVE_UP in message(lambda: act(path))


def write_in_parts(path: str) -> None:
    with storage.atomic_write(path) as file:
        file.write(bytes(17 * MiB))


def test_what_a_store_refuses_is_not_asked_again(s3: str, settings: Callable[..., None]) -> None:
    storage.write_bytes(f"{s3}/file", b"")
    settings(AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET)
    with s3_requests.listed() as requests:
        message(lambda: storage.write_bytes(f"{s3}/file", b""))
    assert len(requests) == 1


def test_the_users_own_configuration_of_the_client_is_respected(
    s3: str, settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"user_agent_extra": "of-the-user"}})
    seen = remote.place(s3)[0].config_kwargs
    assert seen == {"user_agent_extra": "of-the-user", "retries": ANY, "max_pool_connections": 64}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"max_pool_connections": 3}})
    assert remote.place(s3)[0].config_kwargs["max_pool_connections"] == 3


def test_all_threads_share_a_client(s3: str) -> None:
    clients = set()
    with ThreadPoolExecutor(4) as threads:
        at_once = threading.Barrier(4)
        for client in threads.map(lambda _: (at_once.wait(), remote.place(s3)[0])[1], range(4)):
            clients.add(id(client))
    assert len(clients) == 1
    assert not storage.exists(s3)  # botocore writes into its options
    assert id(remote.place(s3)[0]) in clients
    assert remote._S3_CLIENT["retries"] == {"max_attempts": 0}
