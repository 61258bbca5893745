"""The paths of one run's outputs, which lie together in one folder: its workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass

from imagetl_luigi.errors import ParameterError
from imagetl_luigi.source import default_workspace, part_path, record_path


@dataclass(frozen=True)
class Workspace:
    """Where everything of a run lies.

        image-data.img   what was downloaded
        manifest.json    the frames in it
        frames/          one file for each
        converted/       GIFs of those that are none, if there are any
        clip.gif         all of them, moving

    Attributes:
        data_file, gif: as given: a name in the workspace, or an absolute path anywhere.
    """

    root: str
    data_file: str
    gif: str

    @classmethod
    def of(cls, url: str, workspace: str = "", data_file: str = "image-data.img", gif: str = "clip.gif") -> Workspace:
        """The workspace that the parameters describe; without a name, the one derived from the URL.

        Raises:
            ParameterError: a path that leaves the workspace, or is used twice.
        """
        root = workspace or default_workspace(url)
        if "://" in root:
            raise ParameterError(
                f"workspace = {root!r} is not a folder of this machine; object storage is not supported yet"
            )
        paths = cls(root, _checked(root, "data_file", data_file), _checked(root, "gif", gif))
        used = [part_path(paths.data_file), f"{part_path(paths.data_file)}.json", record_path(paths.data_file)]
        used += [paths.data_file, paths.manifest, paths.gif]
        if len({_real(path) for path in used}) < len(used):
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

    def converted(self, sha256: str) -> str:
        """The GIF made of a frame of another format, named by the frame's content."""
        return os.path.join(self.root, "converted", f"{sha256}.gif")


def _checked(root: str, parameter: str, path: str) -> str:
    """The path in the workspace that a parameter names; an absolute one may lie anywhere but among the frames."""
    full = os.path.normpath(os.path.join(root, path))
    first, *_ = os.path.relpath(_real(full), os.path.realpath(root)).split(os.sep)
    outside = first == os.pardir
    ours = not outside and (first in (os.curdir, "frames", "converted", ".lock"))
    if not path or ours or (outside and not os.path.isabs(path)):
        raise ParameterError(
            f"{parameter} = {path!r} is not possible. Allowed: the name of a file in the workspace and "
            "outside its frames/ and converted/, or an absolute path"
        )
    return full


def _real(path: str) -> str:
    """Where a file would be written: links to folders are followed, one to the file itself is replaced."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
