"""What lies below a root of many workspaces: nights, streams, and cameras with their nights.

nights/2026-11-24/            a night
data/harbour/                 a stream
data/summit/2026-11-24/       a night of the camera "summit"

No frame is read, and none is listed: a workspace costs its listing, the head of its manifest and that of its GIF.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import islice

from imagetl_luigi import gif, nights, storage
from imagetl_luigi.errors import ImagetlError, ParameterError, StorageError
from imagetl_luigi.manifest import read_head
from imagetl_luigi.page import parse_moment, read_mark
from imagetl_luigi.prefetch import REQUESTS
from imagetl_luigi.workspace import place

MOST_GIFS = 8
"""GIFs of a workspace that are looked at: one may have several, of other speeds."""

MOST_NIGHTS = 7
"""Nights of a camera that are looked at for one that has pictures; the last ones may be unfinished."""

FOLDER = "_gallery"
"""Where the small pictures of a root lie; it is no workspace."""

_NONE_OF_OURS = {FOLDER, "lost+found"}  # the second is the file system's, and only root may look into it
_MANIFEST = "manifest.json"
_PART = ".part"


class State(Enum):
    """How a workspace is, for people."""

    COMPLETE = "complete"
    UNCHANGED = "unchanged"
    NO_ANIMATION = "no animation in its folder"
    OTHER_ANIMATION = "animation of other frames"
    DOWNLOADING = "download not finished"
    NOT_SPLIT = "not split into frames"
    NOTHING = "nothing downloaded"
    DAMAGED = "manifest.json is damaged"
    UNREADABLE = "cannot be read"

    @property
    def kind(self) -> str:
        """One of complete, unchanged, unfinished and damaged."""
        if self in (State.COMPLETE, State.UNCHANGED):
            return str(self.value)
        return "damaged" if self in (State.DAMAGED, State.UNREADABLE) else "unfinished"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A workspace, or a camera with its newest night.

    Attributes:
        name: of its folder in the root.
        folder: names of the folders from the root to the workspace; of a camera, to its newest night with pictures.
        state: of a camera, that of its newest night.
        date: the night, or the day on which it was fetched (UTC).
        night: whether its folder is named by the date.
        fetched_at: as the manifest has it.
        frames: how many there are; None if nobody knows any more.
        width, height: pixels of the canvas; 0 if not known.
        bytes: of all frames, or of the data file.
        gif, gif_bytes: name and size of the animation; empty if there is none.
        manifest: whether it has one that can be read.
        page: whether it has an index.html; of a camera, whether that has one of ours.
        same_as: the night whose frames these are, if it has none of its own.
        digest: stands for the frames (`Manifest.digest`); empty if there are none.
        nights: how many a camera has; 0 for what is none.
        gallery: of a camera, whether it gets a page of its own.
    """

    name: str
    folder: tuple[str, ...]
    state: State
    date: datetime.date | None = None
    night: bool = False
    fetched_at: str = ""
    frames: int | None = None
    width: int = 0
    height: int = 0
    bytes: int = 0
    gif: str = ""
    gif_bytes: int = 0
    manifest: bool = False
    page: bool = False
    same_as: datetime.date | None = None
    digest: str = ""
    nights: int = 0
    gallery: bool = False

    def read(self, root: str) -> str:
        """A file that whoever draws its newest picture has to read."""
        return os.path.join(root, *self.folder, _MANIFEST if self.manifest else self.gif)


def is_workspace(root: str) -> bool:
    """Whether the root itself is a workspace, and none of many."""
    return storage.exists(os.path.join(root, _MANIFEST))


def survey(root: str) -> list[Entry]:
    """All workspaces and cameras in the root, newest first; what else lies there is left out.

    One that is damaged is an entry, too. In a store, several are looked at at a time. A camera gets a page of its own
    where it is nothing but that: no link to another place, no workspace at the same time, and in no root that has
    nights itself; so pages are made two levels deep at the most.

    Raises:
        StorageError: the root cannot be listed; or the store, which has no damaged folders, does not answer.
    """
    listed = (name for name in storage.folders(root) if name not in _NONE_OF_OURS and not name.startswith("."))
    names = sorted(name for name in listed if not _leads_up(root, name))
    look = partial(_look, root)
    if storage.is_remote(root):
        with ThreadPoolExecutor(REQUESTS) as pool:
            looked = list(pool.map(look, names))
    else:
        looked = [look(name) for name in names]
    found = list(itertools.chain.from_iterable(looked))
    if any(entry.night for entry in found):
        found = [replace(entry, gallery=False) for entry in found]
    return sorted(found, key=_age)


def _leads_up(root: str, name: str) -> bool:
    """Whether a folder is a link to the root itself, or to where the root lies."""
    path = os.path.join(root, name)
    if storage.is_remote(root) or not os.path.islink(path):
        return False
    return f"{os.path.realpath(root)}/".startswith(f"{os.path.realpath(path)}/")


def _age(entry: Entry) -> tuple[int, str, str]:
    """The newest first, those without a date last, and those of a moment by their names."""
    day = -entry.date.toordinal() if entry.date else 0
    moment = "".join(chr(0x10FFFF - ord(letter)) for letter in entry.fetched_at)
    return day, "" if entry.night else moment, entry.name


def _look(root: str, name: str) -> list[Entry]:
    """The entry of a folder; none for one that is none of ours, two for a workspace with nights in it."""
    path = os.path.join(root, name)
    date = nights.parse(name)
    try:
        if storage.is_remote(root):
            place("root", path)
        files = storage.sizes(path)
        folders = set() if date and _MANIFEST in files else storage.folders(path)
        dates = [] if date else sorted(filter(None, map(nights.parse, folders)), reverse=True)
        found = [_camera(root, name, files, dates)] if dates else []
        if _MANIFEST in files:
            found.append(_workspace(root, (name,), files))
        elif not dates:
            found.append(_begun(root, (name,), files, folders))
        return list(filter(None, found))
    except ParameterError:  # a name in a store that no workspace of ours can have
        return []
    except ImagetlError:
        if storage.is_remote(root):
            raise
        return [Entry(name=name, folder=(name,), state=State.UNREADABLE, date=date, night=date is not None)]


def _workspace(root: str, folder: tuple[str, ...], files: dict[str, int]) -> Entry:
    """The entry of a workspace that has a manifest."""
    path = os.path.join(root, *folder)
    entry = _named(folder, files)
    manifest = read_head(os.path.join(path, _MANIFEST))
    if manifest is None:
        return replace(_with_gif(entry, path, files), state=State.DAMAGED)
    same_as = nights.parse(manifest.same_as)
    fetched = parse_moment(manifest.source.fetched_at)
    entry = replace(
        entry,
        date=entry.date or (fetched.date() if fetched else None),
        fetched_at=fetched.isoformat() if fetched else "",
        frames=manifest.count,
        width=manifest.width,
        height=manifest.height,
        bytes=manifest.source.length,
        manifest=True,
        same_as=same_as if entry.night else None,
        digest=manifest.digest,
    )
    others = False
    for name, recipe in _animations(path, files):
        if (recipe.stream, recipe.frames) == (manifest.source.sha256, manifest.digest):
            state = State.UNCHANGED if entry.same_as else State.COMPLETE
            return replace(entry, state=state, gif=name, gif_bytes=files[name])
        others = True
    return replace(entry, state=State.OTHER_ANIMATION if others else State.NO_ANIMATION)


def _begun(root: str, folder: tuple[str, ...], files: dict[str, int], folders: set[str]) -> Entry | None:
    """The entry of a workspace that has no manifest yet, or no more; None if it is none."""
    entry = _with_gif(_named(folder, files), os.path.join(root, *folder), files)
    if entry.gif:
        return replace(entry, state=State.COMPLETE)
    if any(name.endswith(_PART) for name in [*files, *folders]):  # in a store it is a folder
        return replace(entry, state=State.DOWNLOADING)
    for name, size in files.items():
        if f".{name}.source.json" in files:
            return replace(entry, state=State.NOT_SPLIT, bytes=size)
    return replace(entry, state=State.NOTHING) if entry.night and ".lock" in files else None


def _camera(root: str, name: str, files: dict[str, int], dates: list[datetime.date]) -> Entry | None:
    """The entry of a folder of nights; None if none of the newest is a workspace."""
    seen = list(_newest(os.path.join(root, name), dates))
    if not seen:
        return None
    shown = next((night for night in seen if night.digest), seen[0])
    return replace(
        shown,
        name=name,
        folder=(name, shown.name),
        state=seen[0].state,
        date=seen[0].date,
        night=False,
        page="index.html" in files and _MANIFEST not in files and _is_ours(os.path.join(root, name, "index.html")),
        same_as=seen[0].same_as,
        nights=len(dates),
        gallery=_MANIFEST not in files and not os.path.islink(os.path.join(root, name)),
    )


def _is_ours(path: str) -> bool:
    """Whether a page is one that we have made; somebody else's is not taken for the camera's."""
    with contextlib.suppress(StorageError):
        return read_mark(path) is not None
    return False


def _newest(camera: str, dates: list[datetime.date]) -> Iterator[Entry]:
    """The newest nights of a camera, up to one that has pictures."""
    looked_at = (night for date in dates for night in _look(camera, date.isoformat()))
    for night in islice(looked_at, MOST_NIGHTS):
        yield night
        if night.digest:
            return


def _named(folder: tuple[str, ...], files: dict[str, int]) -> Entry:
    date = nights.parse(folder[-1])
    here = {"name": folder[-1], "folder": folder, "page": "index.html" in files}
    return Entry(state=State.NOTHING, date=date, night=date is not None, **here)  # type: ignore[arg-type]


def _with_gif(entry: Entry, path: str, files: dict[str, int]) -> Entry:
    """With the animation as all that tells of the frames, if there is one."""
    for name, recipe in _animations(path, files):
        return replace(entry, gif=name, gif_bytes=files[name], digest=recipe.frames)
    return entry


def _animations(path: str, files: dict[str, int]) -> Iterator[tuple[str, gif.Recipe]]:
    """The GIFs of ours in a workspace; first the one that is there by default."""
    names = sorted(
        (name for name in files if name.lower().endswith(".gif")), key=lambda name: (name != "clip.gif", name)
    )
    for name in names[:MOST_GIFS]:
        recipe = gif.find_recipe(os.path.join(path, name))
        if recipe:
            yield name, recipe
