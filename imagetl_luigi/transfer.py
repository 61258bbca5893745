"""One try at fetching a part over HTTP: ask for what is missing, and take only what belongs to it.

A body that breaks off is gone on with if the server vouches that it is still the same file: Range
and If-Range, 206 with a fitting Content-Range, else from the start (RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import requests
import urllib3

from imagetl_luigi.errors import DownloadError, TransientError
from imagetl_luigi.part import Note, Part
from imagetl_luigi.settings import DownloadSettings, Limits
from imagetl_luigi.source import Source, public_url

PIECE = 1 << 18
"""Bytes read at a time at the most."""

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and how many there will be if that is known."""

_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_FINAL_ERRORS = (
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
    ValueError,  # a URL, here or in a Location, that no request can be made of; all kinds of it are ValueErrors
)


def transfer(
    url: str,
    part: Part,
    *,
    settings: DownloadSettings,
    limits: Limits,
    deadline: float,
    progress: Progress,
    known: Source | None = None,
) -> bool:
    """Bring `part` to its full length, unless the server vouches that the source is still `known`.

    Args:
        deadline: on the clock of time.monotonic(); the try ends there.
        known: a version of the source, with a validator. A part that is begun is of another one.

    Returns:
        Whether the part is there; False where it is not wanted.

    Raises:
        TransientError: the connection, the server or the body broke; another try may go on from here.
        DownloadError: another try would not help.
    """
    if part.whole:
        return True
    try:
        with _request(url, part, settings, known) as response:
            if response.status_code == 304 and known and not part.size:
                if _vouches(response, known):
                    return False
                return transfer(url, part, settings=settings, limits=limits, deadline=deadline, progress=progress)
            if response.status_code == 416 and part.size:
                size = part.size
                part.restart(Note(url=part.url))
                raise TransientError(f"{part.url} has no byte {size:,}; it was replaced by a shorter file")
            _check_status(response, part)
            if not _goes_on(response, part):
                part.restart(_note(response, part))
            check_size(part.note.length or 0, part.url, limits)
            _receive(response, part, limits, deadline, progress)
    except _FINAL_ERRORS as error:
        raise DownloadError(f"{part.url} cannot be fetched: {_reason(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransientError(f"{part.url} broke off or did not answer: {_reason(error)}") from None
    if part.note.length is not None and part.size != part.note.length:
        raise TransientError(f"{part.url} broke off after {part.size:,} of {part.note.length:,} bytes")
    return True


def check_size(size: int, url: str, limits: Limits) -> None:
    """Raise DownloadError if `size` bytes are more than a stream may have."""
    if size > limits.stream_bytes:
        raise DownloadError(
            f"{url} has more than [limits] stream_bytes = {limits.stream_bytes:,} bytes; raise it in luigi.cfg"
        )


def _request(url: str, part: Part, settings: DownloadSettings, known: Source | None) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}  # or Content-Length would be that of a compressed body
    if part.size and part.note.validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.note.validator}
    elif known and known.validator:
        headers |= {"If-None-Match" if known.validator.startswith('"') else "If-Modified-Since": known.validator}
    timeout = (settings.connect_timeout, settings.read_timeout)
    return requests.get(url, headers=headers, timeout=timeout, stream=True)


def _vouches(response: requests.Response, known: Source) -> bool:
    """Whether a 304 says that every byte is still that of `known`: it must name the same version of the same resource.

    If-None-Match compares weakly, and to If-Modified-Since any older date is the same (RFC 9110, 13.1.2 and 13.1.3).
    """
    named = (response.headers.get("ETag"), response.headers.get("Last-Modified"))
    return known.validator in named and public_url(response.url) == (known.location or known.url)


def _check_status(response: requests.Response, part: Part) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    message = f"{part.url} answered {status} {response.reason}"
    if status in _TRANSIENT_STATUS:
        raise TransientError(message, _retry_after(response))
    raise DownloadError(f"{message}; check the URL")


def _goes_on(response: requests.Response, part: Part) -> bool:
    """Whether the body is the rest of what is there (206), and not the whole anew (200)."""
    if response.status_code != 206:
        return False
    shown = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", shown)
    if match and part.size and int(match[1]) == part.size and _same_version(response, part.note):
        total = part.note.length if match[2] == "*" else int(match[2])
        if part.note.length in (None, total):
            part.note = replace(part.note, length=total)
            return True
    size = part.size
    part.restart(Note(url=part.url))
    raise TransientError(
        f"{part.url} answered 206 with Content-Range {shown!r}, which is not the rest from byte {size:,} on"
    )


def _same_version(response: requests.Response, note: Note) -> bool:
    """Whether a 206 names the version that was asked for, or none; there are servers that overlook If-Range."""
    name = response.headers.get("ETag") or response.headers.get("Last-Modified")
    return name in (None, note.etag, note.last_modified) and not _encoded(response)


def _encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"


def _note(response: requests.Response, part: Part) -> Note:
    if _encoded(response):  # the ranges would be those of another representation, and the length too
        return Note(url=part.url)
    return Note(
        url=part.url,
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        validator=_validator(response),
        location=public_url(response.url) if response.history else None,
        length=response.raw.length_remaining,
    )


def _validator(response: requests.Response) -> str | None:
    """What If-Range may be given (RFC 9110, 13.1.5): a strong ETag, or where there is no ETag, a strong date.

    A date is strong if it was over when the answer was made; within its second the file may change again.
    """
    etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified", "")
    if etag:
        return None if etag.startswith("W/") else etag
    date = _date(modified)
    answered = _date(response.headers.get("Date", "")) or datetime.now(UTC)
    return modified if date and answered - date >= timedelta(seconds=1) else None


def _receive(response: requests.Response, part: Part, limits: Limits, deadline: float, progress: Progress) -> None:
    for data in _pieces(response):
        check_size(part.size + len(data), part.url, limits)
        part.write(data)
        progress(part.size, part.note.length)
        if time.monotonic() > deadline:
            raise DownloadError(
                f"{part.url} sent {part.size:,} bytes within [download] total_timeout; run again to go on, or raise it"
            )


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes in: `read1`, because `iter_content` waits until a piece is full."""
    while data := response.raw.read1(PIECE, decode_content=True):
        yield data


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that Retry-After asks for, which is a number or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    date = _date(text)
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date else None


def _date(text: str) -> datetime | None:
    """The time that an HTTP-date names, if it is one."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _reason(error: BaseException) -> str:
    """The innermost reason, since the outer ones repeat the URL, with its secrets; without any other URL."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return re.sub(r"://\S+", "://…", str(error)) or type(error).__name__
