"""Where a data file came from: the record kept beside it, and URLs without their secrets."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit, urlunsplit

from imagetl_luigi import storage
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.store import AZURE

_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms)-.*|sig|"
    r"((access|auth|api|bearer|id|refresh|sas|security|session)[_-]?)?token|"
    r".*(signature|secret|passw(or)?d|pwd|api[_-]?key|credentials?|auth)",
    re.IGNORECASE,
)
"""Names of query parameters that carry a secret, as in the signed URLs of the object stores."""

_SIGNATURE = re.compile(r"signature|sig", re.IGNORECASE)
_SIGNED = re.compile(
    r"expires|policy|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|"
    r"s[eprstv]|sip|sdd|spr|srt|ses|sk(oid|tid|[estv])",
    re.IGNORECASE,
)
"""Names that say, beside a signature, what is signed and until when; alone they may mean anything."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known of where a data file came from.

    Attributes:
        url: without user, password, fragment and the secrets of its query.
        etag, last_modified: as the server gave them, or None.
        validator: the one of them that no other bytes have (RFC 9110, 8.8.1), or None if neither is so strong.
        location: the URL that answered, as `url`, if that one redirected to another.
        length: bytes.
        sha256: of the whole file.
        fetched_at: UTC, ISO 8601; None for a file that somebody put there by hand.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    validator: str | None = None
    location: str | None = None
    length: int
    sha256: str
    fetched_at: str | None = None


def public_url(url: str) -> str:
    """`url` without user, password, a page's fragment and the query parameters that carry secrets; of a file, its path.

    It is what is kept, shown and compared: a URL signed anew is the same source.

    >>> public_url("https://me:pw@example.org/a.img?raw=true&X-Amz-Signature=f00")
    'https://example.org/a.img?raw=true'

    Raises:
        ParameterError: it has no valid host and port.
    """
    path = local_path(url)
    if path is not None:
        return os.path.abspath(path)
    parts = _split(url)
    fields = [(unquote_plus(field.partition("=")[0]), field) for field in parts.query.split("&")]
    signed = any(_SIGNATURE.fullmatch(name) for name, _ in fields)
    kept = [field for name, field in fields if not _SECRET.fullmatch(name) and not (signed and _SIGNED.fullmatch(name))]
    user, _, host = parts.netloc.rpartition("@")
    place = parts.netloc if parts.scheme in AZURE and ":" not in user else host
    fragment = "" if is_http(url) else parts.fragment  # to a store, # is a letter like another
    return urlunsplit((parts.scheme, place, parts.path, "&".join(kept), fragment))


def check_url(url: str) -> None:
    """Refuse what cannot be fetched: anything but http, https, object stores, file and plain paths.

    Raises:
        ParameterError: names the URL, without its secrets.
    """
    if local_path(url) is not None:
        return
    if is_http(url):
        if not re.match(r"https?://[^/?#]", public_url(url)):
            raise ParameterError(f"url = {public_url(url)!r} cannot be fetched: it names no host")
    else:
        _split(url)
        storage.check(url)


def is_http(url: str) -> bool:
    """Whether a web server is to be asked, and not an object store."""
    return url.partition("://")[0].lower() in ("http", "https")


def source_id(url: str) -> str:
    """Sixteen hexadecimal digits that stand for a URL where it should not be read, as in a published GIF."""
    return hashlib.sha256(public_url(url).encode(errors="surrogatepass")).hexdigest()[:16]


def default_workspace(url: str) -> str:
    """A folder for the outputs of `url` alone: readable, and never shared by two URLs.

    >>> default_workspace("https://example.org/cam/all images.img?raw=true")
    'data/all-images-b9271729'
    """
    name = unquote(_split(url).path if "://" in url else url).rstrip("/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.splitext(name)[0]).strip("-")[:40]
    return f"data/{stem or 'stream'}-{source_id(url)[:8]}"


def local_path(url: str) -> str | None:
    """The path that a file:// URL or a plain path names (RFC 8089), or None for any other URL.

    Raises:
        ParameterError: a file:// URL of another machine.
    """
    if not url.lower().startswith("file:"):
        return url if "://" not in url else None
    parts = _split(url)
    if parts.netloc not in ("", "localhost"):
        raise ParameterError(
            f"url = {url!r} names a file of the machine {parts.netloc!r}; write three slashes for one of this: file:///…"
        )
    return unquote(parts.path, errors="surrogateescape")


def record_path(data_file: str) -> str:
    """Where the record of a data file lies."""
    folder, name = os.path.split(data_file)
    return os.path.join(folder, f".{name}.source.json")


def part_path(data_file: str) -> str:
    """Where the bytes of a data file arrive."""
    return f"{data_file}.part"


def write_record(data_file: str, source: Source, fingerprint: str) -> None:
    """Keep what is known of a data file, whose fingerprint tells later whether it is still the same file.

    It is empty while the file is being put together in a store, where nobody can know it before.
    """
    with storage.atomic_write(record_path(data_file)) as file:
        file.write(json.dumps({"fingerprint": fingerprint, **asdict(source)}, indent=1).encode() + b"\n")


def read_record(data_file: str) -> tuple[Source, str] | None:
    """The record of a data file and the fingerprint in it, or None where there is none that can be read."""
    data = storage.read_if_there(record_path(data_file))
    if data is None:
        return None
    try:
        fields = json.loads(data)
        fingerprint = str(fields.pop("fingerprint"))
        return Source(**fields), fingerprint
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def describe(data_file: str, url: str) -> Source:
    """The record of a data file; for one that was put there by hand, what the file itself tells."""
    record = read_record(data_file)
    if record and record[1] == storage.fingerprint(data_file):
        return record[0]
    digest = hashlib.sha256()
    length = 0
    with storage.open_read(data_file) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            length += len(piece)
    return Source(url=public_url(url), length=length, sha256=digest.hexdigest())


def _split(url: str) -> SplitResult:
    """The parts of a URL. What cannot be taken apart is not shown either: there may be a password in it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ParameterError(
            f"url = '{url.partition('://')[0]}://…' has no valid host and port behind the slashes; "
            "write %2F, %3F, %23, %40, %5B for / ? # @ [ in a user name or password"
        ) from None
    return parts
