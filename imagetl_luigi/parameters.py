"""Luigi parameters that refuse what cannot be right, wherever the value comes from."""

from __future__ import annotations

import datetime
import os
import re
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import OptionalParameterMixin

from imagetl_luigi import nights
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.source import check_url, local_path, public_url


class PathParameter(luigi.Parameter[str]):
    """A path, as text or as a pathlib.Path."""

    def normalize(self, x: str | os.PathLike[str]) -> str:
        """As text."""
        return os.fspath(x)


class UrlParameter(PathParameter):
    """A URL or a path; never empty."""

    def normalize(self, x: str | os.PathLike[str]) -> str:
        """Strip what a copied line leaves around it. Raises ParameterError for what cannot be fetched."""
        url = super().normalize(x).strip()
        if not url:
            raise ParameterError(f"url = {x!r} is empty. Allowed: http://…, https://…, file:///…, or a path")
        if "://" in url and nights.is_dated(url):
            raise ParameterError(f"url = {nights.public_url(url)!r} is that of many nights; use NightlyGif")
        check_url(url)
        return url

    def serialize(self, x: str) -> str:
        """Without its secrets: this is what Luigi logs, sends to luigid, and tells two tasks apart by."""
        return x if local_path(x) is not None else public_url(x)


class NightUrlParameter(UrlParameter):
    """The URL of many nights: `{date}` in it, or `{date:%Y%m%d}`, is the date of each."""

    def normalize(self, x: str | os.PathLike[str]) -> str:
        """As UrlParameter, for any date. Raises ParameterError also for braces with something else in them."""
        url = PathParameter.normalize(self, x).strip()
        super().normalize(nights.url_of(url, datetime.date(2000, 1, 1)))
        rest = nights.url_of(url, datetime.date(2000, 1, 1))
        if "://" in url and re.search(r"[{}]", rest):
            raise ParameterError(
                f"url = {nights.public_url(url)!r} is not possible. Allowed in braces: {{date}}, or a form of it such "
                "as {date:%Y%m%d}; a brace in the address itself is written %7B or %7D"
            )
        return url

    def serialize(self, x: str) -> str:
        """Without its secrets."""
        return x if local_path(x) is not None else nights.public_url(x)


class DelimiterParameter(luigi.Parameter[str]):
    r"""Bytes between frames, written with Python's escapes: `\n\n\n\n`, `\r\n`, `\x00`, `--frame--\n`.

    A value with real newlines is turned into one with escapes, so that both are the same task.
    """

    def normalize(self, x: str) -> str:
        """The one way to write these bytes."""
        return to_bytes(x).decode("latin-1").encode("unicode_escape").decode("ascii")


def to_bytes(delimiter: str) -> bytes:
    r"""The bytes that a delimiter stands for.

    >>> to_bytes(r"--\xff\n")
    b'--\xff\n'

    Raises:
        ParameterError: it is empty, or an escape is broken or stands for more than a byte.
    """
    try:
        data = delimiter.encode("utf-8").decode("unicode_escape").encode("latin-1")
    except UnicodeError as error:
        raise ParameterError(
            f"delimiter = {delimiter!r} cannot be read: {error}. Allowed: text with Python's escapes for bytes, "
            r"such as \n, \r, \t, \x00 or \\"
        ) from None
    if not data:
        raise ParameterError(r"delimiter is empty. Allowed: one byte or more, such as \n\n\n\n")
    return data


class _Number(luigi.Parameter[Any]):
    """Says which parameter it is that is not a number."""

    kind = "whole number"

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self._name = name

    def parse(self, x: str) -> Any:
        """Read it. Raises ParameterError."""
        try:
            return super().parse(x)
        except ValueError:
            raise self._wrong(x) from None

    def normalize(self, x: Any) -> Any:
        """Refuse from Python what is no number, too."""
        if x is not None and not isinstance(x, int | float):
            raise self._wrong(x)
        return super().normalize(x)

    def _wrong(self, x: object) -> ParameterError:
        return ParameterError(f"{self._name} = {x!r} is not a {self.kind}")


class WholeNumberParameter(_Number, luigi.IntParameter):
    """A whole number."""


class OptionalWholeNumberParameter(_Number, luigi.OptionalIntParameter):
    """A whole number, or nothing."""


class NumberParameter(_Number, luigi.FloatParameter):
    """A number."""

    kind = "number"


class DayParameter(luigi.DateParameter):
    """A date, written as 2026-11-24."""

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self._name = name

    def parse(self, s: str) -> datetime.date:
        """Read it. Raises ParameterError."""
        try:
            day: datetime.date = super().parse(s)
        except ValueError:
            raise ParameterError(f"{self._name} = {s!r} is no date. Allowed: year-month-day, as 2026-11-24") from None
        return day


class TodayParameter(DayParameter):
    """A date; where none is given, the one when the task is made, by the clock of this machine."""

    def has_task_value(self, task_name: str, param_name: str) -> bool:
        """Always."""
        return True

    def task_value(self, task_name: str, param_name: str) -> datetime.date:
        """The one given on the command line or in luigi.cfg, or today."""
        if not super().has_task_value(task_name, param_name):
            return datetime.date.today()
        day: datetime.date = super().task_value(task_name, param_name)
        return day


class OptionalDayParameter(OptionalParameterMixin[datetime.date], DayParameter):  # type: ignore[misc]
    """A date, or nothing."""

    expected_type = datetime.date


def refuse_empty_flags(task: luigi.Task) -> None:
    """Refuse `--url ""` and the like, which Luigi takes for a flag that is not given: a variable was empty.

    Raises:
        ParameterError: names the flag.
    """
    parser = CmdlineParser.get_instance()
    if parser is None or parser.known_args.root_task != task.task_family:
        return
    for name in task.get_param_names(include_significant=True):
        if getattr(parser.known_args, name, None) == "":
            flag = name.replace("_", "-")
            raise ParameterError(f"--{flag} is empty; give it a value, or leave it out for its default")
