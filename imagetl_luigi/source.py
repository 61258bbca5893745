"""Where a data file came from: the record kept beside it, and URLs without their secrets."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from imagetl_luigi import storage

_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms)-.*|awsaccesskeyid|googleaccessid|expires|policy|key-pair-id|signature|sig|se|sp|sr|sv|st|spr|skoid|sktid|"
    r".*(token|secret|passw(or)?d|api_?key|credential|auth)",
    re.IGNORECASE,
)
"""Names of query parameters that carry a secret, or that change with one: signed URLs of the object stores, tokens."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known of where a data file came from.

    Attributes:
        url: without user, password, fragment and the secrets of its query.
        etag, last_modified: as the server gave them, or None.
        length: bytes.
        sha256: of the whole file.
        fetched_at: UTC, ISO 8601; None for a file that somebody put there by hand.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    length: int
    sha256: str
    fetched_at: str | None = None


def public_url(url: str) -> str:
    """`url` without user, password, fragment and the query parameters that carry secrets.

    It is what is kept, shown and compared: a URL signed anew is the same source.

    >>> public_url("https://me:pw@example.org/a.img?raw=true&X-Amz-Signature=f00")
    'https://example.org/a.img?raw=true'
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return url
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in query if not _SECRET.fullmatch(name)]
    text = parts.query if len(kept) == len(query) else urlencode(kept)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, text, ""))


def source_id(url: str) -> str:
    """Sixteen hexadecimal digits that stand for a URL where it should not be read, as in a published GIF."""
    return hashlib.sha256(public_url(url).encode()).hexdigest()[:16]


def default_workspace(url: str) -> str:
    """A folder for the outputs of `url` alone: readable, and never shared by two URLs.

    >>> default_workspace("https://example.org/cam/all images.img?raw=true")
    'data/all-images-1e57b5b3'
    """
    name = unquote(urlsplit(url).path if "://" in url else url).rstrip("/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.splitext(name)[0]).strip("-")[:40]
    return f"data/{stem or 'stream'}-{source_id(url)[:8]}"


def local_path(url: str) -> str | None:
    """The path that a file:// URL or a plain path names (RFC 8089), or None for any other URL."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return unquote(parts.path)
    return url if "://" not in url else None


def record_path(data_file: str) -> str:
    """Where the record of a data file lies."""
    folder, name = os.path.split(data_file)
    return os.path.join(folder, f".{name}.source.json")


def write_record(data_file: str, source: Source, fingerprint: str) -> None:
    """Keep what is known of a data file, whose fingerprint tells later whether it is still the same file."""
    with storage.atomic_write(record_path(data_file)) as file:
        file.write(json.dumps({"fingerprint": fingerprint, **asdict(source)}, indent=1).encode() + b"\n")


def read_record(data_file: str) -> tuple[Source, str] | None:
    """The record of a data file and the fingerprint in it, or None where there is none that can be read."""
    path = record_path(data_file)
    if not storage.exists(path):
        return None
    try:
        fields = json.loads(storage.read_bytes(path))
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


def file_url(path: str) -> str:
    """The file:// URL of an absolute path."""
    return "file://" + quote(path)
