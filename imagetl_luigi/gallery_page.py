"""The page of many workspaces: what `survey` found, put into words and into a calendar."""

from __future__ import annotations

import calendar
import datetime
import os
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from imagetl_luigi import page
from imagetl_luigi.page import MONTHS, words
from imagetl_luigi.survey import FOLDER, Entry, State

INDEX = "index.html"

OPEN_MONTHS = 3
"""Months of the calendar that are seen at once; older ones are folded up, a year in each."""

_SIDE = 320
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

Cards = dict[datetime.date, dict[str, Any]]
"""What is shown of each night."""

Month = tuple[int, int]
"""Year and month."""


def thumbnail_name(digest: str) -> str:
    """Name of the small picture of these frames; nights that have the same ones share it."""
    return f"{page.mark_of('thumbnail', digest)[:16]}.jpg"


def mark(root: str, entries: list[Entry], pictures: set[str]) -> str:
    """What the page is made from; see `page.mark_of`.

    Args:
        pictures: names of the thumbnails that are there, of those that it shows.
    """
    return page.mark_of(page.design("gallery"), title(root), repr(entries), sorted(pictures))


def render(root: str, entries: list[Entry], pictures: set[str]) -> bytes:
    """The page of the entries; arguments as for `mark`."""
    pages = {entry.date: entry.name for entry in entries if entry.night and entry.page}
    cards = [_card(entry, pages, pictures) for entry in entries]
    nights = {entry.date: card for entry, card in zip(entries, cards, strict=True) if entry.night and entry.date}
    kinds = {card["kind"] for card in nights.values()}
    months = list(_months(nights))
    recent, older = months[:OPEN_MONTHS], months[OPEN_MONTHS:]
    values = {
        "title": title(root),
        "summary": summary(entries),
        "months": recent,
        "years": [_year(year, list(group)) for year, group in groupby(older, lambda month: month["year"])],
        "kinds": [(kind, meaning) for kind, meaning in KINDS.items() if kind in kinds],
        "gaps": any(day["gap"] for month in months for week in month["weeks"] for day in week),
        "weekdays": [(day, day[:2]) for day in _WEEKDAYS],
        "heading": _heading(entries),
        "icon": next((card["picture"] for card in cards if card["picture"]), ""),
        "cards": cards,
    }
    return page.render("gallery", mark(root, entries, pictures), values)


def title(root: str) -> str:
    """The name of the root."""
    return os.path.basename(root if "://" in root else os.path.abspath(root)) or root


def summary(entries: list[Entry]) -> str:
    """All of it in a line."""
    cameras = [entry for entry in entries if entry.nights]
    nights = [entry for entry in entries if entry.night]
    streams = [entry for entry in entries if not entry.night and not entry.nights]
    parts = []
    if nights:
        span = " to ".join(words(entry.date) for entry in (nights[-1], nights[0])[: len(nights)] if entry.date)
        parts.append(f"{page.plural(len(nights), 'night')}{' from' if len(nights) > 1 else ','} {span}")
        parts += _amounts(nights)
    if cameras:
        total = sum(entry.nights for entry in cameras)
        parts.append(f"{page.plural(len(cameras), 'camera')} with {page.plural(total, 'night')}")
    if streams:
        parts.append(f"{page.plural(len(streams), 'stream')} with {', '.join(_amounts(streams))}")
    wanting = sum(1 for entry in entries if entry.state not in (State.COMPLETE, State.UNCHANGED))
    complete = "newest nights complete" if cameras and not streams else "all complete"
    return " · ".join([*parts, f"{wanting:,} not complete" if wanting else complete])


def _amounts(entries: list[Entry]) -> list[str]:
    """Frames and bytes in all; those of a night that is like an earlier one are there once."""
    own = [entry for entry in entries if not entry.same_as]
    animations = sum(entry.gif_bytes for entry in entries)
    frames = page.plural(sum(entry.frames or 0 for entry in own), "frame")
    return [frames, page.size(animations + sum(entry.bytes for entry in own))]


KINDS = {
    "complete": "complete",
    "unchanged": "unchanged: the source was as on an earlier night",
    "unfinished": "not complete",
    "damaged": "damaged",
}
"""Looks of a night, and what they mean."""


def _heading(entries: list[Entry]) -> str:
    kinds = {"Cameras" if entry.nights else "Nights" if entry.night else "Streams" for entry in entries}
    return kinds.pop() if len(kinds) == 1 else "Workspaces"


def _card(entry: Entry, pages: dict[datetime.date | None, str], pictures: set[str]) -> dict[str, Any]:
    """What is shown of a workspace or camera."""
    heading = words(entry.date) if entry.night and entry.date else entry.name
    shown = thumbnail_name(entry.digest) if entry.digest else ""
    width, height = _scaled(entry.width, entry.height)
    state = entry.state.value
    if entry.same_as and entry.state is State.UNCHANGED:
        state = f"unchanged since {words(entry.same_as)}"
    identity = f"night-{entry.date.isoformat()}" if entry.night and entry.date else ""
    animation = page.link(*entry.folder, entry.gif) if entry.gif else ""
    return {
        "id": identity,
        "heading": heading,
        "date": entry.date,
        "when": words(entry.date) if entry.date else "",
        "night": entry.night,
        "href": _target(entry, pages) or animation,
        "day_href": _target(entry, pages) or animation or f"#{identity}",
        "picture": page.link(FOLDER, shown) if shown in pictures else "",
        "width": width,
        "height": height,
        "kind": entry.state.kind,
        "state": f"newest night: {state}" if entry.nights else state,
        "facts": list(_facts(entry)),
        "gif": animation,
        "gif_size": page.size(entry.gif_bytes),
        "manifest": page.link(*entry.folder, "manifest.json") if entry.manifest else "",
    }


def _target(entry: Entry, pages: dict[datetime.date | None, str]) -> str:
    """The page of a workspace, or of the night whose frames it has; empty if there is none."""
    if entry.page:
        return page.link(entry.name, INDEX)
    return page.link(pages[entry.same_as], INDEX) if entry.same_as in pages else ""


def _facts(entry: Entry) -> Iterator[str]:
    if entry.nights:
        yield page.plural(entry.nights, "night")
    if entry.frames is not None:
        yield page.plural(entry.frames, "frame") + (f" on {words(entry.date)}" if entry.nights and entry.date else "")
    if entry.width and entry.height:
        yield f"{entry.width:,} × {entry.height:,}"
    if entry.bytes:
        yield page.size(entry.bytes)


def _scaled(width: int, height: int) -> tuple[int, int]:
    """Width and height of the thumbnail; a guess where nobody knows any more."""
    if not width or not height:
        return _SIDE, _SIDE * 3 // 4
    scale = min(1.0, _SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _months(nights: Cards) -> Iterator[dict[str, Any]]:
    """The months that have nights, newest first, each with those before it that have none in a word."""
    dates = sorted(nights, reverse=True)
    later: Month | None = None
    for (year, month), _ in groupby(dates, lambda date: (date.year, date.month)):
        yield {
            "title": f"{MONTHS[month - 1]} {year}",
            "year": year,
            "nights": sum(1 for date in dates if (date.year, date.month) == (year, month)),
            "empty": _between((year, month), later) if later else "",
            "weeks": list(_weeks(year, month, nights, dates[-1], dates[0])),
        }
        later = (year, month)


def _between(earlier: Month, later: Month) -> str:
    """The months between two, none of which has a night, in words; empty if there are none."""
    first, last = earlier[0] * 12 + earlier[1], later[0] * 12 + later[1] - 2
    if first > last:
        return ""
    names = [f"{MONTHS[number % 12]} {number // 12}" for number in dict.fromkeys((first, last))]
    return f"{' to '.join(names)}: no nights"


def _weeks(
    year: int, month: int, nights: Cards, first: datetime.date, last: datetime.date
) -> Iterator[list[dict[str, Any]]]:
    """The weeks of a month, seven days each; those of other months have the number 0."""
    for week in calendar.monthcalendar(year, month):
        dates = [datetime.date(year, month, number) if number else None for number in week]
        yield [
            {
                "number": date.day if date else 0,
                "card": nights.get(date) if date else None,
                "gap": date is not None and first < date < last and date not in nights,
            }
            for date in dates
        ]


def _year(year: int, months: list[dict[str, Any]]) -> dict[str, Any]:
    return {"title": f"{year}: {page.plural(sum(month['nights'] for month in months), 'night')}", "months": months}
