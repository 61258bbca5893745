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
from imagetl_luigi.logs import explain, logger
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
    _made: dict[str, str] | None = None  # the mark of each page that run() has just made, by its place

    def check(self) -> None:
        """Refuse a place that is none, too."""
        super().check()
        if not self.root:
            raise ParameterError("root = '' is empty. Allowed: a folder, or a URL such as s3://bucket/prefix")
        self.place()

    def place(self) -> str:
        """Where the workspaces lie."""
        return place("root", self.root)

    def output(self) -> list[FileTarget]:
        """The page of the root, and that of each camera."""
        return [FileTarget(_index(place)) for place in self._places(self._look())]

    def complete(self) -> bool:
        """Whether all pages show what is there now; at the end of run(), what was there then.

        A night that comes while the pages are made is for the next run.
        """
        made, self._made = self._made, None
        if made:
            return all(page.read_mark(_index(place)) == mark for place, mark in made.items())
        entries = self._look()
        root, *cameras = self._places(entries)
        return bool(entries) and _is_shown(root, entries) and all(_is_shown(one, survey(one)) for one in cameras)

    def mapped(self) -> Mapped:
        """Its DrawThumbnail tasks, on each page one for each content."""
        entries = self._look()
        root, *cameras = self._places(entries)
        wanted = {root: _wanted(entries)} | {camera: _wanted(survey(camera)) for camera in cameras}
        there = sum(len(_pictures(place, names)) for place, names in wanted.items())
        return Mapped(DrawThumbnail.get_task_family(), sum(map(len, wanted.values())), there)

    def run(self) -> None:
        """Make the pages of the cameras, then that of the root, which links to them; one that fails stops no other.

        Luigi would not run a page that requires one which failed.

        Raises:
            ParameterError: there is no workspace in the root, or it is one itself.
            PageError: an index.html is none of ours; if there are cameras, whatever kept some pages from being made.
            StorageError: the page or a picture cannot be written, or the store does not answer.
            DaskWorkerError: there is no Dask to run on.
        """
        seen = self._seen or self._look()
        if not seen:  # to hold what is no root would leave a lock there
            raise self._refused()
        root, *cameras = self._places(seen)
        made: dict[str, str] = {}
        failed: list[str] = []
        for folder in (*cameras, root):
            try:
                entries = survey(folder)
                if entries and not _is_shown(folder, entries):
                    made[folder] = self._make(folder)
            except (PageError, StorageError, MemoryError) as error:
                if not cameras:
                    raise
                failed.append(f"{gallery_page.title(folder)}: {explain(error)}")
        if failed:
            raise PageError(f"{len(failed)} of {len(cameras) + 1} pages could not be made: {'; '.join(failed)}")
        self._made = made

    def _make(self, place: str) -> str:
        """Draw the pictures that are missing, write the page, and remove the pictures that are not shown any more.

        Returns:
            The mark of the page.
        """
        folder = _folder(place)
        with self.hold(place):
            entries = survey(place)
            page.check_place(_index(place))
            if not storage.is_remote(place) and os.path.islink(folder):  # nothing is written and removed elsewhere
                raise PageError(f"{folder} is a link; remove it, or choose another root")
            storage.sweep(folder)
            self._draw(place, entries)
            pictures = _pictures(place, _wanted(entries))
            mark = gallery_page.mark(place, entries, pictures)
            if page.read_mark(_index(place)) != mark:
                with storage.atomic_write(_index(place)) as file:
                    file.write(gallery_page.render(place, entries, pictures))
            old = [name for name in storage.sizes(folder) if _OURS.fullmatch(name) and name not in pictures]
            storage.remove_all(os.path.join(folder, name) for name in old)
        logger.info("Gallery: %s, %s", _index(place), gallery_page.summary(entries))
        return mark

    def _look(self) -> list[Entry]:
        """What is there now; nothing in what is a workspace itself."""
        root = self.place()
        there = storage.is_remote(root) or os.path.isdir(root)
        self._seen = survey(root) if there and not is_workspace(root) else []
        return self._seen

    def _places(self, entries: list[Entry]) -> list[str]:
        """Those of the pages: the root, and the cameras that get one of their own."""
        return [self.place(), *(os.path.join(self.place(), entry.name) for entry in entries if entry.gallery)]

    def _refused(self) -> ParameterError:
        allowed = "the folder that holds the workspaces, as NightlyGif or CombineGifs have it for --root, or data"
        if is_workspace(self.place()):
            return ParameterError(f"root = {self.root!r} is a workspace itself, and none of many. Allowed: {allowed}")
        if not storage.is_remote(self.place()) and not os.path.isdir(self.place()):
            return ParameterError(f"root = {self.root!r} is no folder. Allowed: {allowed}")
        return ParameterError(f"root = {self.root!r} holds no workspace. Allowed: {allowed}")

    def _draw(self, place: str, entries: list[Entry]) -> None:
        """Have the thumbnails drawn that are missing; a picture less is no reason to have no page.

        Raises:
            StorageError: the store does not answer, which is no fault of a picture.
        """
        wanted = _wanted(entries)
        there = _pictures(place, wanted)
        missing = {name: entry for name, entry in wanted.items() if name not in there}
        root = place if storage.is_remote(place) else os.path.abspath(place)
        limits = config.limits().settings()  # a workspace may come from anywhere
        tasks = [
            DrawThumbnail(
                workspace=os.path.join(root, *entry.folder),
                gif=entry.gif,
                path=os.path.join(_folder(root), name),
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
            return SameWorkspace.of_folder(_folder(root), first.read(root), "--root")

        try:
            failures = self.dispatch(tasks, len(tasks), settings, "pictures", look)
        finally:
            storage.remove(os.path.join(_folder(place), MARK))
        for failure in failures:
            task: Any = failure.task
            error = failure.exception
            if isinstance(error, MemoryError | StorageError):
                raise error  # nothing is wrong with the picture
            logger.warning("Gallery: no picture of %s: %s", task.workspace, reason(failure))


def _index(place: str) -> str:
    return os.path.join(place, INDEX)


def _folder(place: str) -> str:
    """Where the small pictures of a page lie."""
    return os.path.join(place, FOLDER)


def _is_shown(place: str, entries: list[Entry]) -> bool:
    """Whether the page there is of these entries. If that cannot be read, run() says why."""
    try:
        pictures = _pictures(place, _wanted(entries))
        return page.read_mark(_index(place)) == gallery_page.mark(place, entries, pictures)
    except StorageError:
        return False


def _pictures(place: str, wanted: dict[str, Entry]) -> set[str]:
    """Those of the thumbnails that are there. One that cannot be drawn is not tried again until another is."""
    return {name for name, size in storage.sizes(_folder(place)).items() if size and name in wanted}


def _wanted(entries: list[Entry]) -> dict[str, Entry]:
    """The thumbnails that are shown, and what each is drawn from; if it can be, no night that only names another."""
    wanted: dict[str, Entry] = {}
    for entry in entries:
        if entry.digest:
            name = thumbnail_name(entry.digest)
            if name not in wanted or wanted[name].same_as:
                wanted[name] = entry
    return wanted
