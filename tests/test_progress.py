from __future__ import annotations

import time

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi.progress import INTERVAL, Progress


class Stage(luigi.Task):
    """A task that keeps what it is told, as a Luigi worker would pass it on."""

    def __init__(self) -> None:
        super().__init__()
        self.percentages: list[int] = []
        self.messages: list[str] = []
        self.set_progress_percentage = self.percentages.append
        self.set_status_message = self.messages.append


@pytest.fixture
def stage() -> Stage:
    return fresh_stage()


def fresh_stage() -> Stage:
    luigi.Task.clear_instance_cache()  # Luigi would give the one of the last test
    return Stage()


@pytest.mark.parametrize(
    ("done", "total", "message", "percentages"),
    [
        (0, 10, "0 of 10 frames", [0]),
        (1, 3, "1 of 3 frames", [33]),
        (10, 10, "10 of 10 frames", [100]),
        (1234567, 2000000, "1,234,567 of 2,000,000 frames", [61]),
        (11, 10, "11 of 10 frames", [100]),
        (5000, None, "5,000 frames", []),
        (0, 0, "0 frames", []),
    ],
)
def test_it_says_how_much_is_done(
    stage: Stage, done: int, total: int | None, message: str, percentages: list[int]
) -> None:
    Progress(stage, "frames")(done, total)
    assert stage.messages == [message]
    assert stage.percentages == percentages


@given(st.integers(1, 10**12).flatmap(lambda total: st.tuples(st.lists(st.integers(0, total)), st.just(total))))
def test_percentages_stay_in_bounds_and_the_end_is_always_told(steps: tuple[list[int], int]) -> None:
    stage = fresh_stage()
    report = Progress(stage, "bytes")
    counts, total = steps
    for done in [*sorted(counts), total]:
        report(done, total)
    assert stage.percentages == sorted(stage.percentages)
    assert stage.percentages[0] >= 0
    assert stage.percentages[-1] == 100
    assert stage.messages[-1] == f"{total:,} of {total:,} bytes"


def test_it_does_not_tell_every_step(stage: Stage) -> None:
    report = Progress(stage, "frames")
    start = time.monotonic()
    for done in range(10_000):
        report(done, None)
    assert len(stage.messages) <= 1 + (time.monotonic() - start) / INTERVAL


def test_it_tells_nobody_while_luigi_does_not_run_the_task(stage: Stage) -> None:
    stage.set_status_message = stage.set_progress_percentage = None
    Progress(stage, "frames")(10, 10)
    assert stage.messages == stage.percentages == []
