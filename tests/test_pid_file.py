"""pid_file: who runs, by a lock and not by a number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetl_luigi import pid_file
from imagetl_luigi.pid_file import PidFile

HOLD = "import sys; from imagetl_luigi.pid_file import PidFile; print(PidFile(sys.argv[1]).hold(), flush=True); input()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "pid")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_the_holder_is_named_until_it_is_killed_and_no_other_gets_in(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pid_file, "PATIENCE", 0.05)
    file = PidFile(str(tmp_path / "pid"))
    assert file.holder() == holder.pid
    assert not file.hold()
    assert file.holder() == holder.pid
    holder.kill()
    holder.wait()
    assert (tmp_path / "pid").read_text() == f"{holder.pid}\n"
    assert file.holder() is None


def test_a_number_that_is_another_process_by_now_misleads_nobody(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getppid()}\n")
    assert PidFile(str(tmp_path / "pid")).holder() is None


def test_without_a_file_nobody_holds_it(tmp_path: Path) -> None:
    assert PidFile(str(tmp_path / "pid")).holder() is None
