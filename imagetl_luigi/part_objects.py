"""Objects below one name, in which the bytes of a download arrive in an object store; see `part`.

An object cannot be appended to, and an upload in parts that is not completed cannot be read back. So each part
of the download is an object of its own, which another run can read, to go on with the digest; at the end they
are joined, by the store itself if it is S3.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagetl_luigi import object_store, storage
from imagetl_luigi.settings import MiB
from imagetl_luigi.store import Piece

LENGTH = 16 * MiB
"""Bytes of each object but the last. S3 joins 10,000 at the most, of 5 MiB at least."""


class PartObjects:
    """Bytes in `<folder>/<batch>-000000` and so on, and those that do not fill an object yet, here; to be `data_file`.

    Nobody holds a lock in a store, so each batch has names of its own: of two hosts that fetch one file, or two
    versions of it, one may find its objects gone and have to start again, but their bytes are never mixed.
    """

    def __init__(self, folder: str, data_file: str) -> None:
        self._folder = folder
        self._data_file = data_file
        self._joined = False
        self._batch = ""
        self._count = 0
        self._rest = bytearray()

    def pieces(self, batch: str | None) -> Iterator[bytes]:
        """What the objects hold, up to the first that is not whole; what is written goes behind it.

        If they were joined already, what the data file holds; what is written after `clear` replaces it.
        """
        if self._joined:
            with storage.open_read(self._data_file) as file:
                while data := file.read(MiB):
                    yield data
            return
        sizes = storage.sizes(self._folder)
        self._batch = next((name.partition("-")[0] for name in sizes), "") if batch is None else batch
        whole = 0
        while sizes.get(self._name(whole)) == LENGTH:
            whole += 1
        self._count = whole
        pieces = [Piece(self._path(number), 0, LENGTH) for number in range(whole)]
        yield from storage.read_ahead(pieces)
        if sizes.get(self._name(whole), LENGTH) < LENGTH:
            self._rest[:] = storage.read_bytes(self._path(whole))
            yield bytes(self._rest)

    def write(self, data: memoryview) -> int:
        """Take what fits into an object, and upload it when it is full."""
        taken = min(len(data), LENGTH - len(self._rest))
        self._rest += data[:taken]
        if len(self._rest) == LENGTH:
            self._upload()
            self._count += 1
            self._rest.clear()
        return taken

    def clear(self, batch: str) -> None:
        """Remove all objects, of other batches too."""
        self.discard()
        self._batch = batch

    def keep(self) -> None:
        """Upload the rest, too."""
        if self._rest:
            self._upload()

    def discard(self) -> None:
        """Remove all objects."""
        storage.remove_all(f"{self._folder}/{name}" for name in storage.sizes(self._folder))
        self._joined = False
        self._count = 0
        self._rest.clear()

    def seal(self) -> str:
        """Nothing is known yet of the object that they will be."""
        return ""

    def sealed(self, fingerprint: str) -> bool:
        """Whether nothing was known of the object yet; by then it may be there."""
        self._joined = not fingerprint and storage.exists(self._data_file)
        return not fingerprint

    def publish(self) -> None:
        """Join them to one object, and remove them."""
        if not self._joined:
            self._join()
        self.discard()

    def _join(self) -> None:
        if self._count:
            self.keep()
            count = self._count + bool(self._rest)
            object_store.merge(self._data_file, [self._path(number) for number in range(count)])
        else:
            storage.write_bytes(self._data_file, bytes(self._rest))

    def _upload(self) -> None:
        storage.write_bytes(self._path(self._count), bytes(self._rest))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{self._name(number)}"

    def _name(self, number: int) -> str:
        return f"{self._batch}-{number:06d}"
