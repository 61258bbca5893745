"""run_log: a log file a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagetl_luigi.errors import StorageError
from imagetl_luigi.run_log import MOST_LINES, RunLog

OLD = [f"nightly-2026-11-{day}T03-15-00.log" for day in (20, 21, 22)]
FOREIGN = ["nightly.log", "nightly-2026-11-20T03-15-00.log.gz", "my-nightly-2026-11-20T03-15-00.log", "other.txt"]


def write(log: RunLog, text: str) -> None:
    os.write(log.descriptor, text.encode(errors="surrogateescape"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_runs_of_one_second_have_a_file_each(tmp_path: Path) -> None:
    folder = tmp_path / "new/logs"
    logs = [RunLog(str(folder)) for _ in range(30)]
    for number, log in enumerate(logs):
        with log:
            log.note(f"run {number}")
    assert len(names(folder)) == 30
    assert Path(logs[7].path).read_text() == "nightly: run 7\n"


def test_the_newest_are_kept_and_no_other_file_is_touched(tmp_path: Path) -> None:
    for name in [*OLD, *FOREIGN, "nightly-2026-11-22T03-15-00-2.log", "nightly-2026-11-22T03-15-00-10.log"]:
        (tmp_path / name).touch()
    (tmp_path / "nightly-2026-11-01T03-15-00.log").mkdir()
    (tmp_path / "nightly-2026-11-02T03-15-00.log").symlink_to("other.txt")
    with RunLog(str(tmp_path)) as log:
        log.prune(3)
        own = Path(log.path).name
    kept = {"nightly-2026-11-22T03-15-00-2.log", "nightly-2026-11-22T03-15-00-10.log", own}
    others = {*FOREIGN, "nightly-2026-11-01T03-15-00.log", "nightly-2026-11-02T03-15-00.log"}
    assert names(tmp_path) == kept | others


def test_the_log_of_a_run_that_goes_on_is_not_pruned(tmp_path: Path) -> None:
    with RunLog(str(tmp_path)) as first:
        with RunLog(str(tmp_path)) as second:
            second.prune(1)
        assert Path(first.path).exists()
    with RunLog(str(tmp_path)) as third:
        third.prune(1)
        assert names(tmp_path) == {Path(third.path).name}


def test_what_matters_is_warnings_and_errors_each_once_with_all_their_lines(tmp_path: Path) -> None:
    with RunLog(str(tmp_path)) as log:
        log.note("began")
        write(log, "INFO: fine\nERROR: task failed\nDownloadError: gone\n\nINFO: summary\nmore of it\n")
        write(log, "WARNING: slow\nERROR: task failed\nDownloadError: gone\nINFO: end\n")
        log.note("ended")
        assert log.what_matters() == ["WARNING: slow", "ERROR: task failed", "DownloadError: gone"]


def test_a_wrong_flag_of_luigi_is_what_matters_and_not_its_usage(tmp_path: Path) -> None:
    with RunLog(str(tmp_path)) as log:
        write(log, "usage: luigi [--a]\n             [--b]\nluigi: error: unrecognized arguments: --c\n")
        assert log.what_matters() == ["luigi: error: unrecognized arguments: --c"]


@pytest.mark.parametrize("line", ["ERROR: number {}\n", "  File {}\n", "ERROR: x\n  File {}\n"])
def test_of_many_lines_the_last_are_shown(tmp_path: Path, line: str) -> None:
    with RunLog(str(tmp_path)) as log:
        write(log, "".join(line.format(number) for number in range(1000)))
        shown = log.what_matters()
    assert len(shown) == MOST_LINES
    assert shown[-1].endswith("999")


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    with RunLog(str(tmp_path)) as log:
        log.note("\udcff")
        write(log, "ERROR: \udcff\n")
        assert log.what_matters() == ["ERROR: \ufffd"]


def test_a_full_disk_is_named(small_disk: Path) -> None:
    with RunLog(str(small_disk)) as log:
        with pytest.raises(OSError, match="No space"):
            (small_disk / "hog").write_bytes(bytes(300_000))
        with pytest.raises(StorageError, match=rf"cannot write {log.path}: No space"):
            log.note("x" * 5000)
