"""Fetch a URL into a data file that appears only when every byte is there."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial

import tenacity

from imagetl_luigi import storage
from imagetl_luigi.errors import DownloadError, StorageError, TransientError
from imagetl_luigi.object_source import copy_object
from imagetl_luigi.part import Note, Part, opened
from imagetl_luigi.settings import DownloadSettings, Limits
from imagetl_luigi.source import Source, check_url, is_http, local_path
from imagetl_luigi.transfer import PIECE, Progress, check_size, transfer

_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s|<!--.*?-->|<\?xml.*?\?>)*+<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)

Attempt = Callable[..., bool]
"""One try at bringing a part to its full length; False where the source is still a version that is not wanted."""

logger = logging.getLogger("luigi-interface")


def fetch(
    url: str,
    data_file: str,
    *,
    settings: DownloadSettings,
    limits: Limits,
    progress: Progress,
    known: Source | None = None,
) -> Source | None:
    """Fetch `url` (http, https, file, a plain path, or an object such as s3://bucket/key) into `data_file`.

    What may pass is tried again, as `settings` say; a Retry-After of the server is honoured.

    Args:
        known: a version that is not wanted again, with a validator.

    Returns:
        What is known of the source; the same is kept beside the data file. None if the server, or the store,
        vouches that the source is still the version `known`; then there is no data file.

    Raises:
        DownloadError: the source could not be fetched whole, or is not what can hold frames. What
            has arrived of it is kept, to be gone on with, but not under the final name.
        StorageError: it cannot be written.
        ParameterError: a URL of another kind.
    """
    path = local_path(url)
    check_url(url)
    with opened(url, data_file) as part:
        try:
            if path is not None:
                _copy(path, part, limits, progress)
            else:
                attempt = partial(transfer, settings=settings) if is_http(url) else copy_object
                if not _patiently(attempt, url, part, settings, limits, progress, known):
                    part.discard()
                    return None
            _check_body(part)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageError(
                f"no space for {data_file}: it broke off after {part.size:,} bytes"
                f"{f' of {part.note.length:,}' if part.note.length else ''}; free some and run again"
            ) from error
        return part.publish()


def _patiently(
    attempt: Attempt,
    url: str,
    part: Part,
    settings: DownloadSettings,
    limits: Limits,
    progress: Progress,
    known: Source | None,
) -> bool:
    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientError) else None
        return max(settings.retry_wait, asked or 0.0)

    def log(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("%s; trying again in %.0f s", error, state.upcoming_sleep)

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(1 + settings.retries) | tenacity.stop_before_delay(settings.total_timeout),
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=wait,
        before_sleep=log,
        reraise=True,
    )(
        attempt,
        url,
        part,
        limits=limits,
        deadline=time.monotonic() + settings.total_timeout,
        progress=progress,
        known=known,
    )


def _copy(path: str, part: Part, limits: Limits, progress: Progress) -> None:
    if not storage.exists(path):
        raise DownloadError(f"there is no file {path!r}; check the url")
    with storage.open_read(path) as original:
        status = os.fstat(original.fileno())
        check_size(status.st_size, path, limits)
        part.restart(Note(url=part.url, last_modified=formatdate(status.st_mtime, usegmt=True), length=status.st_size))
        while data := original.read(PIECE):
            part.write(data)
            progress(part.size, part.note.length)
        after = os.stat(path)
        if part.size != status.st_size or (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise DownloadError(f"{path} changed while it was copied; run again when it is complete")


def _check_body(part: Part) -> None:
    """Refuse what is whole but cannot be a stream of frames."""
    if not part.size:
        part.discard()
        raise DownloadError(f"{part.url} is empty; check the URL")
    if _HTML.match(part.head):
        part.discard()
        raise DownloadError(
            f"{part.url} is a web page and not a file of frames; give the address of the file itself "
            "(on GitHub, the one with ?raw=true)"
        )
