"""Gallery: a page of many workspaces, with a small picture of each."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

import luigi

from imagetl_luigi import config, gallery_page, page, storage
from imagetl_luigi.errors import FrameError, PageError, ParameterError, StorageError
from imagetl_luigi.frame_tasks import ImagetlTask
from imagetl_luigi.gallery_page import INDEX, thumbnail_name
from imagetl_luigi.logs import logger
from imagetl_luigi.newest import newest_picture
from imagetl_luigi.parameters import PathParameter, WholeNumberParameter
from imagetl_luigi.stage import SettledTask, reason
from imagetl_luigi.survey import FOLDER, Entry, is_workspace, survey
from imagetl_luigi.targets import FileTarget
from imagetl_luigi.task_graph import Mapped
from imagetl_luigi.worker_check import MARK, SameWorkspace
from imagetl_luigi.workspace import place

AT_ONCE = 4
"""Pictures that each thread reads and decodes at a time where they come from a store; each takes its memory."""

_OURS = re.compile(r"[0-9a-f]{16}\.jpg")
"""Names of thumbnails; nothing else in their folder is removed."""


class DrawThumbnail(ImagetlTask):
    """Draw the newest picture of a workspace in small."""

    workspace = luigi.Parameter(description="folder or URL of the workspace")
    gif = luigi.Parameter(default="", description="name of its animation, for where the frames are gone; default: none")
    path = luigi.Parameter(description="JPEG file to write")
    frame_bytes = WholeNumberParameter(description="bytes that a picture may have at the most")
    frame_pixels = WholeNumberParameter(description="pixels that a picture may have at the most")

    def output(self) -> FileTarget:
        """The JPEG file."""
        return FileTarget(self.path)

    def run(self) -> None:
        """Decode and scale it. Raises FrameError if there is none, or it cannot be decoded."""
        from imagetl_luigi.thumbnail import thumbnail  # imports Pillow

        try:
            picture, orientation = newest_picture(self.workspace, self.gif, self.frame_bytes)
        except StorageError as error:
            if storage.is_remote(self.workspace):
                raise
            raise FrameError(str(error)) from error  # of this workspace alone
        storage.write_bytes(self.path, thumbnail(picture, self.workspace, self.frame_pixels, orientation))


class Gallery(SettledTask):
    """Make a page of all workspaces in a folder, and one of each camera that has nights there."""

    root = PathParameter(
        default="data",
        description="place of the workspaces: nights, streams, or cameras with their nights; a folder, or a URL "
        "such as s3://bucket/prefix; default: data",
    )

    retry_count = 1  # the same workspaces would give the same

    _seen: list[Entry] | None = None
    _shown: list[Entry] | None = None  # what run() has just put into the page

    def check(self) -> None:
        """Refuse a place that is none, too."""
        super().check()
        if not self.root:
            raise ParameterError("root = '' is empty. Allowed: a folder, or a URL such as s3://bucket/prefix")
        self.place()

    def place(self) -> str:
        """Where the workspaces lie."""
        return place("root", self.root)

    def output(self) -> FileTarget:
        """The page."""
        return FileTarget(os.path.join(self.place(), INDEX))

    def requires(self) -> list[luigi.Task]:
        """The page of each camera."""
        seen = self._look() if self._seen is None else self._seen
        return [self.clone(root=os.path.join(self.place(), entry.name)) for entry in seen if entry.gallery]

    def complete(self) -> bool:
        """Whether this page and those of all cameras show what is there now; at the end of run(), what was there then.

        A night that comes while the page is made is for the next run.
        """
        shown, self._shown = self._shown, None
        entries = shown or self._look()
        if not entries or page.read_mark(self.output().path) != self._mark(entries):
            return False
        return all(task.complete() for task in self.requires())

    def mapped(self) -> Mapped:
        """Its DrawThumbnail tasks, one for each content."""
        wanted = _wanted(self._look())
        return Mapped(DrawThumbnail.get_task_family(), len(wanted), len(self._pictures(wanted)))

    def run(self) -> None:
        """Draw the pictures that are missing, write the page, and remove the pictures that are not shown any more.

        Raises:
            ParameterError: there is no workspace in the root, or it is one itself.
            PageError: it has an index.html that is none of ours.
            StorageError: the page or a picture cannot be written, or the store does not answer.
            DaskWorkerError: there is no Dask to run on.
        """
        if not (self._seen or self._look()):  # to hold what is no root would leave a lock there
            raise self._refused()
        with self.hold(self.place()):
            entries = self._look()
            page.check_place(self.output().path)
            self._check_folder()
            storage.sweep(self._folder())
            self._draw(entries)
            pictures = self._pictures(_wanted(entries))
            if page.read_mark(self.output().path) != gallery_page.mark(self.place(), entries, pictures):
                with storage.atomic_write(self.output().path) as file:
                    file.write(gallery_page.render(self.place(), entries, pictures))
            self._shown = entries
            old = [name for name in storage.sizes(self._folder()) if _OURS.fullmatch(name) and name not in pictures]
            storage.remove_all(os.path.join(self._folder(), name) for name in old)
        logger.info("Gallery: %s, %s", self.output().path, gallery_page.summary(entries))

    def _look(self) -> list[Entry]:
        """What is there now; nothing in what is a workspace itself."""
        root = self.place()
        there = storage.is_remote(root) or os.path.isdir(root)
        self._seen = survey(root) if there and not is_workspace(root) else []
        return self._seen

    def _refused(self) -> ParameterError:
        allowed = "the folder that holds the workspaces, as NightlyGif or CombineGifs have it for --root, or data"
        if is_workspace(self.place()):
            return ParameterError(f"root = {self.root!r} is a workspace itself, and none of many. Allowed: {allowed}")
        if not storage.is_remote(self.place()) and not os.path.isdir(self.place()):
            return ParameterError(f"root = {self.root!r} is no folder. Allowed: {allowed}")
        return ParameterError(f"root = {self.root!r} holds no workspace. Allowed: {allowed}")

    def _check_folder(self) -> None:
        """Refuse to write and remove in another place."""
        if not storage.is_remote(self.place()) and os.path.islink(self._folder()):
            raise PageError(f"{self._folder()} is a link; remove it, or choose another root")

    def _mark(self, entries: list[Entry]) -> str:
        return gallery_page.mark(self.place(), entries, self._pictures(_wanted(entries)))

    def _folder(self) -> str:
        return os.path.join(self.place(), FOLDER)

    def _pictures(self, wanted: dict[str, Entry]) -> set[str]:
        """Those of the thumbnails that are there. One that cannot be drawn is not tried again until another is."""
        return {name for name, size in storage.sizes(self._folder()).items() if size and name in wanted}

    def _draw(self, entries: list[Entry]) -> None:
        """Have the thumbnails drawn that are missing; a picture less is no reason to have no page.

        Raises:
            StorageError: the store does not answer, which is no fault of a picture.
        """
        wanted = _wanted(entries)
        there = self._pictures(wanted)
        missing = {name: entry for name, entry in wanted.items() if name not in there}
        root = self.place() if storage.is_remote(self.place()) else os.path.abspath(self.place())
        limits = config.limits().settings()  # a workspace may come from anywhere
        tasks = [
            DrawThumbnail(
                workspace=os.path.join(root, *entry.folder),
                gif=entry.gif,
                path=os.path.join(root, FOLDER, name),
                frame_bytes=limits.frame_bytes,
                frame_pixels=limits.frame_pixels,
            )
            for name, entry in missing.items()
        ]
        settings = config.dask().settings()
        if storage.is_remote(root):
            settings = replace(settings, at_once=settings.at_once or AT_ONCE)

        def look() -> SameWorkspace:
            first = next(iter(missing.values()))
            return SameWorkspace.of_folder(os.path.join(root, FOLDER), first.read(root), "--root")

        try:
            failures = self.dispatch(tasks, len(tasks), settings, "pictures", look)
        finally:
            storage.remove(os.path.join(self._folder(), MARK))
        for failure in failures:
            task: Any = failure.task
            error = failure.exception
            if isinstance(error, MemoryError | StorageError):
                raise error  # nothing is wrong with the picture
            logger.warning("Gallery: no picture of %s: %s", task.workspace, reason(failure))


def _wanted(entries: list[Entry]) -> dict[str, Entry]:
    """The thumbnails that are shown, and what each is drawn from; if it can be, no night that only names another."""
    wanted: dict[str, Entry] = {}
    for entry in entries:
        if entry.digest:
            name = thumbnail_name(entry.digest)
            if name not in wanted or wanted[name].same_as:
                wanted[name] = entry
    return wanted
