"""A catalog of many streams: a TOML file with a table for each.

[[stream]]
name = "harbour"                            # the folder of its outputs
url = "https://example.org/harbour.img"

[[stream]]
name = "summit"
url = "s3://bucket/summit.img"
delay = 40                                  # as delimiter, loop and gif: parameters of CombineGif
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from imagetl_luigi.errors import ParameterError

KINDS: dict[str, type] = {"name": str, "url": str, "delimiter": str, "gif": str, "delay": int, "loop": int}
"""What a stream's table may hold."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Stream:
    """One stream: the name of its folder, and parameters of CombineGif."""

    name: str
    parameters: dict[str, Any] = field(hash=False)


def parse_catalog(text: bytes, path: str) -> list[Stream]:
    """The streams of a catalog, in order.

    Args:
        path: where it is from, to be named in messages.

    Raises:
        ParameterError: it is no such file, has no stream, or one that cannot be; the message names it.
    """
    try:
        tables = tomllib.loads(text.decode())
    except ValueError as error:  # of TOML or of UTF-8
        raise ParameterError(f"catalog = {path!r} is no TOML: {error}") from None
    found = tables.pop("stream", None)
    if tables or not isinstance(found, list) or not found:
        wrong = f"has {', '.join(map(repr, tables))}" if tables else "has no stream"
        raise ParameterError(f"catalog = {path!r} {wrong}. Allowed: [[stream]] tables, each with a name and a url")
    streams = [_stream(path, number, table) for number, table in enumerate(found, 1)]
    seen: dict[str, int] = {}
    for number, stream in enumerate(streams, 1):
        first = seen.setdefault(stream.name.casefold(), number)  # some file systems do not tell A from a
        if first != number:
            raise ParameterError(
                f"{path}: streams {first} and {number} are both named {stream.name!r}; they would share a folder"
            )
    return streams


def _stream(path: str, number: int, table: Any) -> Stream:
    if not isinstance(table, dict):
        raise ParameterError(f"{path}: stream {number} is {table!r} and no table; write [[stream]] above its name")
    for key, value in table.items():
        kind = KINDS.get(key)
        if kind is None:
            raise ParameterError(f"{path}: stream {number} has {key!r}. Allowed: {', '.join(KINDS)}")
        if type(value) is not kind:
            shown = "…" if key == "url" else repr(value)  # there may be a password in it
            raise ParameterError(
                f"{path}: {key} = {shown} of stream {number} is not possible; "
                f"it must be {'a whole number' if kind is int else 'text in quotes'}"
            )
    for key in ("name", "url"):
        if not table.get(key):
            raise ParameterError(f"{path}: stream {number} has no {key}")
    name = table["name"]
    if not _NAME.fullmatch(name) or name.casefold() == "logs":
        raise ParameterError(
            f"{path}: name = {name!r} of stream {number} is not possible. Allowed: letters, digits, . _ - "
            "and no more than 100 of them, the first a letter or digit; and not logs, where scripts/nightly has its own"
        )
    return Stream(name, {key: value for key, value in table.items() if key != "name"})
