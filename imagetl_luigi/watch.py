"""WatchPage: a page to watch the frames on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import luigi
from luigi.util import inherits, requires

from imagetl_luigi import config, contact_sheet, nights, page, storage, watch_page
from imagetl_luigi.errors import FrameError
from imagetl_luigi.frame_tasks import DrawRow
from imagetl_luigi.logs import logger
from imagetl_luigi.manifest import Manifest
from imagetl_luigi.stage import ImagetlStage, reason
from imagetl_luigi.targets import GifTarget, WatchTarget
from imagetl_luigi.task_graph import Mapped
from imagetl_luigi.tasks import CombineGif, WriteFrames, read_whole
from imagetl_luigi.workspace import Workspace


@inherits(CombineGif)
class RestoreFrames(ImagetlStage):
    """Have frames again that were removed to save space; and another animation, if the source has others by now.

    It is a task of its own since Luigi runs none whose requirements, here the animation, are out of date.
    """

    def requires(self) -> WriteFrames:
        """The frames."""
        task: WriteFrames = self.clone(WriteFrames)
        return task

    def animation(self) -> CombineGif:
        """What they are combined to."""
        task: CombineGif = self.clone(CombineGif)
        return task

    def complete(self) -> bool:
        """Whether frames and animation are there, and of each other."""
        return bool(self.requires().complete()) and self.animation().complete()

    def yields(self) -> list[luigi.Task]:
        """What run() may leave to Luigi."""
        return [self.animation()]

    def run(self) -> Iterator[luigi.Task]:
        """Have the animation made of the frames as they are now."""
        if not self.animation().complete():
            yield self.animation()


@requires(CombineGif)
class WatchPage(ImagetlStage):
    """Write the page of a workspace: a file that shows the animation, each frame, and where all of it came from."""

    delimiter: str  # Split's
    delay: int | None  # CombineGif's

    def paths(self) -> Workspace:
        """Where this run's files lie, those of the animation; its task refuses what cannot be."""
        paths: Workspace = self.requires().paths()
        return paths

    def animation(self) -> GifTarget:
        """What the page is about."""
        target: GifTarget = self.requires().output()
        return target

    def output(self) -> WatchTarget:
        """The page, and the frames that it shows."""
        return WatchTarget(self.animation())

    def complete(self) -> bool:
        """Whether it is there, of this animation, and all that it shows with it."""
        return bool(self.requires().complete()) and self.output().exists()

    def yields(self) -> list[luigi.Task]:
        """What run() may leave to Luigi."""
        gone = self.requires().complete() and not self._frames_are_there()
        return [self.clone(RestoreFrames)] if gone else []

    def run(self) -> Iterator[luigi.Task]:
        """Draw the contact sheet on Dask, and write the page.

        Frames that were removed to save space are made again before.

        Raises:
            ManifestError: the frames are those of another night, which has them no more.
            FrameError: a row of the sheet cannot be drawn.
            PageError: there is an index.html or a contact-sheet.jpg that is none of ours.
        """
        paths = self.paths()
        page.check_place(paths.page)
        page.check_place(paths.contact_sheet, contact_sheet.MARK)
        if not self._frames_are_there():
            with self.alone():
                nights.fetch_if_same(paths)
            yield self.clone(RestoreFrames)  # Luigi begins anew when they are there
        with self.alone():
            manifest = read_whole(self.animation().manifest)
            if not self.output().is_made():  # only frames were missing, or another run has made it while we waited
                self._write(manifest)
        logger.info("WatchPage: %s, %s", paths.page, page.plural(manifest.count, "frame"))

    def mapped(self) -> Mapped | None:
        """Its DrawRow tasks; None as long as nobody knows the frames."""
        manifest = self.animation().manifest.read()
        if manifest is None:
            return None
        rows = self._rows(manifest)
        made = len(rows) if self.output().is_made() else sum(task.complete() for task in rows)
        return Mapped(DrawRow.get_task_family(), len(rows), made)

    def _frames_are_there(self) -> bool:
        return bool(self.clone(WriteFrames).output().exists())

    def _write(self, manifest: Manifest) -> None:
        """Draw what is missing of the sheet; write the sheet, and then the page, which says that all is there."""
        from imagetl_luigi.sheet_drawing import join_rows, read_row  # imports Pillow

        paths, layout, rows = self.paths(), contact_sheet.layout_of(manifest), self._rows(manifest)
        storage.sweep(paths.sheet_rows)
        missing = [row for row in rows if not (row.complete() and read_row(storage.read_bytes(row.path), layout))]
        failures = self.on_dask(missing, len(missing), config.dask().settings(), manifest, noun="rows of thumbnails")
        if failures:
            count = page.plural(len(failures), "row")
            raise FrameError(f"{count} of the contact sheet cannot be drawn, the first: {reason(failures[0])}")
        drawn = (storage.read_bytes(row.path) for row in rows)
        sheet, found = join_rows(drawn, layout, self._step(manifest), contact_sheet.mark_of(manifest))
        recipe = self.animation().recipe(manifest)
        shown = watch_page.render(manifest, recipe, paths, layout, found.delays, found.broken)
        for path, data in ((paths.contact_sheet, sheet), (paths.page, shown)):
            with storage.atomic_write(path) as file:
                file.write(data)
        drawn_rows = filter(contact_sheet.ROW.fullmatch, storage.sizes(paths.sheet_rows))
        storage.remove_all(os.path.join(paths.sheet_rows, name) for name in drawn_rows)
        storage.remove_folder(paths.sheet_rows)

    def _rows(self, manifest: Manifest) -> list[DrawRow]:
        """The tasks of all rows, whose files are named by what they show: a row of other frames is never taken."""
        layout, mark = contact_sheet.layout_of(manifest), contact_sheet.mark_of(manifest)
        step, paths, frames = self._step(manifest), self.working_paths(), list(manifest.frames())
        return [
            DrawRow(
                frames=[
                    (paths.frame(frame.name), frame.length, frame.sha256, frame.orientation)
                    for frame in map(frames.__getitem__, layout.row(number, step))
                ],
                count=manifest.count,
                width=manifest.width,
                height=manifest.height,
                step=step,
                path=os.path.join(paths.sheet_rows, contact_sheet.row_name(mark, number, step)),
            )
            for number in range(layout.rows)
        ]

    def _step(self, manifest: Manifest) -> int:
        """Which frames are read: all, if they say how long they are shown; else those that have a tile."""
        return 1 if self.delay is None and "gif" in manifest.formats else contact_sheet.layout_of(manifest).every
