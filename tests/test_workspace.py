"""workspace: where a run's files lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetl_luigi.errors import ParameterError
from imagetl_luigi.workspace import Workspace

URL = "https://example.org/cam/all images.img?raw=true"


def test_without_a_name_it_is_derived_from_the_url() -> None:
    assert Workspace.of(URL).root.startswith("data/all-images-")
    assert Workspace.of(URL).root != Workspace.of(URL + "&night=2").root


def test_everything_lies_in_it() -> None:
    paths = Workspace.of(URL, "w")
    assert paths == Workspace("w", "w/image-data.img", "w/clip.gif")
    assert (paths.manifest, paths.frame("frame_00.gif")) == ("w/manifest.json", "w/frames/frame_00.gif")


def test_two_paths_can_be_chosen() -> None:
    paths = Workspace.of(URL, "w", data_file="/elsewhere/a.img", gif="out/night.gif")
    assert (paths.data_file, paths.gif) == ("/elsewhere/a.img", "w/out/night.gif")


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../x", "a/../../x", "frames", "frames/frame_00.gif", "converted/x.gif", ".lock"]
)
def test_a_relative_path_never_leaves_it_nor_meets_the_frames(path: str) -> None:
    with pytest.raises(ParameterError, match=r"gif = .* is not possible. Allowed: "):
        Workspace.of(URL, "w", gif=path)
    with pytest.raises(ParameterError, match=r"data_file = .* is not possible. Allowed: "):
        Workspace.of(URL, "w", data_file=path)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "./a"),
        ("manifest.json", "b"),
        ("a", "manifest.json"),
        ("a", "a.part"),
        ("a", ".a.source.json"),
    ],
)
def test_no_path_is_used_twice(names: tuple[str, str]) -> None:
    with pytest.raises(ParameterError, match="must be two files, and none that"):
        Workspace.of(URL, "w", *names)


def test_an_absolute_path_may_lie_anywhere_but_among_the_frames(tmp_path: Path) -> None:
    (tmp_path / "w/frames").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "w")
    assert Workspace.of(URL, str(tmp_path / "w"), gif=f"{tmp_path}/elsewhere.gif").gif == f"{tmp_path}/elsewhere.gif"
    for root in ("w", "link"):
        with pytest.raises(ParameterError, match="outside its frames/"):
            Workspace.of(URL, str(tmp_path / "w"), gif=f"{tmp_path}/{root}/frames/frame_00.gif")
        with pytest.raises(ParameterError, match="must be two files"):
            Workspace.of(URL, str(tmp_path / "w"), gif=f"{tmp_path}/{root}/image-data.img")


def test_a_name_may_begin_with_dots() -> None:
    assert Workspace.of(URL, "w", gif="..night.gif").gif == "w/..night.gif"


def test_object_storage_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"s3://bucket/w.*not supported yet"):
        Workspace.of(URL, "s3://bucket/w")
