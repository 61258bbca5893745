"""nightly_command: scripts/nightly, as cron runs it."""

from __future__ import annotations

import configparser
import datetime
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import luigi
import psutil
import pytest
from pictures import gif
from repository import ROOT, link_to
from server import Server, hold
from waiting import until
from workflow import CONFIG, stream

from imagetl_luigi import nightly_command, storage
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.nightly_command import RETCODES, luigi_command, parse

FRAMES = [gif(seed=seed) for seed in range(3)]
DATE = ("--date", "2026-11-24")
NIGHT = "2026-11-24"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A link to scripts/nightly."""
    return link_to("nightly", tmp_path_factory.mktemp("nightly"))


def started(script: Path, *arguments: str | Path, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Run it with no more in its environment than cron gives."""
    return subprocess.Popen(
        [script, *map(str, arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": tempfile.gettempdir(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def nightly(script: Path, *arguments: str | Path, folder: Path, **environment: str) -> tuple[int, str]:
    """The exit code, and all that it printed."""
    with started(script, *arguments, folder=folder, **environment) as running:
        out, errors = running.communicate()
    return running.returncode, out + errors


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("nightly-*.log"))


def test_cron_gets_the_animation_a_log_and_nothing_to_mail(script: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "cam.img").write_bytes(stream(FRAMES))
    (tmp_path / "random.py").write_text("raise SystemExit('what lies in the current folder was run')")
    (tmp_path / "nights/logs").mkdir(parents=True)
    for day in range(1, 5):
        (tmp_path / f"nights/logs/nightly-2026-01-0{day}T03-15-00.log").touch()
    arguments = ("cam.img", "nights", *DATE, "--keep-logs", "3", "--delay", "40")
    assert nightly(script, *arguments, folder=tmp_path) == (0, "")
    assert (tmp_path / f"nights/{NIGHT}/clip.gif").exists()
    old, newer, log = logs(tmp_path / "nights/logs")
    assert (old.name, newer.name) == ("nightly-2026-01-03T03-15-00.log", "nightly-2026-01-04T03-15-00.log")
    first, *between, last = log.read_text().splitlines()
    assert re.match(r"nightly: \S+Z .*/luigi' --module imagetl_luigi NightlyGif --url cam.img .*--delay 40", first)
    assert "This progress looks :)" in "".join(between)
    assert re.fullmatch(r"nightly: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ exit code 0 after \d+\.\d s", last)


@pytest.mark.parametrize("environment", [{}, {"LUIGI_CONFIG_PATH": "empty.cfg"}], ids=["our luigi.cfg", "an empty one"])
def test_a_failure_is_told_with_its_reason_its_log_and_no_secret(
    script: Path, server: Server, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "empty.cfg").touch()
    url = server.url("/none").replace("//", "//me:secret@") + "?night=1&token=hidden"
    code, said = nightly(script, url, "nights", *DATE, folder=tmp_path, **environment)
    assert code == 30
    (log,) = logs(tmp_path / "nights/logs")
    first, *reason, last = said.splitlines()
    assert first.startswith(f"nightly: NightlyGif of {server.url('/none')}?night=1 in {tmp_path}/nights for {NIGHT} ")
    assert first.endswith("(exit code 30)")
    assert sum("answered 404" in line for line in reason) == 1
    assert last == f"log: {log}"
    assert not re.search("secret|hidden|Traceback", said + log.read_text())


def test_each_stream_of_a_catalog_is_made_though_one_fails(script: Path, server: Server, tmp_path: Path) -> None:
    good, bad = server.put("/good", stream(FRAMES)), server.url("/bad")
    tables = [f'[[stream]]\nname = "{name}"\nurl = "{url}"\n' for name, url in (("bad", bad), ("good", good))]
    (tmp_path / "cameras.toml").write_text("".join(tables))
    code, said = nightly(script, "cameras.toml", "nights", *DATE, folder=tmp_path)
    assert code == 30
    assert said.startswith("nightly: CombineGifs of ")
    assert f"{bad} answered 404" in said
    assert (tmp_path / f"nights/good/{NIGHT}/clip.gif").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_half_way_it_leaves_no_lock_and_the_next_run_ends_right(
    script: Path, server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    data = stream(FRAMES)
    arguments = (server.put("/a", data, etag='"1"'), "nights", *DATE)
    server.once(hold(100))
    part = tmp_path / f"nights/{NIGHT}/image-data.img.part"
    with started(script, *arguments, folder=tmp_path) as first:
        until(lambda: part.exists() and part.stat().st_size == 100, 30)
        (command,) = psutil.Process(first.pid).children()
        code, said = nightly(script, *arguments, folder=tmp_path / "nights/..")
        assert code == 10
        assert re.fullmatch(rf"nightly: {tmp_path}/nights is in use .*\(pid {first.pid}, since \S+Z\) .*10\)\n", said)
        first.send_signal(number)
        _, errors = first.communicate()
    assert first.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert (f" by {number.name} " in errors) == (number != signal.SIGKILL)
    until(lambda: not command.is_running() or command.status() == psutil.STATUS_ZOMBIE)
    assert nightly(script, *arguments, folder=tmp_path) == (0, "")
    assert (tmp_path / f"nights/{NIGHT}/clip.gif").exists()
    assert server.requests[-1].sent == len(data) - 100
    assert len(logs(tmp_path / "nights/logs")) == 2


@pytest.mark.slow
def test_a_root_in_a_store_has_its_lock_and_logs_on_this_machine(
    script: Path, s3: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environment = {**request.getfixturevalue("s3_server").environment, "XDG_STATE_HOME": str(tmp_path / "state")}
    arguments = (server.put("/a", stream(FRAMES)), f"{s3}/nights", *DATE)
    assert nightly(script, *arguments, folder=tmp_path, **environment) == (0, "")
    assert storage.exists(f"{s3}/nights/{NIGHT}/clip.gif")
    (home,) = (tmp_path / "state/imagetl_luigi").iterdir()
    assert {path.name for path in home.iterdir()} == {".nightly.lock", "logs"}
    assert len(logs(home / "logs")) == 1


def test_a_wrong_value_has_one_message_and_luigis_exit_code(script: Path, tmp_path: Path) -> None:
    code, said = nightly(script, "cam.img", "nights", "--delay", "33", folder=tmp_path)
    assert code == 40
    assert said.count("delay = 33 is not possible") == 1
    assert "Traceback" not in said
    assert len(said.splitlines()) == 4


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LUIGI_CONFIG_PATH": "/no/luigi.cfg"}, "LUIGI_CONFIG_PATH = '/no/luigi.cfg' is no file"),
        ({"PYTHON": "/no/python"}, "Python 3.11, 3.12 or 3.13 is needed"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_done(
    script: Path, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    bare = tmp_path / "scripts"
    bare.mkdir()
    for name in ("nightly", "setup"):
        shutil.copy2(ROOT / "scripts" / name, bare / name)
    (tmp_path / "setup.py").touch()
    path = bare / "nightly" if "PYTHON" in environment else script
    code, said = nightly(path, "cam.img", "nights", folder=tmp_path, **environment)
    assert code == 40
    assert said.startswith("nightly: ")
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "nights").exists()


# What follows runs nothing.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: URL|CATALOG.toml, ROOT"),
        (["cam.img"], "required: ROOT"),
        (["", "nights"], "URL|CATALOG.toml: is empty"),
        (["cam.img", ""], "ROOT: is empty"),
        (["cam.img", "nights", "--date", "today"], "--date: 'today' is no date. Allowed: YYYY-MM-DD"),
        (["cam.img", "nights", "--keep-logs", "0"], "--keep-logs: '0' is no number of logs. Allowed: 1 or more"),
        (["--delay", "40", "cam.img", "nights"], "URL or catalog, and ROOT, come first"),
        (["cam.img", "nights", "--url", "b.img"], "--url cannot be given"),
        (["cam.img", "nights", "--root=other"], "--root cannot be given"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("url", "root"), [("gopher://host/a", "nights"), ("cam.img", "http://host/nights")])
def test_a_url_that_cannot_be_used_is_refused(url: str, root: str) -> None:
    with pytest.raises(ParameterError, match="Allowed: "):
        parse([url, root])


def test_help_shows_a_crontab(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "15 3 * * *  /opt/imagetl_luigi/scripts/nightly https://" in capsys.readouterr().out


def test_options_go_to_luigi_as_they_are_and_the_date_is_that_of_the_start() -> None:
    options = ["--delay", "40", "--loop", "-1", "--delimiter", "a b", "--dask-scheduler=cluster"]
    night = parse(["cam.img", "nights", "--keep-logs", "7", *options, "--logs", "elsewhere"])
    assert night.options == options
    assert luigi_command(night)[-len(options) :] == options
    assert (night.keep_logs, night.logs) == (7, str(Path("elsewhere").absolute()))
    assert night.date in (datetime.date.today(), datetime.date.today() - datetime.timedelta(1))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("cam.img", ["NightlyGif", "--url", "cam.img"]),
        ("https://host/{date}.toml", ["NightlyGif", "--url", "https://host/{date}.toml"]),
        ("my cameras.toml", ["CombineGifs", "--catalog", "my cameras.toml"]),
        ("s3://bucket/cameras.toml", ["CombineGifs", "--catalog", "s3://bucket/cameras.toml"]),
        ("file:///etc/my%20cameras.toml", ["CombineGifs", "--catalog", "/etc/my cameras.toml"]),
    ],
)
def test_a_path_that_ends_in_toml_is_a_catalog(source: str, expected: list[str]) -> None:
    command = luigi_command(parse([source, "nights", *DATE]))
    start = command.index(expected[0])
    root = str(Path("nights").absolute())
    assert command[start : start + 8] == [*expected, "--root", root, *DATE, "--no-lock"]


@pytest.fixture
def core() -> Iterator[luigi.configuration.LuigiConfigParser]:
    """Luigi's configuration, of whose section [core] nothing is left afterwards."""
    config = luigi.configuration.get_config()
    before = dict(config.items("core")) if config.has_section("core") else {}
    yield config
    config.remove_section("core")
    for name, value in before.items():
        config.set("core", name, value)


@pytest.mark.parametrize(
    "options", [["--scheduler-host", "h"], ["--scheduler-port=9"], ["--scheduler-url", "http://h/"]]
)
def test_an_option_that_names_a_scheduler_is_obeyed(options: list[str]) -> None:
    assert "--local-scheduler" not in luigi_command(parse(["cam.img", "nights", *options]))
    assert "--local-scheduler" in luigi_command(parse(["cam.img", "nights", "--scheduler-retry-delay", "1"]))


@pytest.mark.filterwarnings("ignore:Configuration .* should be avoided:DeprecationWarning")
@pytest.mark.parametrize("name", ["scheduler_host", "scheduler-port", "default-scheduler-url"])
def test_a_luigi_cfg_that_names_a_scheduler_is_obeyed(core: luigi.configuration.LuigiConfigParser, name: str) -> None:
    core.set("core", name, "9")
    assert "--local-scheduler" not in luigi_command(parse(["cam.img", "nights"]))


def test_a_store_has_one_folder_of_state_however_its_url_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    homes = {parse(["cam.img", root]).home for root in ("s3://bucket/n", "s3a://bucket/n/", "S3://bucket/n")}
    assert len(homes) == 1
    assert homes.pop().startswith("/home/me/.local/state/imagetl_luigi/")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # to be ignored, says the specification
    assert parse(["cam.img", "s3://bucket/other"]).home.startswith("/home/me/.local/state/imagetl_luigi/")


def test_exit_codes_are_those_of_the_shipped_luigi_cfg() -> None:
    shipped = configparser.ConfigParser()
    shipped.read(CONFIG)
    assert {name: int(code) for name, code in shipped["retcode"].items()} == RETCODES


def test_secrets_of_an_option_are_not_logged() -> None:
    shown = nightly_command._public
    assert shown("--scheduler-url=http://me:pw@host/") == "--scheduler-url=http://host/"
    assert shown("https://me:pw@host/a?sig=x") == "https://host/a"
    assert shown("--delimiter=://") == "--delimiter=://"
    assert shown("a=b") == "a=b"
