"""nights: dated workspaces, and what one takes over from another."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import gif
from workflow import build, stream

from imagetl_luigi import CombineGif, nights
from imagetl_luigi.gif import find_recipe
from imagetl_luigi.manifest import Manifest, read_manifest
from imagetl_luigi.targets import GifTarget
from imagetl_luigi.workspace import Workspace

NIGHT = datetime.date(2026, 11, 4)


@pytest.mark.parametrize(
    ("url", "dated"),
    [
        ("https://h/a.img", "https://h/a.img"),
        ("https://h/{date}.img", "https://h/2026-11-04.img"),
        ("https://h/{date:%Y/%m}/{date:%d}.img", "https://h/2026/11/04.img"),
        ("https://h/{date:%Y%m%d}/a%20b.img", "https://h/20261104/a%20b.img"),
        ("{date.year}{DATE}{}{date:}", "{date.year}{DATE}{}2026-11-04"),
    ],
)
def test_the_date_is_put_into_a_url_where_it_says_so(url: str, dated: str) -> None:
    assert nights.url_of(url, NIGHT) == dated


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@cam-{date:%Y}.example.org/{date}.img?sig=x", "https://cam-{date:%Y}.example.org/{date}.img"),
        ("s3://bucket/{date:%Y/%m}/a.img", "s3://bucket/{date:%Y/%m}/a.img"),
    ],
)
def test_a_url_is_shown_with_its_places_and_without_its_secrets(url: str, shown: str) -> None:
    assert nights.public_url(url) == shown


@given(st.dates())
def test_a_workspace_is_found_again_by_its_name(date: datetime.date) -> None:
    assert nights.parse(os.path.basename(nights.workspace("root", date))) == date


@pytest.mark.parametrize("name", ["", "logs", "2026-11-31", "2026-1-4", "20261104", "2026-11-04x", "٢٠٢٦-11-04", None])
def test_other_names_are_no_nights(name: str | None) -> None:
    assert nights.parse(name) is None


def test_nights_are_listed_oldest_first_and_nothing_else(tmp_path: Path) -> None:
    for name in ("2026-11-04", "2025-12-31", "2026-11-03", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "2026-11-01").write_bytes(b"a file")
    listed = [date.isoformat() for date in nights.listed(str(tmp_path))]
    assert listed == ["2025-12-31", "2026-11-03", "2026-11-04"]
    assert nights.listed(str(tmp_path / "none")) == []


def first_night(folder: Path) -> tuple[Workspace, Manifest]:
    (folder / "a.img").write_bytes(stream([gif(seed=1), gif(seed=2)]))
    task = CombineGif(url=str(folder / "a.img"), workspace=str(folder / "2026-11-03"))
    build(task)
    manifest = read_manifest(task.paths().manifest)
    assert manifest
    return task.paths(), manifest


@pytest.mark.parametrize("url", ["a.img", "b.img"], ids=["same URL", "another URL"])
def test_a_night_that_takes_over_another_is_complete_under_its_own_url(tmp_path: Path, url: str) -> None:
    earlier, manifest = first_night(tmp_path)
    url = str(tmp_path / url)
    night = Workspace.of(url, str(tmp_path / "2026-11-04"))
    target = GifTarget(night, url, delimiter=manifest.delimiter, delay=None, loop=0)
    source = manifest.source.__class__(url=url, length=manifest.source.length, sha256=manifest.source.sha256)
    nights.take_over(earlier, manifest, night, source, target.recipe(manifest))
    assert target.exists()
    found = read_manifest(night.manifest)
    assert found
    assert (found.same_as, found.source) == ("2026-11-03", source)
    assert list(found.frames()) == list(manifest.frames())
    assert find_recipe(night.gif) == target.recipe(manifest)
    same_file = os.path.samefile(night.gif, earlier.gif)
    assert same_file == (url == manifest.source.url)
    assert {path.name for path in (tmp_path / "2026-11-04").iterdir()} == {"manifest.json", "clip.gif"}


def test_of_a_chain_each_night_names_the_one_that_has_the_frames(tmp_path: Path) -> None:
    earlier, manifest = first_night(tmp_path)
    url = manifest.source.url
    for name in ("2026-11-04", "2026-11-05"):
        night = Workspace.of(url, str(tmp_path / name))
        target = GifTarget(night, url, delimiter=manifest.delimiter, delay=None, loop=0)
        nights.take_over(earlier, manifest, night, manifest.source, target.recipe(manifest))
        copied = read_manifest(night.manifest)
        assert copied
        assert copied.same_as == "2026-11-03"
        earlier, manifest = night, copied
    for name in ("2026-11-03", "2026-11-04", "2026-11-05"):
        expected = [str(tmp_path / later) for later in ("2026-11-04", "2026-11-05")] if name == "2026-11-03" else []
        assert nights.same_as(str(tmp_path / name)) == expected
    assert nights.same_as(str(tmp_path / "logs")) == []
