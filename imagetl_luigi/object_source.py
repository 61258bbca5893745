"""One try at fetching a part from an object store, as `transfer` is over HTTP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from imagetl_luigi import storage
from imagetl_luigi.errors import DownloadError, TransientError
from imagetl_luigi.part import Note, Part
from imagetl_luigi.settings import Limits, MiB
from imagetl_luigi.source import Source
from imagetl_luigi.transfer import Progress, check_size

_REQUEST = 4 * MiB


def copy_object(
    url: str, part: Part, *, limits: Limits, deadline: float, progress: Progress, known: Source | None = None
) -> bool:
    """Bring `part` to its full length; what is there stays if the object is still the same version.

    Args:
        deadline: on the clock of time.monotonic(); the try ends there.
        known: a version that is not wanted.

    Returns:
        Whether the part is there; False where the object is still the version `known`.

    Raises:
        TransientError: the object was replaced meanwhile.
        DownloadError: there is none, or another try would not help.
        StorageError: the store cannot be read.
    """
    if part.whole:
        return True
    found = storage.stat(url)
    if found is None:
        raise DownloadError(f"there is no object {part.url}; check the url")
    if known and (known.validator, known.length) == found[::-1]:
        return False
    check_size(found.size, part.url, limits)
    if (part.note.validator, part.note.length) != (found.version, found.size):
        part.restart(Note(url=part.url, etag=found.version, validator=found.version, length=found.size))
    with contextlib.closing(storage.read_ahead(_rest(url, part.size, found.size))) as pieces:
        for data in pieces:
            part.write(data)
            progress(part.size, found.size)
            if time.monotonic() > deadline:
                raise DownloadError(
                    f"{part.url} sent {part.size:,} bytes within [download] total_timeout; "
                    "run again to go on, or raise it"
                )
    if part.size != found.size or storage.stat(url) != found:
        part.restart(Note(url=part.url))
        raise TransientError(f"{part.url} was replaced while it was copied")
    return True


def _rest(url: str, start: int, end: int) -> Iterator[storage.Piece]:
    return (storage.Piece(url, offset, min(_REQUEST, end - offset)) for offset in range(start, end, _REQUEST))
