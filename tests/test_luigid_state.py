"""luigid_state: nothing that was answered is forgotten, and saving never takes most of the time."""

from __future__ import annotations

import logging
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from luigi.scheduler import RPC_METHODS

from imagetl_luigi import luigid_state
from imagetl_luigi.luigid_state import PASSING, READING, DurableScheduler


def scheduler(folder: Path, **options: Any) -> DurableScheduler:
    """One that has loaded what is in the folder."""
    started = DurableScheduler(state_path=str(folder / "state"), **options)
    started.load()
    return started


def states(known: DurableScheduler) -> dict[str, str]:
    return {key: task["status"] for key, task in known.task_list().items()}


@pytest.fixture
def killed(tmp_path: Path) -> DurableScheduler:
    """A scheduler that never got to end in order: worker w has task a and is to do b after it."""
    known = scheduler(tmp_path)
    known.add_worker("w", {})
    known.add_task(worker="w", task_id="a", family="A")
    known.add_task(worker="w", task_id="b", family="B", deps=["a"])
    assert known.get_work(worker="w", host="h", current_tasks=[])["task_id"] == "a"
    return known


def test_what_was_answered_before_a_kill_is_known_after_it(killed: DurableScheduler, tmp_path: Path) -> None:
    again = scheduler(tmp_path)
    assert states(again) == {"a": "RUNNING", "b": "PENDING"}
    again.add_task(worker="w", task_id="a", status="DONE")
    assert again.get_work(worker="w", host="h", current_tasks=[])["task_id"] == "b"
    assert states(scheduler(tmp_path)) == {"a": "DONE", "b": "RUNNING"}


def test_what_its_worker_still_runs_is_given_to_nobody_else(killed: DurableScheduler, tmp_path: Path) -> None:
    again = scheduler(tmp_path, prune_on_get_work=True)
    again.add_task(worker="v", task_id="a", family="A")
    assert again.get_work(worker="v", host="h", current_tasks=[])["task_id"] is None
    assert states(again)["a"] == "RUNNING"


def test_a_worker_that_asks_again_for_what_it_was_given_gets_the_same(killed: DurableScheduler, tmp_path: Path) -> None:
    assert scheduler(tmp_path).get_work(worker="w", host="h", current_tasks=[])["task_id"] == "a"


def test_a_worker_gets_the_usual_time_to_be_heard_again_and_then_another_gets_its_task(
    killed: DurableScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)  # luigid was away for long
    again = scheduler(tmp_path, retry_count=1)  # of which one failure would be too many
    again.add_task(worker="v", task_id="a", family="A")
    again.prune()
    assert states(again)["a"] == "RUNNING"
    monkeypatch.setattr(time, "time", lambda: now + 1059)
    again.ping(worker="v")
    monkeypatch.setattr(time, "time", lambda: now + 1061)
    again.prune()
    assert again.get_work(worker="v", host="h", current_tasks=[])["task_id"] == "a"


def test_a_pause_outlives_a_restart_and_the_state_of_a_plain_luigid_is_read(tmp_path: Path) -> None:
    known = scheduler(tmp_path)
    known.pause()
    assert scheduler(tmp_path).is_paused() == {"paused": True}
    (tmp_path / "state").write_bytes(pickle.dumps(known._state.get_state()[:3]))
    assert scheduler(tmp_path).is_paused() == {"paused": False}


@pytest.mark.parametrize(
    "broken", [b"", b"what?", pickle.dumps(5), pickle.dumps(({}, [], {})), pickle.dumps(({}, {}, 3))]
)
def test_a_state_that_cannot_be_understood_is_put_aside_with_one_warning(
    tmp_path: Path, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_bytes(broken)
    known = scheduler(tmp_path)
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 1
    assert f"The saved state is put aside as {tmp_path / 'state.broken'}" in caplog.text
    assert (tmp_path / "state.broken").read_bytes() == broken
    known.add_task(worker="w", task_id="a", family="A")
    assert states(scheduler(tmp_path)) == {"a": "PENDING"}


def test_progress_is_saved_by_the_clock(killed: DurableScheduler, tmp_path: Path) -> None:
    killed.set_task_progress_percentage("a", 40)
    assert scheduler(tmp_path).get_task_progress_percentage("a")["progressPercentage"] is None
    killed.save()
    assert scheduler(tmp_path).get_task_progress_percentage("a")["progressPercentage"] == 40


def test_saving_takes_a_small_share_of_the_time_and_catches_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    saved: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    known = scheduler(tmp_path)

    def slow() -> None:
        saved.append(clock[0])
        clock[0] += 0.2

    monkeypatch.setattr(known._state, "dump", slow)
    for number in range(1000):
        clock[0] += 0.01
        known.add_task(worker="w", task_id=str(number), family="A")
    assert len(saved) * 0.2 <= luigid_state.ADVANCE + luigid_state.SHARE * clock[0] + 0.2
    clock[0] += 60
    known.save()
    assert saved[-1] == clock[0] - 0.2
    known.save()
    assert saved[-1] == clock[0] - 0.2  # nothing has changed


def test_a_state_that_cannot_be_saved_is_said_once_and_stops_nothing(
    killed: DurableScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkdir(tmp_path / "state.tmp")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            killed.add_task(worker="w", task_id=f"c{number}", family="C")
    assert caplog.text.count("The state cannot be saved") == 1
    assert states(scheduler(tmp_path)) == {"a": "RUNNING", "b": "PENDING"}
    os.rmdir(tmp_path / "state.tmp")
    killed.add_task(worker="w", task_id="d", family="D")
    assert states(scheduler(tmp_path)).keys() == {"a", "b", "c0", "c1", "c2", "d"}


def test_every_request_is_known_as_one_that_changes_something_or_not() -> None:
    assert RPC_METHODS.keys() >= READING | PASSING
    assert RPC_METHODS.keys() - READING - PASSING == {
        *("add_task", "add_task_batcher", "add_worker", "disable_worker", "get_work", "announce_scheduling_failure"),
        *("forgive_failures", "mark_as_done", "re_enable_task", "decrease_running_task_resources"),
        *("pause", "unpause", "update_resource", "update_resources", "set_worker_processes"),
        *("send_scheduler_message", "add_scheduler_message_response"),
        *("report_task_statistics", "update_metrics_task_started"),
    }
