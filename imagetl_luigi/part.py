"""The file in which a download's bytes arrive, and the note of what they belong to.

`image-data.img.part` holds the bytes; `image-data.img.part.json` says which URL they are from and
how the server named that version of it, so that a later try can ask for the rest of the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any

from imagetl_luigi import storage
from imagetl_luigi.errors import DownloadError
from imagetl_luigi.source import Source, public_url, write_record


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the bytes of a part belong to; `length` is that of the whole file, if it is known."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may be given: a strong ETag, else the date; never a weak ETag (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Part:
    """The bytes of a data file that have arrived so far. Hold it open by `opened`.

    Attributes:
        digest: SHA-256 of the bytes written, and `size` their number.
        note: what they belong to.
    """

    def __init__(self, url: str, path: str, note_path: str, file: IO[bytes]) -> None:
        self.url = public_url(url)
        self.path = path
        self.size = 0
        self.digest = hashlib.sha256()
        self.note = Note(url=self.url)
        self._note_path = note_path
        self._file = file
        self._take_up()

    def _take_up(self) -> None:
        """Go on with what an earlier run left, if it can be told what that is."""
        try:
            note = Note(**json.loads(storage.read_bytes(self._note_path)))
        except (ValueError, TypeError, OSError):
            note = Note(url="")
        if note.url != self.url or not note.validator:
            self.restart(self.note)
            return
        self.note = note
        while data := self._file.read(1 << 20):
            self._count(data)

    @property
    def whole(self) -> bool:
        """Whether every byte is known to be there."""
        return self.note.length is not None and self.size == self.note.length > 0

    def restart(self, note: Note) -> None:
        """Drop all bytes; what comes belongs to `note`."""
        storage.remove(self._note_path)
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self.digest = hashlib.sha256()
        self.note = note
        if note.validator:
            storage.write_bytes(self._note_path, json.dumps(asdict(note)).encode())

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._count(data)

    def head(self, length: int) -> bytes:
        """The first bytes."""
        return os.pread(self._file.fileno(), length, 0)

    def discard(self) -> None:
        """Remove the bytes and the note."""
        storage.remove(self._note_path)
        storage.remove(self.path)

    def publish(self, data_file: str) -> Source:
        """Give the bytes their final name, after their record: a file that was fetched always has one."""
        os.fsync(self._file.fileno())
        source = Source(
            url=self.url,
            etag=self.note.etag,
            last_modified=self.note.last_modified,
            length=self.size,
            sha256=self.digest.hexdigest(),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_record(data_file, source, str(storage.fingerprint(self.path)))
        storage.publish(self.path, data_file)
        storage.remove(self._note_path)
        return source

    def _count(self, data: Any) -> None:
        self.size += len(data)
        self.digest.update(data)


@contextlib.contextmanager
def opened(url: str, data_file: str) -> Iterator[Part]:
    """The part of `data_file`, held by this process alone.

    Raises:
        DownloadError: another process is writing to it.
        StorageError: it cannot be written.
    """
    path = f"{data_file}.part"
    with storage.explaining("write", path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DownloadError(f"{path} is being written by another process; wait until it has ended") from None
            part = Part(url, path, f"{path}.json", file)
            try:
                yield part
            except BaseException:
                if not part.size or not part.note.validator:  # nothing that could be gone on with
                    part.discard()
                raise
