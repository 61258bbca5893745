"""storage: whole files or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi import storage
from imagetl_luigi.errors import StorageError


def write_atomically(path: str, data: bytes) -> None:
    with storage.atomic_write(path) as file:
        file.write(data)


WRITERS = pytest.mark.parametrize("write", [storage.write_bytes, write_atomically])


@WRITERS
@pytest.mark.parametrize("data", [b"", b"x", bytes(300_000)])
def test_a_written_file_holds_its_bytes_in_folders_made_for_it(
    tmp_path: Path, write: Callable[[str, bytes], None], data: bytes
) -> None:
    path = str(tmp_path / "new/folder/file")
    write(path, data)
    assert storage.read_bytes(path) == data
    assert storage.sizes(str(tmp_path / "new/folder")) == {"file": len(data)}


@WRITERS
def test_a_file_is_replaced_whole(tmp_path: Path, write: Callable[[str, bytes], None]) -> None:
    path = str(tmp_path / "file")
    write(path, b"a long first version")
    write(path, b"second")
    assert storage.read_bytes(path) == b"second"


@WRITERS
def test_permissions_are_those_that_the_user_asks_for(tmp_path: Path, write: Callable[[str, bytes], None]) -> None:
    previous = os.umask(0o027)
    try:
        write(str(tmp_path / "file"), b"")
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), storage.atomic_write(str(path)) as file:
        file.write(b"half of the new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@WRITERS
@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/below", "Not a directory"), ("folder", "Is a directory"), ("n" * 300, "File name too long")],
)
def test_what_cannot_be_written_is_said_with_its_path_and_a_remedy(
    tmp_path: Path, write: Callable[[str, bytes], None], name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}.*: {reason}; ") as caught:
        write(str(tmp_path / name), b"data")
    assert caught.value.__cause__ is not None
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_missing_file_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"cannot read {tmp_path}/none: No such file"):
        storage.read_bytes(str(tmp_path / "none"))


@given(data=st.binary(max_size=9000), offset=st.integers(0, 9000), length=st.integers(1, 9000))
def test_a_range_and_a_view_show_what_a_slice_shows(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int, length: int
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "ranged")
    storage.write_bytes(path, data)
    assert storage.read_range(path, offset, length) == data[offset : offset + length]
    if offset < len(data):
        buffer, position = storage.view(path, offset, length)
        assert buffer[position:] == data[offset : offset + length]


def test_a_missing_folder_lists_as_empty(tmp_path: Path) -> None:
    assert storage.sizes(str(tmp_path / "none")) == {}


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert storage.fingerprint(str(path)) is None
    path.write_bytes(b"one")
    first = storage.fingerprint(str(path))
    os.utime(path, ns=(1, 1))
    assert storage.fingerprint(str(path)) not in (None, first)


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
