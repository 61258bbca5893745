"""NightlyGif: the animation of one night, for cron and for Luigi's RangeDaily."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import luigi

from imagetl_luigi import nights, storage
from imagetl_luigi.errors import ImagetlError, ParameterError
from imagetl_luigi.logs import logger
from imagetl_luigi.manifest import Manifest, read_manifest
from imagetl_luigi.parameters import NightUrlParameter, PathParameter, TodayParameter
from imagetl_luigi.prefetch import REQUESTS
from imagetl_luigi.source import public_url, read_record, record_path
from imagetl_luigi.stage import SettledTask
from imagetl_luigi.targets import DataFileTarget, GifTarget
from imagetl_luigi.tasks import CombineGif, Split
from imagetl_luigi.workspace import Workspace


class NightlyGif(SettledTask):
    """Make the animation of one night in a workspace of its own. A source that has not changed is not fetched again."""

    date = TodayParameter(description="the night, as 2026-11-24; default: today")
    url = NightUrlParameter(
        default="",  # which is refused, in one line
        description="what to fetch: http://…, https://…, s3://…, file:///… or a path. "
        "{date} in it is the night's date, {date:%Y%m%d} the date in another form",
    )
    root = PathParameter(
        default="",
        description="place of the nights, each in a folder named by its date: a folder, or a URL such as "
        "s3://bucket/prefix; default: data/NAME-HASH, derived from the URL",
    )
    delimiter = Split.delimiter
    gif = PathParameter(default="clip.gif", description="the animation: a name in the workspace of the night")
    delay = CombineGif.delay
    loop = CombineGif.loop

    retry_count = 1  # the download has its own retries, and the stages theirs

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi only reads it
        """Older nights first, with all they need: the next one may have the same bytes."""
        date: datetime.date = self.date
        return datetime.date.max.toordinal() - date.toordinal()

    @classmethod
    def get_params(cls) -> list[tuple[str, luigi.Parameter[Any]]]:
        """The date first: RangeDaily takes the first one for what it counts."""
        return sorted(super().get_params(), key=lambda named: named[0] != "date")

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[datetime.date]) -> list[datetime.date]:
        """Those of the dates whose nights are complete; one listing tells which can be, and no task is made for each.

        In a store, several are looked at at a time.
        """
        dates = list(parameter_tuples)
        if not dates:
            return []
        any_night = cls(date=dates[0])
        there = set(nights.listed(any_night.place()))
        some = [date for date in dates if date in there]
        with ThreadPoolExecutor(REQUESTS if storage.is_remote(any_night.place()) else 1) as pool:
            complete = pool.map(any_night._is_made, some)
            return [date for date, done in zip(some, complete, strict=True) if done]

    def check(self) -> None:
        """Refuse an animation outside of the night's workspace, too: the next night would overwrite it."""
        super().check()
        if os.path.isabs(self.gif) or storage.is_remote(self.gif):
            raise ParameterError(f"gif = {self.gif!r} is not possible. Allowed: a name in the workspace of each night")
        self.animation()

    def place(self) -> str:
        """Where the nights lie."""
        return self.root or nights.default_root(self.url)

    def paths(self, date: datetime.date) -> Workspace:
        """Where the files of a night lie."""
        return Workspace.of(nights.url_of(self.url, date), nights.workspace(self.place(), date), gif=self.gif)

    def _url(self) -> str:
        return nights.url_of(self.url, self.date)

    def target(self, date: datetime.date) -> GifTarget:
        """The animation of a night, as CombineGif sees it."""
        url = nights.url_of(self.url, date)
        return GifTarget(self.paths(date), url, delimiter=self.delimiter, delay=self.delay, loop=self.loop)

    def output(self) -> GifTarget:
        """The animation."""
        return self.target(self.date)

    def animation(self) -> CombineGif:
        """The task that makes it."""
        place = nights.workspace(self.place(), self.date)
        task: CombineGif = self.clone(CombineGif, url=self._url(), workspace=place)
        return task

    def yields(self) -> list[luigi.Task]:
        """What run() may leave to Luigi."""
        return [self.animation()]

    def run(self) -> Iterator[luigi.Task]:
        """Fetch the source unless it has not changed; have the frames combined, or take over an earlier night.

        Raises:
            DownloadError: it cannot be fetched.
            ManifestError: the bytes of this night are those of another, which has them no more.
        """
        if self.complete():  # Luigi begins anew when what was yielded is done
            return
        with self.hold(self.paths(self.date).root):
            same = self._recorded() or self._fetched()
            if same:
                self._take_over(*same)
                return
        yield self.animation()

    def _recorded(self) -> tuple[datetime.date, Manifest] | None:
        """The night that this one was completed from, if it was, and by now its animation is wanted in another way.

        What is at the source now is not of that night. So if the other one has no such animation, its bytes come here.
        """
        night = self.paths(self.date)
        manifest = read_manifest(night.manifest)
        date = nights.parse(manifest.same_as) if manifest else None
        if manifest is None or date is None or date >= self.date or storage.exists(night.data_file):
            return None
        if (manifest.source.url, manifest.delimiter) != (public_url(self._url()), self.delimiter):
            return None
        earlier = read_manifest(self.paths(date).manifest)
        if earlier and earlier.source.sha256 == manifest.source.sha256 and self._is_made(date):
            return date, earlier
        nights.fetch_from(self.paths(date), night, manifest.source)
        return None

    def _fetched(self) -> tuple[datetime.date, Manifest] | None:
        """Fetch the source; return the last night that is complete if it had the same bytes."""
        data_file = DataFileTarget(self.paths(self.date), self._url())
        if self.date != datetime.date.today() and not nights.is_dated(self.url):
            logger.warning("NightlyGif: %s is not today, and no {date} in the url, so it gets what is there", self.date)
        last = self._last()
        source = last[1].source if last else None
        self.fetch(data_file, source if source and source.validator and source.url == public_url(self._url()) else None)
        return last if source and data_file.digest() in (None, source.sha256) else None

    def _last(self) -> tuple[datetime.date, Manifest] | None:
        """The last night before this one that is complete and says what it was made from.

        None of an older version counts that took no picture for turned: this night has the bytes to look again.
        """
        for date in reversed(nights.listed(self.place())):
            if date < self.date and self._is_made(date):
                manifest = read_manifest(self.paths(date).manifest)
                if manifest and not manifest.outdated:
                    return date, manifest
        return None

    def _is_made(self, date: datetime.date) -> bool:
        """Whether the animation of a night is there; one that cannot be looked at is no reason to miss another."""
        try:
            return self.target(date).exists()
        except ImagetlError as error:
            logger.warning("NightlyGif: the night of %s counts as not made: %s", date, error)
            return False

    def _take_over(self, date: datetime.date, manifest: Manifest) -> None:
        """Complete this night from that one. A data file that was fetched goes: its bytes are there already."""
        night = self.paths(self.date)
        record = read_record(night.data_file) if storage.exists(night.data_file) else None
        source = record[0] if record else replace(manifest.source, url=public_url(self._url()))
        nights.take_over(self.paths(date), manifest, night, source, self.output().recipe(manifest))
        storage.remove(night.data_file)
        storage.remove(record_path(night.data_file))
        logger.info("NightlyGif: %s has the bytes of %s, whose animation it takes", night.root, date)
