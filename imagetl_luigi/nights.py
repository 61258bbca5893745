"""One workspace a night, below one root, named by its date.

nights/2026-11-23/    image-data.img, manifest.json, frames/, clip.gif
nights/2026-11-24/    manifest.json, clip.gif: the source had not changed, and the manifest says so
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re

from imagetl_luigi import gif, source, storage
from imagetl_luigi.errors import ManifestError
from imagetl_luigi.gif import Recipe
from imagetl_luigi.manifest import Manifest, copy_manifest, read_manifest
from imagetl_luigi.source import Source, read_record, write_record
from imagetl_luigi.workspace import Workspace

_PLACE = re.compile(r"\{date(?::([^{}]*))?\}")


def url_of(url: str, date: datetime.date) -> str:
    """The URL of a night: `{date}` in it is the date, `{date:FORMAT}` the date as strftime(3) writes it.

    >>> url_of("https://example.org/{date:%Y/%m}/{date}.img", datetime.date(2026, 11, 24))
    'https://example.org/2026/11/2026-11-24.img'
    """
    return _PLACE.sub(lambda place: date.strftime(place[1] or "%Y-%m-%d"), url)


def is_dated(url: str) -> bool:
    """Whether it is the URL of many nights."""
    return _PLACE.search(url) is not None


def public_url(url: str) -> str:
    """The URL of many nights without its secrets (`source.public_url`), and with `{date}` as it is."""
    places = {f"date-{number}-{len(url)}": place[0] for number, place in enumerate(_PLACE.finditer(url))}
    masks = iter(places)
    shown = source.public_url(_PLACE.sub(lambda _: next(masks), url))
    for mask, place in places.items():
        shown = shown.replace(mask, place)
    return shown


def default_root(url: str) -> str:
    """The place of all nights of a URL, as `source.default_workspace`."""
    return source.default_workspace(_PLACE.sub("date", url))


def parse(name: object) -> datetime.date | None:
    """The night that the name of a folder means, or None for what is none, as a manifest may say anything."""
    if not isinstance(name, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", name, re.ASCII):
        return None
    try:
        return datetime.date.fromisoformat(name)
    except ValueError:
        return None


def listed(root: str) -> list[datetime.date]:
    """The nights of which there is a workspace, oldest first; one listing."""
    return sorted(filter(None, map(parse, storage.folders(root))))


def workspace(root: str, date: datetime.date) -> str:
    """The workspace of a night."""
    return os.path.join(root, date.isoformat())


def take_over(earlier: Workspace, manifest: Manifest, night: Workspace, origin: Source, recipe: Recipe) -> None:
    """Complete a night with the animation of an earlier one, whose source had the very same bytes.

    Args:
        manifest: of the earlier night.
        origin: the source of the night to be completed.
        recipe: that its animation must bear; it differs in no more than the URL.

    Raises:
        FrameError: the animation is another by now.
    """
    place, name = os.path.split(earlier.root)
    date = parse(manifest.same_as)
    original = _manifest(workspace(place, date)) if date else None
    if manifest.same_as and original and original.source.sha256 == origin.sha256:
        name = manifest.same_as
    copy_manifest(manifest, night.manifest, source=origin, same_as=name)
    if gif.find_recipe(earlier.gif) == recipe:
        storage.copy(earlier.gif, night.gif)
        return
    with contextlib.closing(storage.open_read(earlier.gif)) as animation, storage.atomic_write(night.gif) as file:
        gif.relabel(animation, file, recipe)


def fetch_from(earlier: Workspace, night: Workspace, origin: Source) -> None:
    """Have the data file of an earlier night at this one as well, whose source had the very same bytes.

    Raises:
        ManifestError: it is not there any more, or another by now.
    """
    record = read_record(earlier.data_file)
    if record is None or record[0].sha256 != origin.sha256 or record[1] != storage.fingerprint(earlier.data_file):
        raise ManifestError(
            f"{night.root} has the bytes of {earlier.root}, and {earlier.data_file} is not there any more, or another; "
            f"to fetch what is at the source now, remove {night.manifest} and run again"
        )
    storage.copy(earlier.data_file, night.data_file)
    write_record(night.data_file, origin, str(storage.fingerprint(night.data_file)))


def fetch_if_same(night: Workspace) -> None:
    """Have the data file of the night that this one was completed from, so that its frames can be written here, too.

    Nothing happens if it was completed from none, or has the file.

    Raises:
        ManifestError: as `fetch_from`.
    """
    night = night.absolute()  # whose name is the date, and which lies in the folder of all nights
    manifest = _manifest(night.root)
    date = parse(manifest.same_as) if manifest else None
    if manifest and date and not storage.exists(night.data_file):
        earlier = workspace(os.path.dirname(night.root), date)
        fetch_from(Workspace.of(manifest.source.url, earlier), night, manifest.source)


def same_as(root: str) -> list[str]:
    """The roots of the nights whose frames are those in the workspace `root`; none if it is not of a night."""
    place, name = os.path.split(root)
    date = parse(name)
    later = [workspace(place, other) for other in listed(place) if other > date] if date else []
    return [other for other in later if (manifest := _manifest(other)) and manifest.same_as == name]


def _manifest(root: str) -> Manifest | None:
    """The manifest in a workspace."""
    return read_manifest(Workspace(root, "", "").manifest)
