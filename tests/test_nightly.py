"""NightlyGif: one night, many nights, and nights in which nothing has changed."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path

import pytest
from pictures import encode, exif_of, gif, noise, with_exif
from server import Server, header, status
from workflow import build, changed, command, stream, versions

from imagetl_luigi import NightlyGif
from imagetl_luigi import gif as gif_module
from imagetl_luigi.errors import ParameterError, StorageError
from imagetl_luigi.gif import Recipe
from imagetl_luigi.manifest import Manifest, read_manifest

DATA = stream([gif(seed=seed) for seed in range(3)])
OTHER = stream([gif(seed=seed) for seed in range(7, 9)])
LONG_AGO = "Wed, 01 Jan 2020 00:00:00 GMT"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def night(day: int, url: str, **parameters: object) -> NightlyGif:
    return NightlyGif(date=datetime.date(2026, 11, day), url=url, root="n", **parameters)


def made(task: NightlyGif) -> bool:
    return bool(build(task).scheduling_succeeded) and bool(task.complete())


def manifest(day: int) -> Manifest:
    found = read_manifest(f"n/2026-11-{day:02}/manifest.json")
    assert found
    return found


def files(day: int) -> set[str]:
    return {str(path.relative_to(f"n/2026-11-{day:02}")) for path in Path(f"n/2026-11-{day:02}").rglob("*.*")}


SHORT = {".lock", "manifest.json", "clip.gif"}
"""The files of a night in which nothing had changed."""


def test_each_night_has_a_workspace_of_its_own(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    server.put("/a", OTHER, etag='"2"')
    assert made(night(2, url))
    assert [manifest(day).count for day in (1, 2)] == [3, 2]
    assert Path("n/2026-11-01/image-data.img").read_bytes() == DATA
    assert Path("n/2026-11-02/image-data.img").read_bytes() == OTHER
    assert manifest(2).same_as is None
    assert night(1, url).complete()


@pytest.mark.parametrize("names", [{"etag": '"1"'}, {"last_modified": LONG_AGO}, {"etag": '"1"', "last_modified": "?"}])
def test_a_source_that_the_server_vouches_for_is_neither_transferred_nor_worked_on(
    server: Server, names: dict[str, str]
) -> None:
    url = server.put("/a", DATA, **names)
    assert made(night(1, url))
    before = versions(Path("n"))
    assert made(night(2, url))
    assert [request.sent for request in server.requests] == [len(DATA), 0]
    assert not changed(before, versions(Path("n"))) & before.keys()
    assert files(2) == SHORT
    assert manifest(2).same_as == "2026-11-01"
    assert manifest(2).source == manifest(1).source
    assert os.path.samefile("n/2026-11-01/clip.gif", "n/2026-11-02/clip.gif")


@pytest.mark.parametrize("names", [{}, {"etag": 'W/"1"'}])
def test_without_a_server_that_vouches_the_sha256_tells(server: Server, names: dict[str, str]) -> None:
    url = server.put("/a", DATA, **names)
    assert made(night(1, url))
    assert made(night(2, url))
    assert [request.sent for request in server.requests] == [len(DATA), len(DATA)]
    assert not {"If-None-Match", "If-Modified-Since"} & set(server.requests[1].headers)
    assert files(2) == SHORT
    assert manifest(2).same_as == "2026-11-01"
    assert manifest(2).source.fetched_at


def test_a_server_that_has_weakened_its_etag_vouches_for_nothing(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    server.put("/a", OTHER, etag='W/"1"')
    assert made(night(2, url))
    assert [request.sent for request in server.requests] == [len(DATA), 0, len(OTHER)]
    assert manifest(2).source.sha256 != manifest(1).source.sha256


def test_a_304_that_was_not_asked_for_is_an_error(server: Server) -> None:
    server.once(status(304))
    task = night(1, server.put("/a", DATA))
    assert not made(task)
    assert not Path("n/2026-11-01/manifest.json").exists()


def test_a_dated_url_with_the_bytes_of_the_night_before_takes_its_animation(server: Server) -> None:
    for day in (1, 2):
        server.put(f"/2026/11/0{day}.img", DATA, etag='"1"')
    url = server.url() + "/{date:%Y/%m/%d}.img"
    assert made(night(1, url))
    assert made(night(2, url))
    assert [request.path for request in server.requests] == ["/2026/11/01.img", "/2026/11/02.img"]
    assert "If-None-Match" not in server.requests[1].headers  # the ETag of another URL means nothing
    assert files(2) == SHORT
    assert (manifest(2).same_as, manifest(2).source.url) == ("2026-11-01", server.url("/2026/11/02.img"))
    pixels = [Path(f"n/2026-11-0{day}/clip.gif").read_bytes()[-200:] for day in (1, 2)]
    assert pixels[0] == pixels[1]


def test_a_night_after_unchanged_ones_names_the_one_with_the_frames(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    for day in (1, 2, 5):
        assert made(night(day, url))
    assert manifest(5).same_as == "2026-11-01"
    server.put("/a", OTHER, etag='"2"')
    assert made(night(6, url))
    assert manifest(6).same_as is None


def test_another_delay_for_a_night_without_frames_is_made_of_the_bytes_of_the_night_that_has_them(
    server: Server,
) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url))
    before = versions(Path("n/2026-11-01"))
    server.put("/a", OTHER, etag='"2"')
    slow = night(2, url, delay=500)
    assert not slow.complete()
    assert made(slow)
    assert len(server.requests) == 2
    assert manifest(2).count == 3
    assert changed(before, versions(Path("n/2026-11-01"))) == set()
    assert os.path.samefile("n/2026-11-01/image-data.img", "n/2026-11-02/image-data.img")


def test_another_delay_for_a_night_whose_bytes_are_gone_is_an_error_and_changes_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url))
    Path("n/2026-11-01/image-data.img").unlink()
    before = versions(Path("n"))
    server.put("/a", OTHER, etag='"2"')
    assert not made(night(2, url, delay=500))
    assert "n/2026-11-02 has the bytes of n/2026-11-01, and n/2026-11-01/image-data.img is not there" in caplog.text
    assert "to fetch what is at the source now, remove n/2026-11-02/manifest.json and run again" in caplog.text
    assert len(server.requests) == 2
    assert changed(before, versions(Path("n"))) == set()


def test_a_night_whose_bytes_are_those_of_an_earlier_one_with_other_parameters_is_made_anew(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url, delay=500))
    assert manifest(2).same_as is None
    assert (Path("n/2026-11-02/frames") / "frame_02.gif").exists()


@pytest.mark.parametrize("cleaned", [False, True])
def test_a_night_of_an_older_version_that_turned_nothing_is_no_example(
    server: Server, monkeypatch: pytest.MonkeyPatch, cleaned: bool
) -> None:
    portrait = with_exif(encode(noise((12, 8)), "JPEG"), exif_of(6))
    url = server.put("/a", stream([portrait]), etag='"1"')
    with monkeypatch.context() as older:
        older.setattr("imagetl_luigi.formats.read_orientation", lambda *_: 1)
        older.setattr("imagetl_luigi.manifest.SCHEMA", 1)
        assert made(night(1, url))
        assert made(night(2, url))
    if cleaned:
        shutil.rmtree("n/2026-11-01")
    assert made(night(3, url))
    assert (manifest(2).width, manifest(2).same_as) == (12, "2026-11-01")
    assert (manifest(3).width, manifest(3).height, manifest(3).outdated) == (8, 12, False)


def test_an_incomplete_night_is_no_example(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url))
    Path("n/2026-11-02/clip.gif").unlink()
    assert made(night(3, url))
    assert manifest(3).same_as == "2026-11-01"
    Path("n/2026-11-01/clip.gif").unlink()
    Path("n/2026-11-03/clip.gif").unlink()
    assert made(night(4, url))
    assert manifest(4).same_as is None


@pytest.mark.parametrize("same_as", ["2026-11-09", "../../etc", "2026-11-01/..", 5])
def test_a_manifest_that_names_no_earlier_night_is_not_followed(server: Server, same_as: object) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url))
    path = Path("n/2026-11-02/manifest.json")
    path.write_text(path.read_text().replace('"same_as": "2026-11-01"', f'"same_as": {json.dumps(same_as)}'))
    Path("n/2026-11-02/clip.gif").unlink()
    assert made(night(2, url))
    assert manifest(2).same_as == "2026-11-01"


@pytest.mark.parametrize("what", ["removed", "made anew"])
def test_a_night_names_only_one_that_still_has_its_bytes(server: Server, what: str) -> None:
    url = server.put("/a", DATA, etag='"1"')
    for day in (1, 2):
        assert made(night(day, url))
    shutil.rmtree("n/2026-11-01")
    if what == "made anew":
        server.put("/a", OTHER, etag='"2"')
        assert made(night(1, url))
        server.put("/a", DATA, etag='"1"')
    assert made(night(3, url))
    assert manifest(3).same_as == "2026-11-02"


def test_a_file_with_an_older_date_is_another_file(server: Server) -> None:
    url = server.put("/a", DATA, last_modified=LONG_AGO)
    assert made(night(1, url))
    server.put("/a", OTHER, last_modified="Tue, 01 Jan 2019 00:00:00 GMT")
    server.once(status(304))  # as servers answer that take any date before for the same
    server.once()
    assert made(night(2, url))
    assert manifest(2).same_as is None


def test_an_old_night_that_cannot_be_looked_at_is_no_reason_to_miss_another(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    assert made(night(2, url))
    find = gif_module.find_recipe

    def refuse(path: str) -> Recipe | None:
        if "2026-11-02" in path:
            raise StorageError("cannot read it: Permission denied")
        return find(path)

    monkeypatch.setattr(gif_module, "find_recipe", refuse)
    assert made(night(3, url))
    assert manifest(3).same_as == "2026-11-01"
    assert "the night of 2026-11-02 counts as not made: cannot read it: Permission denied" in caplog.text
    dates = [datetime.date(2026, 11, day) for day in (1, 2, 3)]
    bulk = NightlyGif.bulk_complete.__func__
    assert bulk(lambda **given: NightlyGif(url=url, root="n", **given), dates) == [dates[0], dates[2]]


def test_a_night_that_is_not_today_warns_where_the_url_has_no_date(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert made(night(1, server.put("/a", DATA)))
    assert caplog.text.count("2026-11-01 is not today, and no {date} in the url, so it gets what is there") == 1
    assert made(NightlyGif(url=server.url("/a"), root="n"))
    server.put("/2026-11-02", DATA)
    assert made(night(2, server.url() + "/{date}"))
    assert caplog.text.count("is not today") == 1


def test_a_source_that_is_gone_fails_the_night_and_leaves_the_others(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(1, url))
    before = versions(Path("n"))
    server.always(status(404))
    assert not made(night(2, url))
    assert changed(before, versions(Path("n"))) == {"2026-11-02/.lock"}
    server.always()
    assert made(night(2, url))


def test_a_data_file_of_another_url_is_not_overwritten(server: Server) -> None:
    first, second = server.put("/a", DATA), server.put("/b", OTHER)
    assert made(night(1, first))
    assert not made(night(1, second))
    assert Path("n/2026-11-01/image-data.img").read_bytes() == DATA


def test_killed_after_the_download_it_goes_on_from_there(server: Server) -> None:
    url = server.put("/a", DATA)
    assert made(night(1, url))
    for name in ("clip.gif", "manifest.json"):
        Path("n/2026-11-01", name).unlink()
    assert made(night(1, url))
    assert len(server.requests) == 1


def test_bulk_complete_names_the_nights_that_are_complete(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    for day in (1, 2, 4):
        assert made(night(day, url))
    Path("n/2026-11-04/clip.gif").unlink()
    dates = [datetime.date(2026, 11, day) for day in range(1, 6)]

    def of(**parameters: object) -> NightlyGif:
        return NightlyGif(url=url, root="n", **parameters)

    bulk = NightlyGif.bulk_complete.__func__
    assert bulk(of, iter(dates)) == dates[:2]
    assert bulk(of, []) == []
    assert bulk(lambda **given: of(delay=40, **given), dates) == []


def test_range_daily_fills_the_gaps_oldest_first_and_then_has_nothing_to_do(server: Server, folder: Path) -> None:
    url = server.put("/a", DATA, etag='"1"')
    assert made(night(2, url))
    parameters = json.dumps({"url": url, "root": "n"})
    span = ("--start", "2026-11-01", "--stop", "2026-11-05", "--now", "1793923200")
    backfill = ("RangeDaily", "--local-scheduler", "--of", "NightlyGif", "--of-params", parameters, *span)
    first = command(*backfill, folder=folder)
    assert first.returncode == 0, first.stderr
    assert [manifest(day).same_as for day in range(1, 5)] == [None, None, "2026-11-02", "2026-11-02"]
    asked = len(server.requests)
    again = command(*backfill, folder=folder)
    assert again.returncode == 0, again.stderr
    assert "running" not in again.stderr
    assert len(server.requests) == asked == 4


def test_the_plain_command_takes_today_and_a_root_from_the_url(server: Server, folder: Path) -> None:
    url = server.put("/cam.img", DATA)
    before = datetime.date.today()
    run = command("NightlyGif", "--local-scheduler", "--url", url, folder=folder)
    assert run.returncode == 0, run.stderr
    (root,) = (folder / "data").glob("cam-*")
    assert [path.name for path in root.iterdir()] in ([str(before)], [str(datetime.date.today())])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--date", "yesterday"], "date = 'yesterday' is no date. Allowed: year-month-day, as 2026-11-24"),
        (["--date", "2026-11-31"], "date = '2026-11-31' is no date"),
        (["--gif", "/tmp/clip.gif"], "gif = '/tmp/clip.gif' is not possible. Allowed: a name in the workspace of each"),
        (["--delay", "33"], "delay = 33 is not possible"),
        (["--root", "gopher://x"], "gopher"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_done(
    server: Server, folder: Path, flags: list[str], message: str
) -> None:
    run = command("NightlyGif", "--local-scheduler", "--url", server.put("/a", DATA), *flags, folder=folder)
    assert run.returncode == 40
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert server.requests == []
    assert list(folder.iterdir()) == []


def test_a_url_in_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(ParameterError, match="gopher"):
        night(1, "gopher://host/a.img")


def test_in_a_store_an_unchanged_object_is_not_read_and_the_store_copies(s3: str) -> None:
    from imagetl_luigi import storage

    storage.write_bytes(f"{s3}/a.img", DATA)
    tasks = [NightlyGif(date=datetime.date(2026, 11, day), url=f"{s3}/a.img", root=f"{s3}/n") for day in (1, 2)]
    assert all(map(made, tasks))
    assert storage.sizes(f"{s3}/n/2026-11-02").keys() == {"manifest.json", "clip.gif"}
    first, second = (storage.read_bytes(f"{s3}/n/2026-11-0{day}/clip.gif") for day in (1, 2))
    assert first == second
    bulk = NightlyGif.bulk_complete.__func__
    dates = [datetime.date(2026, 11, day) for day in range(1, 4)]
    assert bulk(lambda **given: NightlyGif(url=f"{s3}/a.img", root=f"{s3}/n", **given), dates) == dates[:2]


def test_a_redirect_is_asked_too_whether_it_has_changed(server: Server) -> None:
    url = server.put("/a", DATA, etag='"1"')
    server.once(header("ETag", None), status(302, location=url))
    assert made(night(1, server.put("/moved", b"")))
    server.once(status(302, location=url))
    assert made(night(2, server.url("/moved")))
    assert [request.sent for request in server.requests if request.path == "/a"] == [len(DATA), 0]
