"""CombineGifs: many streams in one run."""

from __future__ import annotations

import os
from typing import Any

import luigi

from imagetl_luigi import nights, storage
from imagetl_luigi.catalog import Stream, parse_catalog
from imagetl_luigi.errors import ImagetlError, ParameterError, StorageError
from imagetl_luigi.nightly import NightlyGif
from imagetl_luigi.parameters import OptionalDayParameter, PathParameter
from imagetl_luigi.stage import SettledTask
from imagetl_luigi.tasks import CombineGif


class CombineGifs(SettledTask, luigi.WrapperTask):
    """Combine the frames of many streams, each in a folder of its own; one that fails does not stop the others."""

    catalog = PathParameter(
        default="",  # which is refused, in one line
        description="TOML file with a [[stream]] table for each: name, url, delay …; see README",
    )
    root = PathParameter(
        default="data",
        description="place of the streams, each in a folder of its name: a folder, or a URL such as "
        "s3://bucket/prefix; default: data",
    )
    date = OptionalDayParameter(
        default=None,
        description="the night, as 2026-11-24: each stream is then one of NightlyGif, in a folder of this name; "
        "default: none, each stream is one of CombineGif",
    )

    def check(self) -> None:
        """Refuse a catalog with any stream that cannot be."""
        super().check()
        self._text = b""
        self.requires()

    def complete(self) -> bool:
        """Whether all animations are there. One that cannot be looked at is for Luigi to report, and stops no other."""
        return all(map(_is_there, self.requires()))

    def requires(self) -> list[luigi.Task]:
        """The animation of each stream, as the catalog is now: Luigi keeps a task for as long as a process lives."""
        if not self.catalog:
            raise ParameterError("catalog is not given. Allowed: the path of a TOML file with [[stream]] tables")
        try:
            text = storage.read_bytes(self.catalog)
        except StorageError as error:
            raise ParameterError(f"catalog = {self.catalog!r}: {error}") from error
        if text != self._text:
            self._streams = [self._task(stream) for stream in parse_catalog(text, self.catalog)]
            self._text = text
        return self._streams

    def _task(self, stream: Stream) -> luigi.Task:
        place = os.path.join(self.root, stream.name)
        parameters: dict[str, Any] = stream.parameters
        try:
            if self.date is not None:
                return NightlyGif(date=self.date, root=place, **parameters)
            if nights.is_dated(parameters["url"]):
                raise ParameterError("its url has {date} in it, so the run needs --date, such as --date 2026-11-24")
            own = parameters.get("gif", "")
            if os.path.isabs(own) or storage.is_remote(own):
                raise ParameterError(f"gif = {own!r} is not possible. Allowed: a name in the stream's folder")
            make: type[luigi.Task] = CombineGif
            return make(workspace=place, **parameters)
        except ParameterError as error:
            raise ParameterError(f"{self.catalog}: stream {stream.name!r}: {error}") from error


def _is_there(task: luigi.Task) -> bool:
    try:
        return bool(task.complete())
    except ImagetlError:
        return False
