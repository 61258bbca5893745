"""Say what a workspace holds, and remove it when told to: the command behind scripts/clean.

Only that is removed which the manifest names and which is still what it says, and what the workflow keeps beside it.
No path is made of a name in the manifest: such names only choose among those that a listing of the folder shows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from imagetl_luigi import contact_sheet, page, storage
from imagetl_luigi.errors import ManifestError
from imagetl_luigi.gif import find_recipe
from imagetl_luigi.manifest import Manifest, read_manifest
from imagetl_luigi.source import part_path, record_path
from imagetl_luigi.workspace import Workspace


@dataclass
class Group:
    """Files of one kind.

    Attributes:
        lasting: whether they stay until all is removed, since they could not be made or fetched again.
        files: path and bytes of each.
    """

    label: str
    lasting: bool = False
    files: dict[str, int] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Take this file, if it is there."""
        found = storage.stat(path)
        if found:
            self.files[path] = found.size

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Inventory:
    """What a workspace holds.

    Attributes:
        groups: the workflow's files, in the order in which they are removed; the manifest, which names them, is last.
        foreign: path and bytes of other files; of folders, which are not looked into, no bytes.
    """

    manifest: Manifest
    groups: list[Group]
    foreign: dict[str, int | None]


def take_inventory(paths: Workspace) -> Inventory:
    """Look at all that lies in the workspace, whose paths must be absolute.

    Raises:
        ManifestError: it is no workspace, or its manifest is damaged.
    """
    manifest = read_manifest(paths.manifest)
    if manifest is None:
        there = storage.exists(paths.manifest)
        reason = "its manifest.json cannot be read" if there else "it holds no manifest.json"
        raise ManifestError(f"{paths.root} is no workspace: {reason}; name one that the workflow has made")
    groups = [_page(paths), *_frames(paths, manifest), *_data_file(paths, manifest), _gif(paths, manifest)]
    groups.append(Group("manifest.json", lasting=True))
    groups[-1].add(paths.manifest)
    return Inventory(manifest, groups, _foreign(paths, groups))


def remove(paths: Workspace, everything: bool, waiting: str) -> Inventory:
    """Remove what can be made or fetched again, or everything; return what there was.

    Nobody else works in the workspace meanwhile; while somebody does, the text `waiting` is shown.

    Raises:
        ManifestError: it is no workspace, or its manifest is damaged; nothing is removed then.
        StorageError: something cannot be removed.
    """
    take_inventory(paths)  # to lock what is no workspace would make a folder
    with storage.locked(paths.root, lambda: print(waiting, flush=True)):
        held = take_inventory(paths)
        for group in held.groups:
            if everything or not group.lasting:
                storage.remove_all(group.files)
        for folder in (paths.frames, paths.converted_folder, paths.sheet_rows):
            storage.remove_folder(folder)
        if everything:
            storage.remove_folder(paths.root)
    return held


def _page(paths: Workspace) -> Group:
    """Page and contact sheet, if they are ours; without the frames they would show nothing."""
    group = Group("page")
    if page.read_mark(paths.page):
        group.add(paths.page)
    if page.read_mark(paths.contact_sheet, contact_sheet.MARK):
        group.add(paths.contact_sheet)
    return group


def _frames(paths: Workspace, manifest: Manifest) -> tuple[Group, Group]:
    """Frames of the size that the manifest says, with their mark; and the GIFs made of those of other formats."""
    frames, converted = Group("frames/"), Group("converted/")
    there, made = storage.sizes(paths.frames), storage.sizes(paths.converted_folder)
    for frame in manifest.frames():
        if there.get(frame.name) == frame.length:
            frames.files[paths.frame(frame.name)] = frame.length
        if frame.format != "gif":
            older = f"{frame.sha256}.gif"  # also of one that is turned: older versions did not
            names = [name for name in (frame.converted_name, older) if name in made]
            converted.files |= {paths.converted(name): made[name] for name in names}
    frames.add(paths.mark)
    return frames, converted


def _data_file(paths: Workspace, manifest: Manifest) -> tuple[Group, Group]:
    """The data file that the manifest was made from; and what the workflow keeps beside it while it is at work."""
    by_hand = manifest.source.fetched_at is None
    data = Group(
        (paths.inside(paths.data_file) or paths.data_file) + (" (put there by hand)" if by_hand else ""),
        lasting=by_hand,
    )
    beside = Group("records and leftovers")
    found = storage.fingerprint(paths.data_file)
    if found == manifest.fingerprint:
        data.add(paths.data_file)
    if found in (None, manifest.fingerprint):
        beside.add(record_path(paths.data_file))
    part = part_path(paths.data_file)
    for path in (part, f"{part}.json"):
        beside.add(path)
    if storage.is_remote(part):
        beside.files |= {f"{part}/{name}": size for name, size in storage.sizes(part).items()}
    for name in filter(contact_sheet.ROW.fullmatch, storage.sizes(paths.sheet_rows)):
        beside.add(os.path.join(paths.sheet_rows, name))
    for folder in (paths.root, paths.frames, paths.converted_folder, paths.sheet_rows):
        for name in storage.leftovers(folder):
            beside.add(os.path.join(folder, name))
    return data, beside


def _gif(paths: Workspace, manifest: Manifest) -> Group:
    """The animation, if it says that it was made from these frames."""
    group = Group(paths.inside(paths.gif) or paths.gif, lasting=True)
    if storage.exists(paths.gif):
        recipe = find_recipe(paths.gif)
        if recipe and recipe.frames == manifest.digest:
            group.add(paths.gif)
    return group


def _foreign(paths: Workspace, groups: list[Group]) -> dict[str, int | None]:
    ours = {path for group in groups for path in group.files} | {os.path.join(paths.root, ".lock")}
    ours |= {paths.frames, paths.converted_folder, paths.sheet_rows, part_path(paths.data_file)}
    found: dict[str, int | None] = {}
    for folder in (paths.root, paths.frames, paths.converted_folder, paths.sheet_rows):
        listed = storage.sizes(folder) | dict.fromkeys(storage.folders(folder))
        found |= {os.path.join(folder, name): listed[name] for name in sorted(listed)}
    return {path: size for path, size in found.items() if path not in ours}
