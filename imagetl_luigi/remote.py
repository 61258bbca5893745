"""Reach a store that fsspec knows by a URL: ask it with patience, and make its errors messages.

Credentials and endpoint are fsspec's and its packages' own business (environment variables, ~/.aws, ~/.config/fsspec);
they are never in a path. No file system object is kept here for use: fsspec's cache knows what must not survive a fork.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec.config
import fsspec.core
import tenacity

from imagetl_luigi.errors import ImagetlError, ParameterError, StorageError
from imagetl_luigi.store import AZURE

T = TypeVar("T")

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Schemes, and the extra of this package that brings what they need."""

PATIENCE = 30.0
"""Seconds for which a store that has answered before may be away, or a request unanswered."""

_SLOWEST = 64 * 1024
"""Bytes a second, for whose transfer a request is given more time."""

S3 = {"s3", "s3a"}
GOOGLE = {"gs", "gcs"}
OBJECT_STORES = GOOGLE | S3 | AZURE
"""Schemes of stores in which what is written appears whole or not at all."""

_S3_CLIENT = {"retries": {"max_attempts": 0}, "max_pool_connections": 64}
"""Options of botocore's client where fsspec's configuration has no others: `patiently` is what asks again."""

_BUSY = {errno.EIO, errno.EBUSY, errno.EAGAIN, errno.EREMOTEIO}
"""What a store says that is there, and cannot serve just now."""

_AWAY = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
_AWAY_KINDS = {
    *("ConnectionError", "TimeoutError", "EOFError", "error_temp"),  # Python, and its ftplib
    *("HTTPClientError", "IncompleteReadError", "IncompleteRead", "ResponseParserError"),  # botocore and urllib3
    *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
    *("TransportError", "ChecksumError"),  # google.auth and gcsfs
}
"""Names, since the classes are those of packages that need not be installed."""

_answered: set[str] = set()
"""Stores that have answered this process. One that never did is rather a wrong address than an outage."""


_in_use: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_held: list[list[Any]] = []
"""In a forked child, the file systems of its parent. fsspec forgets them there, where to close them would fail, loudly,
and reach into connections that the parent still uses; so they are never collected."""


def check(url: str) -> None:
    """Refuse a URL that no store can be behind, without a request. Raises ParameterError."""
    scheme = scheme_of(url)
    if "::" in url or scheme in ("file", "local", "http", "https") or not url.partition("://")[2].strip("/"):
        raise ParameterError(
            f"{public(url)!r} is no place in a store. Allowed: a local path, or a URL such as s3://bucket/prefix"
        )
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install 'imagetl_luigi[{extra}]'" if extra else str(error)
        raise ParameterError(f"{public(url)!r} needs a package that is not installed: {remedy}") from error
    except ValueError:
        raise ParameterError(
            f"{public(url)!r} is of no known store. Allowed: s3://…, gs://…, or another scheme that fsspec knows"
        ) from None


@contextlib.contextmanager
def explaining(verb: str, path: str) -> Iterator[None]:
    """Turn the error of a store into one that says what to do.

    The packages behind fsspec raise errors of their own, of which nothing is known but that they are not Python's.
    """
    try:
        yield
    except ImagetlError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | EOFError) and type(error).__module__ == "builtins":
            raise
        raise StorageError(f"cannot {verb} {public(path)}: {_reason(error, path)}; {_remedy(error, verb)}") from error


def _reason(error: Exception, path: str) -> str:
    """What the store said, without addresses, which may be signed, and without passwords in them."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"[^\s\"'/]+:[^\s\"'/]+@", "", re.sub(r"\?\S+", "?…", " ".join(text.split()))).rstrip(".")
    if isinstance(error, FileNotFoundError) and (text in path or "://" in text):  # it names it, and says nothing else
        return os.strerror(errno.ENOENT)
    return text or type(error).__name__


def _remedy(error: Exception, verb: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "create the bucket, or correct its name" if verb == "write" else "was it removed meanwhile?"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a part of the path is a file; choose another path"
    if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
        return "give credentials in the environment or in the store's own configuration, never in a parameter"
    if isinstance(error, PermissionError):
        return "the credentials in use do not allow it; give others in the environment, or allow it"
    if may_pass(error):
        return "is the store up, and its address right (for S3: AWS_ENDPOINT_URL)? What was done is kept, so run again"
    return "check the URL and the store's own configuration"


def patiently(path: str, ask: Callable[[Any, str], T]) -> T:
    """What `ask` returns, given the file system and the key; asked again while the store is away."""
    store = "/".join(path.split("/", 3)[:3])

    def hopeless(state: tenacity.RetryCallState) -> bool:
        if (state.seconds_since_start or 0) > PATIENCE:
            _answered.discard(store)  # or each of ten thousand requests would wait as long
        return store not in _answered

    def passes(error: BaseException) -> bool:
        if not _is_away(error):
            _answered.add(store)
        return may_pass(error)

    result = tenacity.Retrying(
        stop=hopeless,
        retry=tenacity.retry_if_exception(passes),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
        reraise=True,
    )(lambda: ask(*place(path)))
    _answered.add(store)
    return result


def within(fs: Any, size: int = 0) -> dict[str, float]:
    """The argument that bounds the time of one request with `size` bytes, for a file system that takes it.

    The packages' own bounds do not cover all: botocore waits without end for leave to upload, if a server is silent.
    """
    return {"timeout": PATIENCE + size / _SLOWEST} if fs.async_impl else {}


def may_pass(error: BaseException) -> bool:
    """Whether the same request may be answered in a moment."""
    return _is_away(error) or (isinstance(error, OSError) and error.errno in _BUSY)


def _is_away(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & _AWAY_KINDS) or (isinstance(error, OSError) and error.errno in _AWAY)


def place(path: str) -> tuple[Any, str]:
    """The file system, and the path in it."""
    options = {}
    if scheme_of(path) in S3:
        configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = copy.deepcopy(_S3_CLIENT | configured)  # botocore writes into it
    fs, key = fsspec.core.url_to_fs(f"{scheme_of(path)}://{path.partition('://')[2]}", **options)
    _in_use[id(fs)] = fs
    return fs, key


def _hold() -> None:
    _held.append([reference() for reference in _in_use.valuerefs()])


os.register_at_fork(before=_hold, after_in_parent=_held.pop)


def public(url: str) -> str:
    """The URL without user and password, and without a query, which may be signed.

    The name before the @ of Azure's URLs is no user's, but a container's.
    """
    secret = r"//[^/]*:[^/]*@" if scheme_of(url) in AZURE else r"//[^/]*@"
    return re.sub(secret, "//", url.partition("?")[0])


def scheme_of(url: str) -> str:
    """What is before the ://, which says what kind of store it is."""
    return url.partition("://")[0].lower()
