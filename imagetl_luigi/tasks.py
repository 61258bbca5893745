"""The stages of the workflow: Download, Split, WriteFrames with its WriteFrame tasks, and CombineGif.

Each task says what it needs, what it makes, and in a few lines how; the work is done by the plain
modules. Parameters are declared once and inherited along the chain.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO, cast

import luigi
from luigi.util import requires

from imagetl_luigi import config, storage
from imagetl_luigi.dask_chunk import Failure, WorkerKilled
from imagetl_luigi.errors import FrameError, ImagetlError, ManifestError
from imagetl_luigi.frame_tasks import ConvertFrame, WriteFrame
from imagetl_luigi.gif import check_timing, combine
from imagetl_luigi.gif_frames import read_gifs
from imagetl_luigi.logs import logger
from imagetl_luigi.manifest import Frame, Manifest, write_manifest
from imagetl_luigi.parameters import (
    DelimiterParameter,
    OptionalWholeNumberParameter,
    PathParameter,
    WholeNumberParameter,
    to_bytes,
)
from imagetl_luigi.prefetch import MOST_AHEAD, REQUESTS
from imagetl_luigi.progress import Progress
from imagetl_luigi.settings import DaskSettings
from imagetl_luigi.source import describe
from imagetl_luigi.split import Span, split_stream
from imagetl_luigi.stage import ImagetlStage, reason
from imagetl_luigi.targets import DataFileTarget, FramesTarget, GifTarget, ManifestTarget
from imagetl_luigi.task_graph import Mapped
from imagetl_luigi.transfer import check_size
from imagetl_luigi.workspace import Workspace

SMALL_FRAME = 32 * 1024
"""Bytes below which frames are written by one thread unless [dask] threads says otherwise: a system call takes
so little that several threads only hand Python's lock around. Measured: a third more CPU, and no less time."""

MOST_YIELDED = 20
"""Failed frames shown to Luigi one by one; its scheduler takes ever longer the more tasks it has."""


class Download(ImagetlStage):
    """Fetch the URL into the data file, unless it is there. Retries are its own; see [download]."""

    retry_count = 1  # Luigi's would multiply ours

    def output(self) -> DataFileTarget:
        """The data file."""
        return DataFileTarget(self.paths(), self.url)

    def run(self) -> None:
        """Fetch it. Raises DownloadError, of which SourceConflict if the file is of another URL."""
        with self.alone():
            self.fetch(self.output())


@requires(Download)
class Split(ImagetlStage):
    """Find the frames of the data file and list them in the manifest."""

    delimiter = DelimiterParameter(
        default=r"\n\n\n\n", description=r"bytes between frames, with escapes such as \n, \r, \x00; default: \n\n\n\n"
    )

    retry_count = 1  # the same bytes would be split in the same way

    def output(self) -> ManifestTarget:
        """The manifest."""
        return ManifestTarget(self.paths(), self.url, self.delimiter)

    def run(self) -> None:
        """Split it. Raises SplitError if there is no frame, or one that is not whole."""
        data_file = self.paths().data_file
        with self.alone(), storage.viewing(data_file) as view, Progress(self, "bytes") as progress:
            fingerprint, size = str(storage.fingerprint(data_file)), storage.size(data_file)
            limits = config.limits().settings()
            check_size(size, data_file, limits)
            count = write_manifest(
                self.output().path,
                _reported(split_stream(view, size, to_bytes(self.delimiter), limits), size, progress),
                source=describe(data_file, self.url),
                fingerprint=fingerprint,
                delimiter=self.delimiter,
            )
        logger.info("Split: %s, %s frames", self.output().path, f"{count:,}")


@requires(Split)
class WriteFrames(ImagetlStage):
    """Write every frame that is not there, on Dask; see [dask]."""

    verify = luigi.BoolParameter(
        default=False,
        significant=False,
        description="read every frame back against its sha256, and the GIF against the frames; make again what differs",
    )

    def output(self) -> FramesTarget:
        """The frame files."""
        return FramesTarget(self.paths(), self.requires().output(), self.verify)

    def run(self) -> Iterator[list[luigi.Task]]:
        """Write them; yield to Luigi those that failed on Dask, so that each shows with its own error.

        Raises:
            FrameError: a frame kills whatever writes it, or the data file is not what was split.
            DaskWorkerError: there is no Dask to run on.
        """
        target = self.output()
        with self.alone():
            manifest = read_whole(self.requires().output())
            failures = self._write(manifest, target)
        for failure in failures:
            if isinstance(failure.exception, WorkerKilled):
                raise FrameError(str(failure.exception))  # never in this process
        if failures:
            count = f"{len(failures):,} of {manifest.count:,}"
            logger.warning("WriteFrames: %s frames failed on Dask, the first: %s", count, reason(failures[0]))
            yield [failure.task for failure in failures[:MOST_YIELDED]]
        wrong = next(target.missing(manifest), None) if self.verify else None
        if wrong:
            raise FrameError(
                f"{wrong.name} is not what the manifest says, though it was just written: "
                f"{self.paths().data_file} has changed; remove it and run again"
            )

    def mapped(self) -> Mapped:
        """Its WriteFrame tasks, one for each frame of the manifest."""
        return Mapped(WriteFrame.get_task_family(), *self.output().counts())

    def _write(self, manifest: Manifest, target: FramesTarget) -> list[Failure]:
        fresh = target.mark(manifest)
        missing = None if fresh else list(target.missing(manifest))
        tasks = self._tasks(manifest.frames() if missing is None else missing)
        total = manifest.count if missing is None else len(missing)
        return self.on_dask(tasks, total, self._fitting(config.dask().settings(), manifest), manifest)

    def _fitting(self, settings: DaskSettings, manifest: Manifest) -> DaskSettings:
        """The settings, with what they leave open made to fit the frames and where they lie."""
        if storage.is_remote(self.paths().root):
            in_memory = MOST_AHEAD * manifest.count // max(1, manifest.source.length)
            return replace(settings, at_once=settings.at_once or max(1, min(REQUESTS, in_memory)))
        if manifest.source.length < SMALL_FRAME * manifest.count:
            return replace(settings, threads=settings.threads or 1)
        return settings

    def _tasks(self, frames: Iterable[Frame]) -> Iterator[WriteFrame]:
        paths = self.working_paths()
        for frame in frames:
            yield WriteFrame.uncached(
                data_file=paths.data_file, offset=frame.offset, length=frame.length, path=paths.frame(frame.name)
            )


@requires(WriteFrames)
class CombineGif(ImagetlStage):
    """Combine all frames into one animated GIF."""

    delimiter: str  # Split's
    verify: bool  # WriteFrames'
    gif = PathParameter(
        default="clip.gif", description="the animation: a name in the workspace, or an absolute path or URL"
    )
    delay = OptionalWholeNumberParameter(
        default=None,
        description="milliseconds a frame, a multiple of 10; default: each frame's own, or 100. "
        "Browsers slow what is below 20",
    )
    loop = WholeNumberParameter(default=0, description="how often it plays; default: 0, for ever")

    def check(self) -> None:
        """Refuse what a GIF cannot say, too."""
        super().check()
        check_timing(self.delay, self.loop)

    def paths(self) -> Workspace:
        """Where this run's files lie."""
        return Workspace.of(self.url, self.workspace, self.data_file, self.gif)

    def output(self) -> GifTarget:
        """The animation."""
        return GifTarget(self.paths(), self.url, delimiter=self.delimiter, delay=self.delay, loop=self.loop)

    def complete(self) -> bool:
        """Whether the animation is there, made of these frames in this way; with `verify`, to the last byte."""
        return self.output().exists() and (not self.verify or (self.requires().complete() and self._is_exact()))

    def run(self) -> None:
        """Combine them. Raises FrameError if a frame cannot be."""
        target = self.output()
        manifest = read_whole(target.manifest)
        if set(manifest.formats) != {"gif"}:
            self._convert(manifest, self.working_paths())
        with storage.atomic_write(target.path) as out, Progress(self, "frames") as progress:
            for count in self._combine(manifest, out):
                progress(count, manifest.count)
        logger.info("CombineGif: %s, %s frames", target.path, f"{manifest.count:,}")

    def mapped(self) -> Mapped | None:
        """Its ConvertFrame tasks, one for each content that is no GIF; None if there are none, or nobody knows yet."""
        manifest = self.output().manifest.read()
        if manifest is None or set(manifest.formats) <= {"gif", "unknown"}:
            return None
        wanted = {frame.converted_name for frame in manifest.frames() if frame.format not in ("gif", "unknown")}
        there = storage.sizes(self.paths().converted_folder)
        return Mapped(ConvertFrame.get_task_family(), len(wanted), len(wanted & there.keys()))

    def _combine(self, manifest: Manifest, out: BinaryIO) -> Iterator[int]:
        with contextlib.closing(read_gifs(manifest, self.paths())) as gifs:
            yield from combine(
                gifs,
                out,
                screen=(manifest.width, manifest.height),
                opaque=manifest.opaque,
                recipe=self.output().recipe(manifest),
            )

    def _is_exact(self) -> bool:
        """Whether the animation is what combining the frames now would give."""
        try:
            with storage.open_read(self.output().path) as file:
                comparison = storage.Comparison(file)
                for _ in self._combine(read_whole(self.output().manifest), cast(BinaryIO, comparison)):
                    if not comparison.equal:
                        return False
                return comparison.equal and comparison.at_end()
        except ImagetlError:  # a converted frame that is damaged or gone
            return False

    def _convert(self, manifest: Manifest, paths: Workspace) -> None:
        """Make GIFs of the other frames on Dask, each content once; they stay, for the next delay."""
        wanted: dict[str, ConvertFrame] = {}
        there = storage.sizes(paths.converted_folder)
        for frame in manifest.frames():
            if frame.format == "unknown":
                raise FrameError(
                    f"frame {frame.index} at offset {frame.offset:,} is of no known format "
                    f"(GIF, PNG, JPEG, WebP, BMP), so the frames cannot be combined; "
                    f"look at {paths.frame(frame.name)}"
                )
            if frame.format != "gif" and frame.converted_name not in there:
                path = paths.converted(frame.converted_name)
                wanted[path] = ConvertFrame(frame=paths.frame(frame.name), orientation=frame.orientation, path=path)
        failures = self.on_dask(wanted.values(), len(wanted), config.dask().settings(), manifest)
        if failures:
            raise FrameError(f"{len(failures):,} frames cannot be converted, the first: {reason(failures[0])}")


def _reported(spans: Iterable[Span], size: int, progress: Progress) -> Iterator[Span]:
    """The frames of a stream, with a report behind each of how much of it has been looked at."""
    for span in spans:
        yield span
        progress(span.offset + span.length, size)
    progress(size, size)


def read_whole(target: ManifestTarget) -> Manifest:
    """The manifest, which a stage before has made. Raises ManifestError if it is not there any more."""
    manifest = target.read()
    if manifest is None:
        raise ManifestError(f"{target.path} went away or changed while it was used; run again")
    return manifest
