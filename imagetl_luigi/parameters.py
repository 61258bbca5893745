"""Luigi parameters that refuse what cannot be right, wherever the value comes from."""

from __future__ import annotations

from typing import Any

import luigi

from imagetl_luigi.errors import ParameterError


class UrlParameter(luigi.Parameter[str]):
    """A URL or a path; never empty."""

    def normalize(self, x: str) -> str:
        """Strip what a copied line leaves around it."""
        if not isinstance(x, str) or not x.strip():
            raise ParameterError(f"url = {x!r} is empty. Allowed: http://…, https://…, file:///…, or a path")
        return x.strip()


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
            raise ParameterError(f"{self._name} = {x!r} is not a {self.kind}") from None


class WholeNumberParameter(_Number, luigi.IntParameter):
    """A whole number."""


class OptionalWholeNumberParameter(_Number, luigi.OptionalIntParameter):
    """A whole number, or nothing."""


class NumberParameter(_Number, luigi.FloatParameter):
    """A number."""

    kind = "number"
