"""workspace: where a run's files lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi import storage
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
@pytest.mark.parametrize("root", ["w", "s3://bucket/w", "s3://bucket"])
def test_a_relative_path_never_leaves_it_nor_meets_the_frames(root: str, path: str) -> None:
    with pytest.raises(ParameterError, match=r"gif = .* is not possible. Allowed: "):
        Workspace.of(URL, root, gif=path)
    with pytest.raises(ParameterError, match=r"data_file = .* is not possible. Allowed: "):
        Workspace.of(URL, root, data_file=path)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "./a"),
        ("manifest.json", "b"),
        ("a", "manifest.json"),
        ("a", "a.part"),
        ("a", ".a.source.json"),
        ("a", "a.part/000000"),
        ("a", "a/b"),
        ("b/a", "b"),
        ("a", "manifest.json/b"),
    ],
)
@pytest.mark.parametrize("root", ["w", "s3://bucket/w", "s3://bucket"])
def test_no_path_is_used_twice_nor_lies_below_a_file(root: str, names: tuple[str, str]) -> None:
    with pytest.raises(ParameterError, match="must be two files, and none that"):
        Workspace.of(URL, root, *names)


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


# In a store


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("s3://bucket/cams/w", "s3://bucket/cams/w"),
        ("s3://bucket/w/", "s3://bucket/w"),
        ("S3://bucket", "s3://bucket"),
        ("s3a://bucket/w", "s3://bucket/w"),
        ("gcs://bucket/a b%20+ü", "gs://bucket/a b%20+ü"),
        ("memory://w", "memory://w"),
        ("ftp://me@host/w", "ftp://me@host/w"),
        ("file:///tmp/a%20b", "/tmp/a b"),
    ],
)
def test_it_may_be_a_url(given: str, root: str) -> None:
    paths = Workspace.of(URL, given, gif="out/night.gif")
    assert paths == Workspace(root, f"{root}/image-data.img", f"{root}/out/night.gif")
    assert (paths.manifest, paths.frame("a.gif")) == (f"{root}/manifest.json", f"{root}/frames/a.gif")


def test_two_paths_may_lie_in_other_places_than_the_workspace() -> None:
    paths = Workspace.of(URL, "s3://bucket/w", data_file="/tmp/a.img", gif="gs://other/night.gif")
    assert (paths.data_file, paths.gif) == ("/tmp/a.img", "gs://other/night.gif")
    assert Workspace.of(URL, "w", gif="s3://bucket/night.gif").gif == "s3://bucket/night.gif"
    assert Workspace.of(URL, "w", data_file="file:///tmp/a%20b.img").data_file == "/tmp/a b.img"


@pytest.mark.parametrize("scheme", ["s3", "S3", "s3a"])
@pytest.mark.parametrize("name", ["frames/x", "converted/x", "image-data.img", "manifest.json", "image-data.img.part"])
def test_a_url_of_the_workspace_is_known_under_all_its_schemes(scheme: str, name: str) -> None:
    for root in ("bucket", "bucket/w"):
        with pytest.raises(ParameterError):
            Workspace.of(URL, f"s3://{root}", gif=f"{scheme}://{root}/{name}")


@pytest.mark.parametrize(
    "path",
    [
        "a*",
        "a?b",
        "a#b",
        "a[1]",
        "a]",
        "a\\b",
        "a\nb",
        "a\tb",
        "zip::a",
        "a\udcff",
        "a/../b",
        "a/./b",
        "a//b",
        "../b",
        "/b",
    ],
)
def test_a_url_that_means_another_place_to_some_package_is_refused(path: str) -> None:
    for url in (f"s3://bucket/{path}", f"s3://bucket/{path}/w"):
        for where in ({"workspace": url}, {"workspace": "s3://b", "gif": url}, {"workspace": "w", "data_file": url}):
            with pytest.raises(ParameterError, match=r"is not possible|is no place in a store"):
                Workspace.of(URL, **where)
    if not path.startswith("/") and "/" not in path:
        with pytest.raises(ParameterError, match="is not possible"):
            Workspace.of(URL, "s3://bucket/w", gif=path)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "memory://x"])
def test_a_store_is_no_file(url: str) -> None:
    with pytest.raises(ParameterError, match="is not possible"):
        Workspace.of(URL, "w", gif=url)


@pytest.mark.parametrize(
    "url", ["s3://AKIAME:hunter2@bucket/w", "s3://AKIAME:hun/ter2@bucket/w", "s4://me:hunter2@b/w"]
)
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    for where in ({"workspace": url}, {"gif": url}, {"data_file": url}):
        with pytest.raises(ParameterError) as caught:
            Workspace.of(URL, **where)
        assert "hun" not in str(caught.value)


def test_it_stays_what_it_is_for_a_process_in_another_folder() -> None:
    paths = Workspace.of(URL, "s3://bucket/w", data_file="/tmp/a.img").absolute()
    assert paths == Workspace("s3://bucket/w", "/tmp/a.img", "s3://bucket/w/clip.gif")
    assert Workspace.of(URL, "w").absolute().root == os.path.abspath("w")


names = st.text(st.sampled_from("ab./_ %+ü\\*"), max_size=12)


@given(st.sampled_from(["w", "/tmp/w", "s3://bucket/w", "s3://bucket", "memory://w"]), names, names)
def test_whatever_the_names_nothing_leaves_it_and_no_two_are_the_same(root: str, data_file: str, gif: str) -> None:
    try:
        paths = Workspace.of(URL, root, data_file, gif)
    except ParameterError:
        return
    chosen = {"data": paths.data_file, "gif": paths.gif}
    for given_name, path in ((data_file, paths.data_file), (gif, paths.gif)):
        if not os.path.isabs(given_name):
            assert path.startswith(f"{root}/")
            assert not {".", ".."} & set(path.removeprefix(f"{root}/").split("/"))
            assert not path.startswith((f"{paths.frames}/", f"{paths.converted_folder}/"))
            assert path not in (paths.frames, paths.converted_folder)
    used = [*chosen.values(), paths.manifest, f"{paths.data_file}.part"]
    for one in used:
        for other in used:
            assert one is other or not f"{other}/".startswith(f"{one}/")
        assert storage.is_remote(one) == storage.is_remote(root) or os.path.isabs(one)
