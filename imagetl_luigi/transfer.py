"""One try at fetching a part over HTTP: ask for what is missing, and take only what belongs to it.

A body that breaks off is gone on with if the server vouches that it is still the same file: Range
and If-Range, 206 with a fitting Content-Range, else from the start (RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
import urllib3

from imagetl_luigi.errors import DownloadError, TransientError
from imagetl_luigi.part import Note, Part
from imagetl_luigi.settings import DownloadSettings, Limits

PIECE = 1 << 18
"""Bytes read at a time at the most."""

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and how many there will be if that is known."""

_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_FINAL_ERRORS = (
    requests.exceptions.SSLError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.TooManyRedirects,
)


def transfer(
    url: str, part: Part, *, settings: DownloadSettings, limits: Limits, deadline: float, progress: Progress
) -> None:
    """Bring `part` to its full length.

    Args:
        deadline: on the clock of time.monotonic(); the try ends there.

    Raises:
        TransientError: the connection, the server or the body broke; another try may go on from here.
        DownloadError: another try would not help.
    """
    if part.whole:
        return
    try:
        with _request(url, part, settings) as response:
            if response.status_code == 416 and part.size:
                part.restart(Note(url=part.url))
                raise TransientError(f"{part.url} has no byte {part.size:,}; it was replaced by a shorter file")
            _check_status(response, part)
            if not _goes_on(response, part):
                part.restart(_note(response, part))
            check_size(part.note.length or 0, part.url, limits)
            _receive(response, part, limits, deadline, progress)
    except _FINAL_ERRORS as error:
        raise DownloadError(f"{part.url} cannot be fetched: {_reason(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransientError(f"{part.url} broke off or did not answer: {_reason(error)}") from error
    if part.note.length is not None and part.size != part.note.length:
        raise TransientError(f"{part.url} broke off after {part.size:,} of {part.note.length:,} bytes")


def check_size(size: int, url: str, limits: Limits) -> None:
    """Raise DownloadError if `size` bytes are more than a stream may have."""
    if size > limits.stream_bytes:
        raise DownloadError(
            f"{url} has more than [limits] stream_bytes = {limits.stream_bytes:,} bytes; raise it in luigi.cfg"
        )


def _request(url: str, part: Part, settings: DownloadSettings) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}  # or Content-Length would be that of a compressed body
    if part.size and part.note.validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.note.validator}
    timeout = (settings.connect_timeout, settings.read_timeout)
    return requests.get(url, headers=headers, timeout=timeout, stream=True)


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
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match and part.size and int(match[1]) == part.size and match[2] in ("*", str(part.note.length)):
        return True
    shown = response.headers.get("Content-Range")
    size = part.size
    part.restart(Note(url=part.url))
    raise TransientError(f"{part.url} answered 206 with Content-Range {shown!r}, though bytes {size}- were asked for")


def _note(response: requests.Response, part: Part) -> Note:
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    length = response.headers.get("Content-Length", "")
    if encoded:  # the ranges would be those of another representation, and the length too
        return Note(url=part.url)
    return Note(
        url=part.url,
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        length=int(length) if length.isdecimal() else None,
    )


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
    try:
        wait = parsedate_to_datetime(text) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def _reason(error: BaseException) -> str:
    """The innermost reason; the outer ones repeat the URL, with its secrets."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__
