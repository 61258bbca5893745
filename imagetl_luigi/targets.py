"""Luigi targets: each tells by itself whether what is there is what was asked for.

Existing is not enough. A file may be of another URL, another delimiter or another delay, and a
stale result must never be taken for a new one. None of the checks asks the source or reads a frame, unless
it was asked to verify; in a store each costs a few requests, whatever the number of frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import tee

import luigi

from imagetl_luigi import contact_sheet, gif, page, storage, watch_page
from imagetl_luigi.gif import Recipe
from imagetl_luigi.manifest import Frame, Manifest, read_manifest
from imagetl_luigi.source import public_url, read_record, source_id
from imagetl_luigi.storage import Piece
from imagetl_luigi.workspace import Workspace


class FileTarget(luigi.Target):
    """A file of the workspace."""

    def __init__(self, path: str) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether the file is there."""
        return storage.exists(self.path)

    def __str__(self) -> str:
        return self.path


class DataFileTarget(FileTarget):
    """The data file, fetched from this URL or put there by hand."""

    def __init__(self, workspace: Workspace, url: str) -> None:
        super().__init__(workspace.data_file)
        self.url = url

    def exists(self) -> bool:
        """Whether the file is there and is not known to be of another URL, nor its download unfinished."""
        if not super().exists():
            return False
        record = read_record(self.path)
        return record is None or (record[0].url == public_url(self.url) and record[1] != "")

    def other_url(self) -> str | None:
        """The URL that the file was fetched from, if it is another one."""
        record = read_record(self.path)
        return record[0].url if record and record[0].url != public_url(self.url) else None

    def digest(self) -> str | None:
        """SHA-256 of the file as its record has it; empty if the file is another by now, None if there is none."""
        if not super().exists():
            return None
        record = read_record(self.path)
        return record[0].sha256 if record and record[1] == storage.fingerprint(self.path) else ""


class ManifestTarget(FileTarget):
    """The manifest of a data file, split at this delimiter."""

    def __init__(self, workspace: Workspace, url: str, delimiter: str) -> None:
        super().__init__(workspace.manifest)
        self._data_file = workspace.data_file
        self._url = public_url(url)
        self._delimiter = delimiter

    def exists(self) -> bool:
        """Whether the manifest is there and the data file is the one it was made from."""
        manifest = self.read()
        return manifest is not None and manifest.fingerprint == storage.fingerprint(self._data_file)

    def read(self) -> Manifest | None:
        """The manifest, unless it is of something else. That the data file is gone by now is no matter.

        One of an older version, which took no picture for turned, counts only if there is nothing to split again.
        """
        manifest = read_manifest(self.path)
        if manifest is None or (manifest.source.url, manifest.delimiter) != (self._url, self._delimiter):
            return None
        found = storage.fingerprint(self._data_file)
        if found is None:
            return manifest
        return manifest if found == manifest.fingerprint and not manifest.outdated else None


class FramesTarget(luigi.Target):
    """The frame files that a manifest names; others beside them do not matter.

    A name and a size do not tell a frame of this manifest from one of an older manifest. So the
    folder holds a mark that says which manifest its frames are of.
    """

    def __init__(self, workspace: Workspace, manifest: ManifestTarget, verify: bool) -> None:
        self.folder = workspace.frames
        self._workspace = workspace
        self._manifest = manifest
        self._verify = verify
        self._mark = workspace.mark

    def exists(self) -> bool:
        """Whether every frame is there: one listing, held against the manifest."""
        manifest = self._manifest.read()
        if manifest is None or not self.marked(manifest):
            return False
        return next(self.missing(manifest), None) is None

    def counts(self) -> tuple[int | None, int]:
        """How many frames there should be, None as long as nobody knows, and how many are there."""
        manifest = self._manifest.read()
        if manifest is None:
            return None, 0
        missing = sum(1 for _ in self.missing(manifest)) if self.marked(manifest) else manifest.count
        return manifest.count, manifest.count - missing

    def missing(self, manifest: Manifest) -> Iterator[Frame]:
        """Yield the frames that are not there, or not of the right size or, if asked for, content."""
        sizes = storage.sizes(self.folder)
        if self._verify:
            yield from self._differing(manifest, sizes)
        else:
            yield from (frame for frame in manifest.frames() if sizes.get(frame.name) != frame.length)

    def _differing(self, manifest: Manifest, sizes: dict[str, int]) -> Iterator[Frame]:
        """Yield the frames whose files have another size or content."""
        frames, again = tee(manifest.frames())
        contents = storage.read_ahead(
            Piece(self._workspace.frame(frame.name), 0, frame.length)
            for frame in again
            if sizes.get(frame.name) == frame.length
        )
        for frame in frames:
            if sizes.get(frame.name) != frame.length or hashlib.sha256(next(contents)).hexdigest() != frame.sha256:
                yield frame

    def marked(self, manifest: Manifest) -> bool:
        """Whether the frames are those of this manifest."""
        return storage.read_if_there(self._mark) == manifest.digest.encode()

    def mark(self, manifest: Manifest) -> bool:
        """Make the folder one of this manifest; return whether it was not, so that no frame is there.

        Frames of another manifest are removed where they bear the names of this one's.
        """
        storage.sweep(self.folder)
        if self.marked(manifest):
            return False
        present = storage.sizes(self.folder)
        storage.remove_all(self._workspace.frame(frame.name) for frame in manifest.frames() if frame.name in present)
        storage.write_bytes(self._mark, manifest.digest.encode())
        return True

    def __str__(self) -> str:
        return self.folder


class GifTarget(FileTarget):
    """The animation of what is at this URL, made in this way.

    Attributes:
        manifest: the target of the frames it is made of.
    """

    def __init__(self, workspace: Workspace, url: str, *, delimiter: str, delay: int | None, loop: int) -> None:
        super().__init__(workspace.gif)
        self.workspace = workspace
        self.manifest = ManifestTarget(workspace, url, delimiter)
        self._data_file = DataFileTarget(workspace, url)
        self._recipe = Recipe(source=source_id(url), delimiter=delimiter, delay=delay, loop=loop, stream="", frames="")

    def exists(self) -> bool:
        """Whether the GIF is there and says that it was made by the recipe, from the frames of the manifest.

        The GIF is enough; manifest, frames and data file may have been removed to save space.
        """
        if not super().exists():
            return False
        found = gif.find_recipe(self.path)
        if found is None or found != replace(self._recipe, stream=found.stream, frames=found.frames):
            return False
        if storage.exists(self.manifest.path):
            manifest = self.manifest.read()
            return manifest is not None and found == self.recipe(manifest)
        return self._data_file.digest() in (None, found.stream)

    def recipe(self, manifest: Manifest) -> Recipe:
        """The recipe for the frames of this manifest."""
        return replace(self._recipe, stream=manifest.source.sha256, frames=manifest.digest)


class WatchTarget(FileTarget):
    """The page of an animation, with its contact sheet and the frames that it shows.

    Attributes:
        animation: what it is the page of.
    """

    def __init__(self, animation: GifTarget) -> None:
        super().__init__(animation.workspace.page)
        self.animation = animation

    def exists(self) -> bool:
        """Whether page and sheet are there and say that they are of this animation, and the frames are there, too."""
        paths = self.animation.workspace
        return self.is_made() and FramesTarget(paths, self.animation.manifest, verify=False).exists()

    def is_made(self) -> bool:
        """Whether page and sheet are there and say that they are of this animation."""
        found = page.read_mark(self.path)
        manifest = self.animation.manifest.read() if found else None
        if found is None or manifest is None:
            return False
        paths = self.animation.workspace
        if found != watch_page.mark(manifest, self.animation.recipe(manifest), paths):
            return False
        return page.read_mark(paths.contact_sheet, contact_sheet.MARK) == contact_sheet.mark_of(manifest)
