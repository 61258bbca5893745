"""CombineGifs: many streams in one run."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import luigi
import pytest
from pictures import gif
from server import Server, status
from workflow import build, command, stream

from imagetl_luigi import CombineGif, CombineGifs, NightlyGif
from imagetl_luigi.errors import ParameterError, StorageError
from imagetl_luigi.targets import GifTarget

DATA = stream([gif(seed=seed) for seed in range(3)])
RUN = ("CombineGifs", "--local-scheduler", "--catalog", "streams.toml", "--download-retry-wait", "0")

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the catalog of streams with these URLs, and more lines for each."""
    monkeypatch.chdir(tmp_path)

    def write(urls: dict[str, str], more: str = "") -> None:
        tables = [f'[[stream]]\nname = "{name}"\nurl = "{url}"\n{more}\n' for name, url in urls.items()]
        Path("streams.toml").write_text("\n".join(tables))

    return write


def test_each_stream_has_a_folder_of_its_name(write: Write) -> None:
    write({"a": "x.img", "b": "y.img"}, "delay = 40")
    tasks = CombineGifs(catalog="streams.toml", root="r").requires()
    assert tasks == [CombineGif(url=f"{url}.img", workspace=f"r/{name}", delay=40) for name, url in ("ax", "by")]


def test_a_catalog_that_has_changed_is_read_anew(write: Write) -> None:
    write({"a": "x.img"})
    task = CombineGifs(catalog="streams.toml", root="r")
    write({"b": "x.img"})
    assert CombineGifs(catalog="streams.toml", root="r") is task
    assert task.requires() == [CombineGif(url="x.img", workspace="r/b")]


def test_with_a_date_each_stream_is_a_night(write: Write) -> None:
    write({"a": "x{date}.img"})
    date = datetime.date(2026, 11, 24)
    (task,) = CombineGifs(catalog="streams.toml", root="r", date=date).requires()
    assert task == NightlyGif(url="x{date}.img", root="r/a", date=date)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_stream_that_fails_does_not_stop_the_others_and_is_named(
    server: Server, tmp_path: Path, write: Write, workers: str
) -> None:
    good = server.put("/good", DATA)
    write({"a": good, "b": server.url("/none"), "c": good})
    run = command(*RUN, "--root", "r", "--workers", workers, folder=tmp_path)
    assert run.returncode == 30
    assert "/none answered 404" in run.stderr
    assert "WARNING: 1 of 3 animations failed: b: DownloadError: " in run.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("r/*/clip.gif")) == ["a", "c"]
    server.put("/none", DATA)
    asked = len(server.requests)
    assert command(*RUN, "--root", "r", folder=tmp_path).returncode == 0
    assert [request.path for request in server.requests[asked:]] == ["/none"]


def test_a_stream_that_cannot_be_looked_at_does_not_stop_the_others(
    server: Server, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write({name: server.put(f"/{name}", DATA) for name in "abc"})
    build(CombineGif(url=server.url("/a"), workspace="r/a"))
    (tmp_path / "r/b/clip.gif").mkdir(parents=True)
    stat = GifTarget.exists

    def refuse(target: GifTarget) -> bool:
        if "r/b" in target.path:
            raise StorageError("cannot read it: Permission denied")
        return stat(target)

    monkeypatch.setattr(GifTarget, "exists", refuse)
    monkeypatch.setattr(luigi.configuration.LuigiConfigParser, "_instance", luigi.configuration.LuigiConfigParser())
    build(CombineGifs(catalog="streams.toml", root="r"))
    assert (tmp_path / "r/c/clip.gif").is_file()
    assert "1 of 3 animations failed: b: StorageError: cannot read it: Permission denied" in caplog.text


def test_a_night_of_streams_fetches_only_what_has_changed(server: Server, tmp_path: Path, write: Write) -> None:
    urls = {name: server.put(f"/{name}", DATA, etag='"1"') for name in "ab"}
    write(urls)
    assert command(*RUN, "--date", "2026-11-23", folder=tmp_path).returncode == 0
    server.put("/b", stream([gif(seed=9)]), etag='"2"')
    run = command(*RUN, "--date", "2026-11-24", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    sent = {request.path: request.sent for request in server.requests}
    assert sent["/a"] == 0 < sent["/b"]
    assert sorted(map(str, Path("data").glob("*/*/clip.gif"))) == [
        f"data/{name}/2026-11-{day}/clip.gif" for name in "ab" for day in (23, 24)
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("delay = 33", "streams.toml: stream 'a': delay = 33 is not possible"),
        ("gif = '../x.gif'", "streams.toml: stream 'a': gif = '../x.gif' is not possible"),
        (
            "gif = '/tmp/x.gif'",
            "stream 'a': gif = '/tmp/x.gif' is not possible. Allowed: a name in the stream's folder",
        ),
        ("delimiter = ''", "streams.toml: stream 'a': delimiter is empty"),
        ("speed = 3", "stream 1 has 'speed'"),
    ],
)
@pytest.mark.parametrize("date", [[], ["--date", "2026-11-24"]], ids=["no date", "date"])
def test_a_stream_that_cannot_be_is_refused_before_anything_is_done(
    server: Server, tmp_path: Path, write: Write, more: str, message: str, date: list[str]
) -> None:
    write({"a": server.url("/a")}, more)
    if date and "/tmp/x.gif" in more:
        message = "gif = '/tmp/x.gif' is not possible"
    run = command(*RUN, *date, folder=tmp_path)
    assert run.returncode == 40
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["streams.toml"]


def test_a_dated_url_needs_a_date(write: Write) -> None:
    write({"a": "https://example.org/{date:%Y%m%d}.img"})
    with pytest.raises(ParameterError, match=r"stream 'a': its url has \{date\} in it, so the run needs --date"):
        CombineGifs(catalog="streams.toml", root="dated")


def test_a_catalog_that_is_not_there_is_said(tmp_path: Path) -> None:
    run = command(*RUN, folder=tmp_path)
    assert run.returncode == 40
    assert "catalog = 'streams.toml': cannot read streams.toml: No such file or directory" in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_streams_run_on_one_dask_cluster(server: Server, tmp_path: Path, write: Write, workers: str) -> None:
    urls = {name: server.put(f"/{name}", DATA) for name in "abc"}
    server.once(status(503))
    write(urls)
    cluster = ("--dask-scheduler", "cluster", "--dask-cluster-workers", "1", "--dask-dashboard", "127.0.0.1:0")
    marks = tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "sitecustomize.py").write_text(MARK)
    environment = {"PYTHONPATH": str(tmp_path), "MARKS": str(marks)}
    run = command(*RUN, *cluster, "--workers", workers, folder=tmp_path, **environment)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("data/*/clip.gif"))) == 3
    assert len(list(marks.iterdir())) == 1


MARK = """
import os, sys
if "shared.main()" in " ".join(sys.orig_argv):
    open(os.path.join(os.environ["MARKS"], str(os.getpid())), "w").close()
"""
"""Leaves a file for each cluster that is started."""
