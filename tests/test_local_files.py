"""local_files: what only files of this machine have, such as permissions, disks that are full and killed writers."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError

Write = Callable[[str, bytes], None]


def write_atomically(path: str, data: bytes) -> None:
    with storage.atomic_write(path) as file:
        file.write(data)


WRITERS = pytest.mark.parametrize("write", [storage.write_bytes, write_atomically])


@WRITERS
def test_permissions_are_those_that_the_user_asks_for(tmp_path: Path, write: Write) -> None:
    previous = os.umask(0o027)
    try:
        write(str(tmp_path / "file"), b"")
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@WRITERS
@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/below", "Not a directory"), ("folder", "Is a directory"), ("n" * 300, "File name too long")],
)
def test_what_cannot_be_written_is_said_with_its_path_and_a_remedy(
    tmp_path: Path, write: Write, name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}.*: {reason}; ") as caught:
        write(str(tmp_path / name), b"data")
    assert caught.value.__cause__ is not None
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@WRITERS
def test_a_full_disk_is_said_and_keeps_the_old_file(small_disk: Path, write: Write) -> None:
    path = str(small_disk / "file")
    write(path, b"old")
    with pytest.raises(StorageError, match=r"No space left on device; free some space there and run again"):
        write(path, bytes(1 << 20))
    assert storage.read_bytes(path) == b"old"
    assert os.listdir(small_disk) == ["file"]


@WRITERS
def test_a_name_without_a_folder_is_of_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.chdir(tmp_path)
    write("file", b"data")
    assert storage.read_bytes("file") == b"data"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_synced_before_it_appears_and_frames_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(os.listdir(tmp_path)))
    storage.write_bytes(str(tmp_path / "frame"), b"data")
    assert synced == []
    write_atomically(str(tmp_path / "file"), b"data")
    before, after = synced  # its bytes, then the folder with its name
    assert "file" not in before
    assert "file" in after


def test_a_folder_that_is_a_file_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"cannot list {tmp_path}/file: Not a directory; "):
        storage.sizes(str(tmp_path / "file"))


def test_a_path_that_no_system_takes_is_none() -> None:
    assert storage.stat("a\0b") is None


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from imagetl_luigi import storage\n"
        "with storage.atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    (tmp_path / ".imagetl-another_host-1-0.tmp").touch()
    (tmp_path / "frame_00.gif").touch()
    assert len(os.listdir(tmp_path)) == 3
    with storage.atomic_write(str(path)) as file:
        assert len(os.listdir(tmp_path)) == 3  # its own in the place of the other
        storage.sweep(str(tmp_path))
        assert len(os.listdir(tmp_path)) == 3
        file.write(b"whole")
    assert sorted(os.listdir(tmp_path)) == [".imagetl-another_host-1-0.tmp", "file", "frame_00.gif"]


def test_who_waits_for_a_folder_that_is_removed_holds_a_new_one(tmp_path: Path) -> None:
    folder = str(tmp_path / "w")
    waits = threading.Event()

    def hold() -> None:
        with storage.locked(folder, waits.set):
            assert os.listdir(folder) == [".lock"]
            with pytest.raises(BlockingIOError), open(f"{folder}/.lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with ThreadPoolExecutor(1) as pool, storage.locked(folder, lambda: None):
        held = pool.submit(hold)
        assert waits.wait(20)
        storage.remove_folder(folder)
        assert not os.path.exists(folder)
    held.result(20)


def test_files_of_this_machine_need_no_fsspec(tmp_path: Path) -> None:
    script = (
        "import sys; from imagetl_luigi import storage\n"
        "storage.write_bytes(sys.argv[1], b'data'); storage.read_bytes(sys.argv[1]); storage.check(sys.argv[1])\n"
        "assert not {'fsspec', 's3fs'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=True)
