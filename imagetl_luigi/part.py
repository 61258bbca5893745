"""The bytes of a download that have arrived so far, and the note of what they belong to.

On this machine `image-data.img.part` holds the bytes; in an object store, objects below that name hold a part
of them each. `image-data.img.part.json` says which URL they are from and how the server named that version of
it, so that a later try can ask for the rest of the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError
from imagetl_luigi.source import Source, part_path, public_url, read_record, write_record

_LONGEST_HEAD = 4096

logger = logging.getLogger("luigi-interface")


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the bytes of a part belong to.

    Attributes:
        validator: what If-Range may be given to get more of the same bytes, if anything.
        location: where a redirect led.
        length: of the whole file, if it is known.
        batch: a name that no other bytes have.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    validator: str | None = None
    location: str | None = None
    length: int | None = None
    batch: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


class Bytes(Protocol):
    """Where the bytes wait until all are there: in a `LocalPart` or in `PartObjects`."""

    def pieces(self, batch: str | None) -> Iterator[bytes]:
        """What an earlier run left of a batch; without a name, of whichever there is."""

    def write(self, data: memoryview) -> int:
        """Append some of `data`, and say how many bytes."""

    def clear(self, batch: str) -> None:
        """Drop all; what is written from now on is of this batch."""

    def keep(self) -> None:
        """Leave them for another run."""

    def discard(self) -> None:
        """Remove every trace."""

    def seal(self) -> str:
        """Let nothing of them be lost; return the fingerprint that the data file will have, empty if unknown."""

    def sealed(self, fingerprint: str) -> bool:
        """Whether an earlier run may have sealed them, with this result, and got no further."""

    def publish(self) -> None:
        """Give them their final name, all at once."""


class Part:
    """The bytes of a data file that have arrived so far. Hold it open by `opened`.

    Attributes:
        digest: SHA-256 of the bytes written, and `size` their number.
        head: the first of them, 4,096 at the most.
        note: what they belong to.
    """

    def __init__(self, url: str, data_file: str, held: Bytes) -> None:
        self.url = public_url(url)
        self._data_file = data_file
        self._note_path = f"{part_path(data_file)}.json"
        self._bytes = held
        self._forget(Note(url=self.url))
        self._take_up()

    def _forget(self, note: Note) -> None:
        self.size = 0
        self.head = b""
        self.digest = hashlib.sha256()
        self.note = note

    def _take_up(self) -> None:
        """Go on with what an earlier run left, if it can be told what that is."""
        note = self._kept()
        sealed = None if note else self._sealed()
        if sealed:
            note = Note(
                url=sealed.url,
                etag=sealed.etag,
                last_modified=sealed.last_modified,
                validator=sealed.validator,
                location=sealed.location,
                length=sealed.length,
            )
        if note is None or note.url != self.url:
            self.restart(self.note)
            return
        self.note = note
        for data in self._bytes.pieces(None if sealed else note.batch):
            self._count(data)
        if sealed and sealed.sha256 != self.digest.hexdigest():
            self.restart(Note(url=self.url))

    def _kept(self) -> Note | None:
        """The note, if with it the rest can be asked for."""
        try:
            note = Note(**json.loads(storage.read_if_there(self._note_path) or b"{}"))
        except (ValueError, TypeError):
            return None
        return note if note.validator else None

    def _sealed(self) -> Source | None:
        """What the record says, if `publish` was killed after it wrote the first."""
        record = read_record(self._data_file)
        return record[0] if record and self._bytes.sealed(record[1]) else None

    @property
    def whole(self) -> bool:
        """Whether every byte is known to be there."""
        return self.note.length is not None and self.size == self.note.length > 0

    def restart(self, note: Note) -> None:
        """Drop all bytes; what comes belongs to `note`."""
        storage.remove(self._note_path)
        self._bytes.clear(note.batch)
        self._forget(note)
        if note.validator:
            storage.write_bytes(self._note_path, json.dumps(asdict(note)).encode())

    def write(self, data: bytes) -> None:
        """Append bytes. Those that still fit on a full disk count, too."""
        view = memoryview(data)
        while view:
            written = self._bytes.write(view)
            self._count(view[:written])
            view = view[written:]

    def discard(self) -> None:
        """Remove the bytes and the note."""
        storage.remove(self._note_path)
        self._bytes.discard()

    def leave(self) -> None:
        """Keep for another run what it can go on with."""
        if self.size and self.note.validator:
            self._bytes.keep()
        else:
            self.discard()

    def publish(self) -> Source:
        """Give the bytes their final name, after their record: a file that was fetched always has one."""
        source = Source(
            url=self.url,
            etag=self.note.etag,
            last_modified=self.note.last_modified,
            validator=self.note.validator,
            location=self.note.location,
            length=self.size,
            sha256=self.digest.hexdigest(),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        fingerprint = self._bytes.seal()
        write_record(self._data_file, source, fingerprint)
        storage.remove(self._note_path)
        self._bytes.publish()
        if not fingerprint:  # until now, the record says that this is not over
            write_record(self._data_file, source, str(storage.fingerprint(self._data_file)))
        return source

    def _count(self, data: Any) -> None:
        self.size += len(data)
        self.digest.update(data)
        if len(self.head) < _LONGEST_HEAD:
            self.head += bytes(data[: _LONGEST_HEAD - len(self.head)])


@contextlib.contextmanager
def opened(url: str, data_file: str) -> Iterator[Part]:
    """The part of `data_file`, held by this process alone.

    Raises:
        DownloadError: another process is writing to it.
        StorageError: it cannot be written.
    """
    with _bytes(data_file) as held:
        part = Part(url, data_file, held)
        try:
            yield part
        except BaseException:
            try:
                part.leave()
            except StorageError as error:  # what went wrong before is what matters
                logger.warning("what has arrived of %s cannot be kept: %s", part.url, error)
            raise


def _bytes(data_file: str) -> contextlib.AbstractContextManager[Bytes]:
    if storage.is_remote(data_file):
        from imagetl_luigi.part_objects import PartObjects  # fsspec takes a while to import

        return contextlib.nullcontext(PartObjects(part_path(data_file), data_file))
    from imagetl_luigi import local_part

    return local_part.opened(part_path(data_file), data_file)
