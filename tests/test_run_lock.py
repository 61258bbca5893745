"""run_lock: one run at a time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imagetl_luigi.errors import StorageError
from imagetl_luigi.run_lock import AlreadyRunning, held


def test_a_second_run_is_told_at_once_who_holds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "new/.lock")
    with held(path, "/nights"):
        told = rf"^/nights is in use by another run \(pid {os.getpid()}, since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)$"
        with pytest.raises(AlreadyRunning, match=told), held(path, "/nights"):
            pass
    with held(path, "/nights"):
        pass


def test_a_child_that_was_given_it_holds_it_until_the_run_ends_and_no_longer(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    with held(path, "it") as lock:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock])
    with held(path, "it"):
        assert child.poll() is None
    child.communicate()


def test_nothing_is_held_when_the_block_ends_by_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    with pytest.raises(ZeroDivisionError), held(path, "it"):
        raise ZeroDivisionError
    with held(path, "it"):
        pass


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot lock .*/file/\.lock: "), held(str(tmp_path / "file/.lock"), "it"):
        pass
