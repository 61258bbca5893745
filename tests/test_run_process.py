"""run_process: a command that has our signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from waiting import until

DRIVER = """
import os, sys
from imagetl_luigi.run_process import Passing
passing = Passing()
with open("output", "wb") as output:
    sys.exit(passing.run(sys.argv[1:], output.fileno(), os.open("held", os.O_CREAT | os.O_RDWR)))
"""
COUNTING = """
import os, signal, sys
count = 0
def take(number, frame):
    global count
    count += 1
    signal.setitimer(signal.ITIMER_REAL, 0.3)  # a second signal would come before
def end(*_):
    open("count", "w").write(str(count))
    os._exit(int(sys.argv[1]))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, take)
signal.signal(signal.SIGALRM, end)
open("ready", "w").close()
while True:
    signal.pause()
"""


def start(folder: Path, *command: str, **options: object) -> subprocess.Popen[bytes]:
    """Run the command by a driver in `folder`, and come back when it says that it is ready."""
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *command], cwd=folder, **options)  # type: ignore[call-overload]
    until((folder / "ready").exists, 30)
    return driver  # type: ignore[no-any-return]


@pytest.mark.parametrize(("ends_with", "code"), [("7", 7), ("0", 128 + signal.SIGTERM)])
def test_a_signal_is_passed_on_and_the_code_is_never_that_of_a_success(
    tmp_path: Path, ends_with: str, code: int
) -> None:
    driver = start(tmp_path, sys.executable, "-c", COUNTING, ends_with)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait() == code
    assert (tmp_path / "count").read_text() == "1"


def test_ctrl_c_at_a_terminal_reaches_it_once(tmp_path: Path, program: Callable[[str], str]) -> None:
    (tmp_path / "driver").write_text(DRIVER)
    (tmp_path / "counting").write_text(COUNTING)
    line = f"exec {sys.executable} driver {sys.executable} counting 5"  # a shell that waits has the Ctrl-C, too
    terminal = [program("script"), "--quiet", "--return", "--command", line, "/dev/null"]
    shell = os.environ | {"SHELL": "/bin/sh"}
    with subprocess.Popen(
        terminal, cwd=tmp_path, env=shell, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as running:
        assert running.stdin
        until((tmp_path / "ready").exists, 30)
        running.stdin.write(b"\x03")
        running.stdin.flush()
        until((tmp_path / "count").exists, 30)
    assert running.returncode == 5
    assert (tmp_path / "count").read_text() == "1"


def test_what_we_were_started_to_ignore_stays_ignored(tmp_path: Path) -> None:
    driver = start(
        tmp_path,
        *(sys.executable, "-c", COUNTING, "3"),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    driver.send_signal(signal.SIGHUP)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait() == 3
    assert (tmp_path / "count").read_text() == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of the killed")
def test_it_is_killed_if_we_are(tmp_path: Path) -> None:
    driver = start(tmp_path, sys.executable, "-c", COUNTING, "0")
    (child,) = psutil.Process(driver.pid).children()
    driver.kill()
    driver.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_it_has_no_input_and_its_output_is_in_the_file(tmp_path: Path) -> None:
    command = "cat; echo out; echo err >&2; touch ready; ls -l /proc/$$/fd | grep -c held; exit 4"
    assert start(tmp_path, "sh", "-c", command, stdin=subprocess.PIPE).wait() == 4
    assert (tmp_path / "output").read_text() == "out\nerr\n1\n"
    assert os.listdir(tmp_path).count("held") == 1
