"""The paths of one run's outputs, which lie together in one place: its workspace."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from imagetl_luigi import storage
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.source import default_workspace, local_path, part_path, public_url, record_path

_ALIASES = {"s3a": "s3", "gcs": "gs"}
"""Schemes that name the same stores as others."""

_AMBIGUOUS = re.compile(r"[*?#\[\]\\\x00-\x1f\x7f\ud800-\udfff]|::|(?<!:)//|/\.\.?(/|$)")
"""What some package on the way to a store takes for a pattern, a query, a chain of URLs or another folder."""


@dataclass(frozen=True)
class Workspace:
    """Where everything of a run lies.

        image-data.img   what was downloaded
        manifest.json    the frames in it
        frames/          one file for each
        converted/       GIFs of those that are none, if there are any
        clip.gif         all of them, moving
        index.html       a page to watch them on, with contact-sheet.jpg, if it was asked for

    Attributes:
        root: a folder of this machine, or the URL of a prefix in an object store.
        data_file, gif: as given: a name in the workspace, or an absolute path or URL of anywhere.
    """

    root: str
    data_file: str
    gif: str

    @classmethod
    def of(cls, url: str, workspace: str = "", data_file: str = "image-data.img", gif: str = "clip.gif") -> Workspace:
        """The workspace that the parameters describe; without a name, the one derived from the URL.

        Raises:
            ParameterError: a place that cannot be written to, a path that leaves the workspace, or one that is
                used twice.
        """
        root = place("workspace", workspace or default_workspace(url))
        paths = cls(root, _checked(root, "data_file", data_file), _checked(root, "gif", gif))
        used = [part_path(paths.data_file), f"{part_path(paths.data_file)}.json", record_path(paths.data_file)]
        used += [paths.data_file, paths.manifest, paths.gif, paths.page, paths.contact_sheet]
        files = {_real(path) for path in used}
        if len(files) < len(used) or any(one.startswith(f"{other}/") for one in files for other in files):
            raise ParameterError(
                f"data_file = {data_file!r} and gif = {gif!r} must be two files, and none that the workflow keeps "
                "beside them, such as manifest.json"
            )
        return paths

    @property
    def manifest(self) -> str:
        """The frames of the data file, as Split found them."""
        return os.path.join(self.root, "manifest.json")

    @property
    def frames(self) -> str:
        """The folder of the frame files."""
        return os.path.join(self.root, "frames")

    def frame(self, name: str) -> str:
        """The file of one frame."""
        return os.path.join(self.frames, name)

    @property
    def mark(self) -> str:
        """The file among the frames that says which manifest they are of."""
        return self.frame(".manifest-digest")

    @property
    def converted_folder(self) -> str:
        """The folder of the GIFs made of frames of other formats."""
        return os.path.join(self.root, "converted")

    def converted(self, name: str) -> str:
        """The GIF made of a frame of another format; `Frame.converted_name` is its name."""
        return os.path.join(self.converted_folder, name)

    @property
    def page(self) -> str:
        """The page to watch the frames on."""
        return os.path.join(self.root, "index.html")

    @property
    def contact_sheet(self) -> str:
        """The picture of all frames that belongs to the page."""
        return os.path.join(self.root, "contact-sheet.jpg")

    @property
    def sheet_rows(self) -> str:
        """The folder of its rows while it is drawn."""
        return os.path.join(self.root, ".contact-sheet")

    def inside(self, path: str) -> str | None:
        """One of these paths as seen from the workspace, or None if it does not lie in it."""
        inner = _join(self.root, path if storage.is_remote(path) else os.path.abspath(path))[1]
        return None if inner.split("/")[0] == os.pardir else inner

    def absolute(self) -> Workspace:
        """The same for a process that may have been started in another folder."""
        return Workspace(*(path if storage.is_remote(path) else os.path.abspath(path) for path in self._fields()))

    def _fields(self) -> tuple[str, str, str]:
        return self.root, self.data_file, self.gif


def place(parameter: str, path: str) -> str:
    """The folder or file that a path or URL names; of an object store, if it can be used here.

    Args:
        parameter: which one gave it, to be named in messages.

    Raises:
        ParameterError: it cannot be written to, or means something else to some package on the way to the store.
    """
    local = local_path(path)
    if local is not None:
        return local
    shown = public_url(path)
    storage.check(path)
    if urlsplit(path).password is not None:
        raise ParameterError(
            f"{parameter} = {shown!r} holds a password, which everybody would see who sees the task; "
            "give it in the environment, or in fsspec's own configuration (~/.config/fsspec)"
        )
    scheme, _, rest = path.partition("://")
    return _possible(parameter, f"{_ALIASES.get(scheme.lower(), scheme.lower())}://{rest}").rstrip("/")


def _possible(parameter: str, url: str) -> str:
    """The URL, if it means the same to every package that comes to see it."""
    if _AMBIGUOUS.search(url):
        raise ParameterError(
            f"{parameter} = {public_url(url)!r} is not possible. Allowed in a store: names without * ? # [ ] \\ :: "
            "and line breaks, none of them empty or . or .."
        )
    return url


def _checked(root: str, parameter: str, path: str) -> str:
    """The path in the workspace that a parameter names; an absolute one may lie anywhere but among the frames."""
    if storage.is_remote(path):
        path = place(parameter, path)
    full, inner = _join(root, path)
    first = inner.split("/")[0]
    ours = first in (os.curdir, "frames", "converted", ".contact-sheet", ".lock")
    lost = first == os.pardir and not (os.path.isabs(path) or storage.is_remote(path))
    nameless = not path or (storage.is_remote(full) and full.count("/") < 3)
    if ours or lost or nameless:
        raise ParameterError(
            f"{parameter} = {path!r} is not possible. Allowed: the name of a file in the workspace and "
            "outside its frames/ and converted/, or an absolute path"
        )
    return _possible(parameter, full) if storage.is_remote(full) else full


def _join(root: str, path: str) -> tuple[str, str]:
    """A path in the workspace in full, and seen from it, where `..` is what lies outside."""
    if not storage.is_remote(root) and not storage.is_remote(path):
        full = os.path.normpath(os.path.join(root, path))
        return full, os.path.relpath(_real(full), os.path.realpath(root))
    if storage.is_remote(path):
        inner = path.removeprefix(f"{root}/")
        return path, os.pardir if inner == path else inner
    if os.path.isabs(path):
        return path, os.pardir
    inner = posixpath.normpath(path)
    return f"{root}/{inner}", inner


def _real(path: str) -> str:
    """Where a file would be written: links to folders are followed, one to the file itself is replaced."""
    if storage.is_remote(path):
        return path
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
