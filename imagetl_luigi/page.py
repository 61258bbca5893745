"""HTML pages that need nothing but what lies beside them: a template with its style and script put into it.

    pages/base.html, base.css    what all pages share
    pages/watch.html, .css, .js  the page of one workspace
    pages/gallery.html, .css     that of many

A page runs only the script and shows only the style whose SHA-256 its Content-Security-Policy names (W3C CSP3,
section 2.3.1), loads pictures from its own folder and nothing else. Jinja escapes whatever is put into the template.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imagetl_luigi import storage
from imagetl_luigi.errors import PageError

if TYPE_CHECKING:
    from jinja2 import Environment

MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]

_MARK = re.compile(rb'<meta name="imagetl_luigi" content="([0-9a-f]{64})">')
_LONGEST_HEAD = 4096


def render(name: str, mark: str, values: Mapping[str, Any]) -> bytes:
    """The page of the template `name`.html, with `name`.css and, if there is one, `name`.js in it.

    Args:
        mark: says what the page was made from (`mark_of`); `read_mark` finds it again.
        values: what the template shows. URLs for `href` and `src` come from `link` and `web_address`.
    """
    templates = _environment()
    style = "".join(_text(f"{part}.css") for part in ("base", name))
    script = _text(f"{name}.js")
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src 'self'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}" if script else "script-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    page = templates.get_template(f"{name}.html").render(values, mark=mark, policy=policy, style=style, script=script)
    return page.encode(errors="replace")  # the name of a file may hold what is no character


def mark_of(*parts: Any) -> str:
    """64 hexadecimal digits that stand for the parts, which are anything that JSON knows."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def design(name: str) -> str:
    """Stands for template, style and script of a page: what an older version has made is made again."""
    return mark_of(*(_text(f"{part}.{kind}") for part in ("base", name) for kind in ("html", "css", "js")))


def read_mark(path: str, mark: re.Pattern[bytes] = _MARK) -> str | None:
    """The mark of the file at `path`, which stands at its beginning; None where it is not there, or none of ours.

    Args:
        mark: how it is written; by default as in a page.
    """
    if not storage.exists(path):
        return None
    found = mark.search(storage.read_range(path, 0, _LONGEST_HEAD))
    return found[1].decode() if found else None


def check_place(path: str, mark: re.Pattern[bytes] = _MARK) -> None:
    """Refuse to overwrite what is none of ours. Arguments as for `read_mark`. Raises PageError."""
    if storage.exists(path) and read_mark(path, mark) is None:
        raise PageError(f"{path} is there, and imagetl_luigi has not made it; move it away, or choose another place")


def link(*names: str, version: str = "") -> str:
    """The relative URL of a file below the page (RFC 3986, section 4.2).

    Args:
        version: changes when the file does, so that no browser shows an old one that it has kept; servers
            ignore it.
    """
    path = "/".join(quote(os.fsencode(name), safe="") for name in names)
    return f"./{path}" + (f"?{quote(version, safe='')}" if version else "")


def web_address(url: str) -> str | None:
    """The URL if it may be followed from a page: one of http or https, and not javascript: and the like."""
    return url if url.partition("://")[0].lower() in ("http", "https") else None


def plural(count: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "frame"), plural(2000, "frame")
    ('1 frame', '2,000 frames')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """Bytes for people.

    >>> [size(count) for count in (0, 999, 93_112, 2_530_000, 4_321_000_000)]
    ['0 B', '999 B', '93.1 kB', '2.5 MB', '4.3 GB']
    """
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95 or unit == "GB":
            break
    return f"{amount:,.1f} {unit}"


def moment(text: str) -> str:
    """A time in ISO 8601 for people, or the text itself if it is none.

    >>> moment("2026-11-24T22:13:05+00:00")
    '24 November 2026, 22:13 UTC'
    """
    time = parse_moment(text)
    return f"{words(time)}, {time:%H:%M} UTC" if time else text


def parse_moment(text: str | None) -> datetime | None:
    """A time in ISO 8601, as UTC; None for what is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def words(day: date) -> str:
    """A date for people, in every locale.

    >>> words(date(2026, 11, 4))
    '4 November 2026'
    """
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # which runs without a page do without

    templates = Environment(
        loader=PackageLoader("imagetl_luigi", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"size": size, "moment": moment}
    templates.globals["plural"] = plural
    return templates


@cache
def _text(name: str) -> str:
    """A file of the folder `pages` as it is, or nothing where there is none."""
    file = resources.files("imagetl_luigi").joinpath("pages", name)
    return file.read_text(encoding="utf-8") if file.is_file() else ""
