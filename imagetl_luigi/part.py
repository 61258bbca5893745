"""The file in which a download's bytes arrive, and the note of what they belong to.

`image-data.img.part` holds the bytes; `image-data.img.part.json` says which URL they are from and
how the server named that version of it, so that a later try can ask for the rest of the same file.
"""

from __future__ import annotations

import contextlib
import errno
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
from imagetl_luigi.source import Source, part_path, public_url, read_record, write_record


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the bytes of a part belong to.

    Attributes:
        validator: what If-Range may be given to get more of the same bytes, if anything.
        length: of the whole file, if it is known.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    validator: str | None = None
    length: int | None = None


class Part:
    """The bytes of a data file that have arrived so far. Hold it open by `opened`.

    Attributes:
        digest: SHA-256 of the bytes written, and `size` their number.
        note: what they belong to.
    """

    def __init__(self, url: str, data_file: str, file: IO[bytes]) -> None:
        self.url = public_url(url)
        self.path = part_path(data_file)
        self.size = 0
        self.digest = hashlib.sha256()
        self.note = Note(url=self.url)
        self._data_file = data_file
        self._note_path = f"{self.path}.json"
        self._file = file
        self._take_up()

    def _take_up(self) -> None:
        """Go on with what an earlier run left, if it can be told what that is."""
        note = self._published() or self._kept()
        if note is None or note.url != self.url:
            self.restart(self.note)
            return
        self.note = note
        while data := self._file.read(1 << 20):
            self._count(data)

    def _kept(self) -> Note | None:
        """The note, if with it the rest can be asked for."""
        try:
            note = Note(**json.loads(storage.read_bytes(self._note_path)))
        except (ValueError, TypeError, OSError):
            return None
        return note if note.validator else None

    def _published(self) -> Note | None:
        """What the record says, if `publish` was killed between writing it and giving the part its name."""
        record = read_record(self._data_file)
        if record is None or record[1] != storage.fingerprint(self.path):
            return None
        source = record[0]
        return Note(url=source.url, etag=source.etag, last_modified=source.last_modified, length=source.length)

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
        """Append bytes. Those that still fit on a full disk count, too."""
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._count(view[:written])
            view = view[written:]

    def head(self, length: int) -> bytes:
        """The first bytes."""
        return os.pread(self._file.fileno(), length, 0)

    def discard(self) -> None:
        """Remove the bytes and the note."""
        storage.remove(self._note_path)
        storage.remove(self.path)

    def publish(self) -> Source:
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
        write_record(self._data_file, source, str(storage.fingerprint(self.path)))
        storage.remove(self._note_path)
        storage.publish(self.path, self._data_file)
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
    path = part_path(data_file)
    with storage.explaining("write", data_file):
        if os.path.isdir(data_file):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0) as file:
            if not _lock(file, path):
                raise DownloadError(f"{path} is being written by another process; wait until it has ended")
            part = Part(url, data_file, file)
            try:
                yield part
            except BaseException:
                if not part.size or not part.note.validator:  # nothing that could be gone on with
                    part.discard()
                raise


def _lock(file: IO[bytes], path: str) -> bool:
    """Lock the file, unless another process has; between open and lock it may have published it, too."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
