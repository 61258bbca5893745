"""Make an object appear whole, or not at all: in one request, in parts, or under a temporary name first."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, Self, cast

from imagetl_luigi.content_type import typed
from imagetl_luigi.errors import StorageError
from imagetl_luigi.remote import may_pass, patiently, place, within
from imagetl_luigi.settings import MiB

UPLOAD = 16 * MiB
"""Bytes of a part of a large upload. S3 wants 5 MiB at least, and 10,000 parts at most."""

_OF_A_PART = re.compile("ETag|Checksum(CRC|SHA).*")
"""What S3 said of a part, and wants to hear again when the upload is completed."""


@contextlib.contextmanager
def renamed(fs: Any, key: str) -> Iterator[str]:
    """A name to write to beside `key`, which becomes `key` if the block ends well."""
    folder = key.rpartition("/")[0]
    _make_folder(fs, folder or "/")
    temporary = f"{folder}/.imagetl-{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        fs.mv(temporary, key)
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong before is what matters
            fs.rm_file(temporary)
        raise


def _make_folder(fs: Any, folder: str) -> None:
    """Make it and those above it, each of which somebody else may make at the same moment."""
    for _ in range(folder.count("/")):
        try:
            fs.makedirs(folder, exist_ok=True)
            return
        except Exception as error:
            if may_pass(error):
                raise
            fs.invalidate_cache()
    fs.makedirs(folder, exist_ok=True)


@contextlib.contextmanager
def spooled(path: str) -> Iterator[BinaryIO]:
    """Written to this machine first, so that the store is asked again for all of it if it has to be."""

    def send(fs: Any, key: str) -> None:
        spool.seek(0)
        with renamed(fs, key) as temporary, fs.open(temporary, "wb") as file:
            shutil.copyfileobj(spool, file, MiB)

    with tempfile.TemporaryFile() as spool:
        yield cast(BinaryIO, spool)
        patiently(path, send)


@contextlib.contextmanager
def streamed(path: str) -> Iterator[BinaryIO]:
    """The upload in parts that the package behind fsspec has."""
    fs, key = place(path)
    file = fs.open(key, "wb", block_size=UPLOAD, **typed(path))
    if type(file).__name__ == "ZonalFile":  # of gcsfs; it can be appended to, and nothing takes it back
        raise StorageError(
            f"{path} is in a zonal bucket, where files are seen before they are whole; choose a bucket of another kind"
        )
    try:
        yield file
        file.close()
    except BaseException:
        with contextlib.suppress(Exception):
            file.discard()
        file.closed = True  # or it would be completed when it is collected
        raise


@contextlib.contextmanager
def in_parts(path: str) -> Iterator[BinaryIO]:
    """An upload to S3 in parts; of little, one request."""
    with contextlib.ExitStack() as stack:
        file = _Parts(path, stack)
        yield cast(BinaryIO, file)
        file.finish()


class _Parts(io.RawIOBase):
    """What is written, collected to parts of an upload, which begins with the first."""

    def __init__(self, path: str, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._stack = stack
        self._upload: Upload | None = None
        self._rest = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._rest += data
        while len(self._rest) > UPLOAD:
            self._send()
        return len(data)

    def finish(self) -> None:
        """Send the rest."""
        if self._upload:
            self._send()
        else:
            data = bytes(self._rest)
            patiently(self._path, lambda fs, key: fs.pipe_file(key, data, **typed(self._path), **within(fs, len(data))))

    def _send(self) -> None:
        self._upload = self._upload or self._stack.enter_context(Upload(self._path))
        self._upload.send(bytes(self._rest[:UPLOAD]))
        del self._rest[:UPLOAD]


class Upload:
    """An upload to S3 in parts: completed when the block ends well, else aborted, so that nothing is left of it.

    fsspec's own gives up when the store is away for a moment, and its `merge` leaves the parts behind.
    """

    def __init__(self, path: str) -> None:
        fs, key = place(path)
        bucket, name, _ = fs.split_path(key)
        self._path = path
        self._target = {"Bucket": bucket, "Key": name}
        self._parts: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self._target["UploadId"] = self._ask("create_multipart_upload", **typed(self._path))["UploadId"]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                parts = [{"PartNumber": number, **self._parts[number]} for number in sorted(self._parts)]
                self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts})
                self._target.clear()
        finally:
            if self._target:
                with contextlib.suppress(Exception):  # what went wrong before is what matters
                    place(self._path)[0].call_s3("abort_multipart_upload", **self._target)

    def send(self, data: bytes) -> None:
        """The next part."""
        number = len(self._parts) + 1
        self._keep(number, self._ask("upload_part", PartNumber=number, Body=data))

    def copy(self, number: int, path: str) -> None:
        """One part, from an object of the same store. It may be called from several threads."""
        source = place(path)[1]
        self._keep(number, self._ask("upload_part_copy", PartNumber=number, CopySource=source)["CopyPartResult"])

    def _keep(self, number: int, answer: dict[str, Any]) -> None:
        self._parts[number] = {name: value for name, value in answer.items() if _OF_A_PART.fullmatch(name)}

    def _ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One request, which is given the time that a part takes: to join many takes S3 as long."""

        def ask(fs: Any, _: str) -> dict[str, Any]:
            answer: dict[str, Any] = fs.call_s3(method, **self._target, **arguments, **within(fs, UPLOAD))
            return answer

        return patiently(self._path, ask)
