"""The tasks of one frame or a few, of which there may be a hundred thousand; stages have them run on Dask."""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from typing import Any

import luigi

from imagetl_luigi import logs, storage
from imagetl_luigi.contact_sheet import Layout
from imagetl_luigi.errors import FrameError, ImagetlError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.parameters import WholeNumberParameter
from imagetl_luigi.prefetch import Read, SharedReads
from imagetl_luigi.storage import Piece
from imagetl_luigi.targets import FileTarget


class ImagetlTask(luigi.Task):
    """What all our tasks share: errors for people are shown as their message."""

    def on_failure(self, exception: BaseException) -> str:
        """The text that luigid and Luigi's e-mails show."""
        return logs.explain(exception) if isinstance(exception, ImagetlError) else super().on_failure(exception)


class WriteFrame(ImagetlTask):
    """Write one frame, a range of bytes of the data file, to a file of its own."""

    data_file = luigi.Parameter(description="file that holds the frame")
    offset = WholeNumberParameter(description="its first byte")
    length = WholeNumberParameter(description="its number of bytes")
    path = luigi.Parameter(description="file to write it to")

    _read: Read = staticmethod(storage.read_range)

    @classmethod
    @cache
    def get_params(cls) -> list[tuple[str, luigi.Parameter[Any]]]:
        """As Luigi's, which looks through the class three times for each instance."""
        parameters: list[tuple[str, luigi.Parameter[Any]]] = super().get_params()
        return parameters

    @classmethod
    def uncached(cls, **parameters: Any) -> WriteFrame:
        """A task that Luigi's instance cache does not keep: there may be a hundred thousand, used once."""
        task: WriteFrame = type.__call__(cls, **parameters)
        return task

    @staticmethod
    def prepare(tasks: list[WriteFrame]) -> None:
        """Let tasks that will run at one place read what lies together with one request; see `DaskWorker`."""
        if storage.is_remote(tasks[0].data_file):
            read = SharedReads((Piece(task.data_file, task.offset, task.length) for task in tasks), storage.read_range)
            for task in tasks:
                task._read = read

    def output(self) -> FileTarget:
        """The frame file."""
        return FileTarget(self.path)

    def complete(self) -> bool:
        """Whether the frame file is there and has the right size."""
        return self.output().exists() and storage.size(self.path) == self.length

    def run(self) -> None:
        """Copy the bytes. Raises FrameError if the data file has fewer, StorageError if it cannot."""
        data = self._read(self.data_file, self.offset, self.length)
        if len(data) != self.length:
            raise FrameError(
                f"{self.data_file} ends before byte {self.offset + self.length:,}, up to which {self.path} goes; "
                "it was changed after it was split, so run again"
            )
        storage.write_bytes(self.path, data)


class ConvertFrame(ImagetlTask):
    """Turn a frame that is no GIF into one of at most 256 colours."""

    frame = luigi.Parameter(description="frame file")
    orientation = WholeNumberParameter(default=UPRIGHT, description="how it is stored, from 1, upright, to 8")
    path = luigi.Parameter(description="GIF file to write")

    def output(self) -> FileTarget:
        """The GIF file."""
        return FileTarget(self.path)

    def run(self) -> None:
        """Decode, quantise and turn it. Raises FrameError if it cannot be decoded."""
        from imagetl_luigi.still import still_to_gif  # imports imageio, which GIF frames do without

        picture = still_to_gif(storage.read_bytes(self.frame), self.frame, self.orientation)
        with storage.atomic_write(self.path) as file:
            file.write(picture)


class DrawRow(ImagetlTask):
    """Draw one row of the contact sheet, a picture of many frames."""

    frames = luigi.ListParameter(description="path, bytes, SHA-256 and orientation of each frame file, in order")
    count = WholeNumberParameter(description="frames of the whole sheet")
    width = WholeNumberParameter(description="pixels of the canvas that holds every frame")
    height = WholeNumberParameter(description="pixels of the canvas that holds every frame")
    step = WholeNumberParameter(
        description="1 if these are all frames of the row; else only those with a tile are read"
    )
    path = luigi.Parameter(description="PNG file to write")

    def output(self) -> FileTarget:
        """The row."""
        return FileTarget(self.path)

    def run(self) -> None:
        """Draw it. A frame that cannot be decoded leaves its tile empty.

        Raises:
            FrameError: a frame is not what the manifest says. Its file is removed, so that it is written again.
            StorageError: a frame is not there.
        """
        from imagetl_luigi.sheet_drawing import draw_row  # imports Pillow

        layout = Layout.of(self.count, self.width, self.height)
        pieces = (Piece(path, 0, length) for path, length, *_ in self.frames)
        with contextlib.closing(storage.read_ahead(pieces)) as contents:
            storage.write_bytes(self.path, draw_row(map(self._checked, self.frames, contents), layout, self.step))

    def _checked(self, frame: tuple[str, int, str, int], data: bytes) -> tuple[bytes, int]:
        path, _, sha256, orientation = frame
        if hashlib.sha256(data).hexdigest() != sha256:
            storage.remove(path)
            raise FrameError(f"{path} is not what the manifest says, so it was removed; run again")
        return data, orientation
