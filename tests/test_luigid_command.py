"""scripts/luigid: the central scheduler as it is started, stopped, and killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import luigi
import psutil
import pytest
import requests
from conftest import missing
from luigid import OurLuigid, free_port, hasty
from pictures import gif
from server import Fault, Response, Server, hold
from waiting import until
from workflow import CONFIG, changed, command, started, stream, versions

from imagetl_luigi.errors import LuigidError
from imagetl_luigi.luigid import main, start
from imagetl_luigi.luigid_server import Place, _scheduler

FRAMES = [gif(seed=seed) for seed in range(5)]
ROOT = Path(__file__).parent.parent
STAGES = ("Download", "Split", "WriteFrames", "CombineGif")


def luigid(folder: Path, *arguments: str | int, config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "imagetl_luigi.luigid", *map(str, arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LUIGI_CONFIG_PATH": str(config), "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[OurLuigid]:
    with OurLuigid(tmp_path, hasty(tmp_path / "luigi.cfg", pace=10, disable_persist=1)) as running:
        yield running


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Path]:
    """A folder whose luigid, if there is one in the end, is stopped."""
    yield tmp_path
    luigid(tmp_path, "stop")


def workflow(ours: OurLuigid, url: str) -> list[str]:
    """What a user types to run it under this luigid."""
    return ["CombineGif", "--scheduler-port", str(ours.port), "--url", url, "--workspace", "w"]


def environment(ours: OurLuigid) -> dict[str, str]:
    return {"LUIGI_CONFIG_PATH": str(ours.config)}


def history(ours: OurLuigid, family: str) -> list[str]:
    """What its pages show of the one task of that family, the last event first."""
    (link,) = re.findall("history/by_id/[0-9]+", requests.get(ours.url(f"history/by_name/{family}"), timeout=10).text)
    page = requests.get(ours.url(link), timeout=10).text
    return re.findall("<td>(PENDING|RUNNING|DONE|FAILED)</td>", page)


def listens_at(pid: int) -> set[tuple[str, int]]:
    return {tuple(found.laddr) for found in psutil.Process(pid).net_connections() if found.status == "LISTEN"}


@pytest.mark.slow
def test_it_starts_once_says_where_it_listens_and_stops(stopped: Path) -> None:
    port, other = free_port(), free_port()
    with ThreadPoolExecutor() as both:
        begun, alike = both.map(lambda _: luigid(stopped, "start", "--port", port), range(2))
    assert (begun.returncode, begun.stderr) == (0, "")
    assert (alike.returncode, alike.stdout, alike.stderr) == (0, begun.stdout, "")
    pid = int((stopped / "data/luigid/luigid.pid").read_text())
    assert begun.stdout.startswith(f"luigid listens at http://127.0.0.1:{port}/ (pid {pid})")
    assert listens_at(pid) == {("127.0.0.1", port)}
    assert (stopped / "data/luigid").stat().st_mode & 0o077 == 0  # its state is a pickle
    assert luigid(stopped, "status").stdout == begun.stdout

    foreign = {"Origin": "https://evil.example"}
    assert requests.get(f"http://127.0.0.1:{port}/api/pause", headers=foreign, timeout=10).status_code == 403
    elsewhere = luigid(stopped, "start", "--port", other)
    assert (elsewhere.returncode, elsewhere.stderr) == (
        1,
        f"luigid: a luigid runs in data/luigid already, at http://127.0.0.1:{port}/; stop it first\n",
    )

    ended = luigid(stopped, "stop")
    assert (ended.returncode, ended.stdout) == (0, "luigid has stopped\n")
    with pytest.raises(requests.ConnectionError):
        requests.head(f"http://127.0.0.1:{port}/", timeout=10)
    assert luigid(stopped, "status").returncode == 3


def test_a_start_waits_for_another_one_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetl_luigi.luigid.PATIENCE", 0.2)
    place = Place(str(tmp_path))
    with open(place.file(".luigid.start"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LuigidError, match=r"another start of the luigid in .* does not end; end it"):
            start(place, "127.0.0.1", free_port())
    assert not place.pid_file.holder()


def test_what_a_killed_one_left_behind_misleads_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/luigid"
    folder.mkdir(parents=True)
    (folder / "luigid.pid").write_text(f"{os.getpid()}\n")  # another process has its number by now
    (folder / "luigid.url").write_text("http://127.0.0.1:9/\n")
    for asked, code in (("status", 3), ("stop", 0)):
        monkeypatch.setattr(sys, "argv", ["luigid", asked])
        assert main() == code
        assert capsys.readouterr().out == "luigid does not run in data/luigid\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it in this process, and have what it says, which must be an error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["luigid", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        assert ended.value.code in (1, 2)
        said = capsys.readouterr().err
        assert ended.value.code == 2 or said.count("\n") == 1
        return said

    return run


def test_a_wrong_flag_is_one_message_that_names_it(here: Callable[..., str], tmp_path: Path) -> None:
    assert "the following arguments are required: command" in here()
    assert "'70000' is no port. Allowed: 1 to 65535" in here("start", "--port", "70000")
    assert "'' would be every address" in here("run", "--address", "")
    assert here("start", "--folder", "/dev/null/x").startswith("luigid: /dev/null/x cannot be luigid's folder: Not a d")
    for asked in ("status", "stop"):
        assert here(asked, "--folder", "/dev/null") == "luigid: /dev/null/luigid.pid: Not a directory\n"
    for name in ("luigid.pid", "luigid.out"):
        (tmp_path / name).mkdir()
        assert "Is a directory" in here("start", "--folder", tmp_path)
        (tmp_path / name).rmdir()


def test_a_folder_into_which_others_may_put_a_state_is_refused(
    here: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in (0o770, 0o702):
        tmp_path.chmod(mode)
        assert here("run", "--folder", tmp_path) == (
            f"luigid: others may write into {tmp_path}: chmod 700 it, or choose another --folder\n"
        )
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert here("start", "--folder", tmp_path).startswith(f"luigid: {tmp_path} belongs to ")


@pytest.mark.slow
def test_an_open_address_is_warned_of_once_and_a_port_in_use_leaves_nothing_running(
    server: Server, tmp_path: Path
) -> None:
    said = luigid(tmp_path, "start", "--port", server.port, "--address", "0.0.0.0")
    assert said.returncode == 1
    warning, error = said.stderr.splitlines()
    assert warning.startswith("luigid: warning: it has no password, and whoever reaches 0.0.0.0 ")
    assert error == (
        f"luigid: luigid cannot listen at http://0.0.0.0:{server.port}/ (Address already in use): "
        "another program does; end it, or choose another --port"
    )
    assert luigid(tmp_path, "status").returncode == 3


SETTINGS = {
    "no database": (
        "[task_history]\ndb_connection = postgresql+psycopg://luigi:hunter2@127.0.0.1:9/luigi",
        "the task history cannot be kept in postgresql+psycopg://luigi:***@127.0.0.1:9/luigi: ",
    ),
    "no address": ("[task_history]\ndb_connection = postgres", "[task_history] db_connection is no address of a data"),
    "no port": (
        "[task_history]\ndb_connection = postgresql+psycopg://luigi:hunter2@h:port/luigi",
        "[task_history] db_connection is no address of a database. Allowed: ",
    ),
    "no package": (
        "[task_history]\ndb_connection = oracle+oracledb://127.0.0.1/luigi",
        "[task_history] db_connection needs the package oracledb, which is not installed",
    ),
    "no number": (
        "[scheduler]\nretry_count = many",
        "[scheduler] retry_count of luigi.cfg cannot be right: invalid literal for int() with base 10: 'many'. "
        "Allowed: a whole number",
    ),
    "neither": (
        "[scheduler]\nrecord_task_history = maybe",
        "[scheduler] record_task_history of luigi.cfg cannot be right: cannot interpret 'maybe' as boolean. "
        "Allowed: true or false",
    ),
    "no folder": ("[scheduler]\nstate_path = none/state", "[scheduler] state_path: no file can be written in "),
    "no file": ("[scheduler]\nstate_path = /tmp", "[scheduler] state_path: '/tmp' is no file"),
    "nothing": ("[scheduler]\nstate_path =", "[scheduler] state_path: '' is no file"),
}


@pytest.mark.parametrize("mistake", SETTINGS)
def test_a_wrong_setting_is_named_without_a_password(
    tmp_path: Path, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = SETTINGS[mistake]
    config = luigi.configuration.LuigiConfigParser()
    config.read_string(text)
    monkeypatch.setattr(luigi.configuration.LuigiConfigParser, "_instance", config)
    with pytest.raises(LuigidError) as refused:
        _scheduler(Place(str(tmp_path)))
    assert str(refused.value).startswith(message)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[core]\nlogging_conf_file = none", "there can be no log: "),
        (
            "[task_history]\ndb_connection = postgresql+psycopg://u:hunter%402@127.0.0.1/luigi",
            "[task_history] db_connection of luigi.cfg cannot be read: write % as %%, ",
        ),
    ],
)
def test_a_mistake_in_luigi_cfg_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "luigi.cfg").write_text(text)
    said = luigid(tmp_path, "run", "--port", free_port(), config=tmp_path / "luigi.cfg")
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert said.stderr.startswith(f"luigid: {message}")
    assert "hunter" not in said.stderr
    log = tmp_path / "data/luigid/luigid.log"
    assert not log.exists() or "hunter" not in log.read_text()


def test_a_fault_of_its_own_is_shown_and_has_a_code_after_which_systemd_starts_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["luigid", "run"])
    monkeypatch.setattr("imagetl_luigi.luigid.serve", lambda *_: 1 / 0)
    assert main() == 70
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert "RestartPreventExitStatus=1 2\n" in (ROOT / "deploy/luigid.service").read_text()


@pytest.mark.slow
def test_the_script_keeps_to_its_own_folder_wherever_it_is_called_from(tmp_path: Path) -> None:
    installed = ROOT / ".venv/.installed-luigid"
    if not installed.exists() or installed.stat().st_mtime < (ROOT / "setup.py").stat().st_mtime:
        missing("scripts/setup luigid has not been run")
    script = [ROOT / "scripts/luigid", "status"]
    said = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert f" {ROOT / 'data/luigid'}" in said.stdout
    said = subprocess.run([*script, "--folder", "mine"], cwd=tmp_path, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (3, "luigid does not run in mine\n")
    assert subprocess.run(script[:1], cwd=tmp_path, capture_output=True).returncode == 2


@pytest.mark.slow
def test_state_history_and_metrics_of_a_run_and_its_restart(ours: OurLuigid, server: Server, tmp_path: Path) -> None:
    arguments = workflow(ours, server.put("/a", stream(FRAMES)))
    assert command(*arguments, folder=tmp_path, **environment(ours)).returncode == 0
    metrics = requests.get(ours.url("metrics"), timeout=10).text
    for stage in STAGES:
        assert f'luigi_task_started_total{{family="{stage}"}} 1.0' in metrics
        assert f'luigi_task_done_total{{family="{stage}"}} 1.0' in metrics
    ours.process.send_signal(signal.SIGQUIT)
    assert ours.process.wait() == 0
    assert not [path for path in (tmp_path / "luigid").iterdir() if path.stat().st_mode & 0o077]
    ours.start()
    assert ours.tasks("DONE").keys() == set(STAGES)
    (tmp_path / "w/clip.gif").unlink()
    assert command(*arguments, folder=tmp_path, **environment(ours)).returncode == 0
    assert len(server.requests) == 1
    assert history(ours, "CombineGif") == 2 * ["DONE", "RUNNING", "PENDING"]


@pytest.mark.slow
def test_logs_are_put_aside_when_they_are_large(tmp_path: Path) -> None:
    folder = tmp_path / "luigid"
    folder.mkdir()
    full = 10 * 1024 * 1024 - 10
    for name in ("luigid.log", "access.log"):
        (folder / name).write_bytes(b"x" * full)
        for number in range(1, 6):
            (folder / f"{name}.{number}").write_text(str(number))
    with OurLuigid(tmp_path) as running:
        running.ask("task_list")
        for name in ("luigid.log", "access.log"):
            until(lambda: (folder / name).stat().st_size < full)  # noqa: B023 - called at once
            assert (folder / f"{name}.1").stat().st_size == full
            assert (folder / f"{name}.5").read_text() == "4"
            assert not (folder / f"{name}.6").exists()
        assert "GET /api/task_list" in (folder / "access.log").read_text()
        assert "GET /api/task_list" not in (folder / "luigid.log").read_text()


@pytest.fixture
def go_on(server: Server) -> Iterator[threading.Event]:
    """Set at the latest before the server ends, which waits for its answers."""
    event = threading.Event()
    yield event
    event.set()


def waiting(event: threading.Event) -> Fault:
    """Send half of the body, and the rest when the event has come."""

    def fault(response: Response) -> None:
        def pieces() -> Iterator[bytes]:
            half = len(response.body) // 2
            yield response.body[:half]
            event.wait()
            yield response.body[half:]

        response.pieces = pieces()

    return fault


@pytest.mark.slow
def test_after_kill_9_and_a_restart_the_run_ends_right_and_repeats_nothing(
    ours: OurLuigid, server: Server, go_on: threading.Event, tmp_path: Path
) -> None:
    server.once(waiting(go_on))
    arguments = workflow(ours, server.put("/a", stream(FRAMES)))
    with started(*arguments, folder=tmp_path, **environment(ours)) as run:
        until(lambda: ours.tasks("RUNNING").keys() == {"Download"} and server.requests)
        ours.kill()
        ours.start()
        assert ours.tasks("RUNNING").keys() == {"Download"}
        assert ours.tasks("PENDING").keys() == {"Split", "WriteFrames", "CombineGif"}
        ours.kill()
        go_on.set()  # the download ends while luigid is away
        until((tmp_path / "w/image-data.img").exists)
        ours.start()
        _, errors = run.communicate()
    assert run.returncode == 0, errors
    assert (tmp_path / "w/clip.gif").exists()
    assert len(server.requests) == 1
    assert [errors.count(f" running   {stage}(") for stage in STAGES] == [1, 1, 1, 1]
    assert "Traceback" not in errors
    assert ours.tasks("DONE").keys() == set(STAGES)
    assert history(ours, "Download") == ["DONE", "RUNNING", "PENDING"]


@pytest.mark.slow
def test_a_run_that_waits_for_another_one_does_its_work_when_that_is_killed(
    ours: OurLuigid, server: Server, tmp_path: Path
) -> None:
    server.once(hold(at=100))
    arguments = workflow(ours, server.put("/a", stream(FRAMES), etag='"1"'))
    with started(*arguments, folder=tmp_path, **environment(ours)) as run:
        until(lambda: ours.tasks("RUNNING").keys() == {"Download"} and server.requests)
        with started(*arguments, "--no-lock", folder=tmp_path, **environment(ours)) as waiting:
            until(lambda: len(ours.ask("worker_list")) == 2)
            run.kill()
            run.communicate()
            _, errors = waiting.communicate()
    assert waiting.returncode == 0, errors
    assert (tmp_path / "w/clip.gif").exists()
    assert history(ours, "Download") == ["DONE", "RUNNING", "RUNNING", "PENDING"]


@pytest.mark.slow
def test_a_failed_stage_is_tried_again_and_repeats_no_finished_work(
    ours: OurLuigid, server: Server, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "w/frames/frame_02.gif"
    in_the_way.mkdir(parents=True)
    arguments = workflow(ours, server.put("/a", stream(FRAMES)))
    with started(*arguments, folder=tmp_path, **environment(ours)) as run:
        until(lambda: "WriteFrame" in ours.tasks("FAILED"), every=0.05)
        finished = versions(tmp_path / "w")
        in_the_way.rmdir()
        _, errors = run.communicate()
    assert run.returncode == 0, errors
    assert "frames/frame_04.gif" in finished
    assert changed(finished, versions(tmp_path / "w")) == {"frames/frame_02.gif", "clip.gif"}
    assert len(server.requests) == 1
    assert [errors.count(f" running   {stage}(") for stage in ("Download", "Split", "CombineGif")] == [1, 1, 1]
    assert errors.count(" running   WriteFrame(") == 2


def test_the_unit_for_systemd_starts_the_script_and_is_valid(program: Callable[[str], str], tmp_path: Path) -> None:
    unit = (ROOT / "deploy/luigid.service").read_text()
    assert "ExecStart=/opt/imagetl_luigi/scripts/luigid run " in unit
    here = tmp_path / "luigid.service"
    here.write_text(unit.replace("/opt/imagetl_luigi", str(ROOT)))
    verified = subprocess.run([program("systemd-analyze"), "verify", "--man=no", here], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert shutil.which(str(ROOT / "scripts/luigid"))
