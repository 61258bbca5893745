"""prefetch: many ranges at a time, in bounded number and memory."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from imagetl_luigi import prefetch
from imagetl_luigi.prefetch import SharedReads, read_ahead
from imagetl_luigi.settings import MiB
from imagetl_luigi.store import Piece

DATA = random.Random(1).randbytes(5000)
FILES = {"one": DATA, "two": DATA[::-1]}


class Store:
    """Answers when it may; remembers what it was asked.

    Attributes:
        open: set it to let it answer.
        asked: path, offset and length of every request.
    """

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[Piece] = []
        self.flying = 0
        self.most_flying = 0
        self._lock = threading.Lock()

    def __call__(self, path: str, offset: int, length: int) -> bytes:
        with self._lock:
            self.asked.append(Piece(path, offset, length))
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
        assert self.open.wait(20)
        with self._lock:
            self.flying -= 1
        return bytes(length)


@pytest.fixture
def store() -> Iterator[Store]:
    """A store that does not answer yet."""
    made = Store()
    yield made
    made.open.set()


def read(path: str, offset: int, length: int) -> bytes:
    return FILES[path][offset : offset + length]


def expected(pieces: list[Piece]) -> list[bytes]:
    return [read(*piece) for piece in pieces]


def apart(count: int, length: int = 10) -> list[Piece]:
    """Pieces that no request brings together."""
    return [Piece(f"file {number}", 0, length) for number in range(count)]


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")}


some_pieces = st.lists(
    st.builds(Piece, st.sampled_from(["one", "two"]), st.integers(0, 5500), st.integers(0, 900)), max_size=60
)


@given(some_pieces, st.booleans(), st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 300))
def test_every_piece_comes_in_order_however_they_are_grouped(
    pieces: list[Piece], ordered: bool, together: int, ahead: int, gap: int
) -> None:
    if ordered:
        pieces.sort()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "MOST_TOGETHER", together)
        patch.setattr(prefetch, "MOST_AHEAD", ahead)
        patch.setattr(prefetch, "_GAP", gap)
        assert list(read_ahead(iter(pieces), read)) == expected(pieces)
        shared = SharedReads(pieces, read)
        assert [shared(*piece) for piece in pieces] == expected(pieces)


def test_neighbours_come_with_one_request_and_what_is_far_apart_does_not(store: Store) -> None:
    store.open.set()
    near = [Piece("one", start, 900) for start in range(0, 10_000, 1000)]
    far = [Piece("one", MiB, 900), Piece("two", MiB + 900, 900), Piece("two", MiB, 900)]
    assert len(list(read_ahead([*near, *far], store))) == 13
    assert sorted(store.asked) == sorted([Piece("one", 0, 9900), *far])


def test_no_request_of_several_pieces_is_larger_than_the_bound(store: Store) -> None:
    store.open.set()
    pieces = [Piece("one", start, 3 * MiB // 2) for start in range(0, 12 * MiB, 3 * MiB // 2)]
    list(read_ahead([*pieces, Piece("one", 12 * MiB, 9 * MiB)], store))
    assert {asked.length for asked in store.asked} == {3 * MiB, 9 * MiB}


def test_the_requests_in_flight_and_the_pieces_taken_are_bounded(store: Store) -> None:
    taken = []

    def pieces() -> Iterator[Piece]:
        for piece in apart(500):
            taken.append(piece)
            yield piece

    with ThreadPoolExecutor(1) as other:
        first = other.submit(next, read_ahead(pieces(), store))
        until(lambda: store.flying == prefetch.REQUESTS)
        until(lambda: len(taken) > prefetch.REQUESTS)
        store.open.set()
        first.result(20)
    assert store.most_flying == prefetch.REQUESTS
    assert len(taken) <= 2 * prefetch.REQUESTS + 2


def test_the_bytes_that_are_asked_for_and_not_taken_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "MOST_AHEAD", 100)
    store.open.set()
    reading = read_ahead(apart(100, 30), store)
    for number in range(90):
        next(reading)
        assert sum(piece.length for piece in store.asked) - 30 * number <= 130  # with the one that is handed over
    reading.close()


def test_a_piece_larger_than_all_bounds_comes_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "MOST_AHEAD", 100)
    store.open.set()
    assert [len(data) for data in read_ahead([*apart(3), Piece("large", 0, 1000), *apart(3)], store)] == [
        *[10] * 3,
        1000,
        *[10] * 3,
    ]


def test_an_error_comes_where_its_piece_would() -> None:
    def failing(path: str, offset: int, length: int) -> bytes:
        if path == "file 5":
            raise ZeroDivisionError
        return path.encode()

    reading = read_ahead(apart(50), failing)
    assert [next(reading) for _ in range(5)] == [f"file {number}".encode() for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(reading)
    until(lambda: not names())


def test_an_error_of_who_names_the_pieces_comes_through() -> None:
    def pieces() -> Iterator[Piece]:
        yield Piece("one", 0, 5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead(pieces(), read))
    until(lambda: not names())


def test_closing_early_ends_the_threads_and_asks_for_nothing_more(store: Store) -> None:
    store.open.set()
    reading = read_ahead(apart(500), store)
    next(reading)
    assert names()
    reading.close()
    until(lambda: not names())
    assert len(store.asked) <= 2 * prefetch.REQUESTS + 1


def test_who_stops_in_the_middle_waits_for_no_answer() -> None:
    """It may be the garbage collector that stops, in the thread which is to bring the answers."""
    answering = threading.Event()

    def answer(path: str, offset: int, length: int) -> bytes:
        assert path == "file 0" or answering.wait(20)
        return bytes(length)

    reading = read_ahead(apart(50), answer)
    next(reading)
    reading.close()
    assert names(), "they wait for an answer"
    answering.set()
    until(lambda: not names())


def test_nothing_to_read_reads_nothing(store: Store) -> None:
    assert list(read_ahead([], store)) == []
    assert store.asked == []


# Shared among threads


def test_threads_that_share_read_each_group_once(store: Store) -> None:
    pieces = [Piece(path, start, 100) for path in ("one", "two") for start in range(0, 4000, 100)]
    shared = SharedReads(pieces, store)
    with ThreadPoolExecutor(16) as threads:
        reading = [threads.submit(shared, *piece) for piece in random.Random(2).sample(pieces, len(pieces))]
        until(lambda: len(store.asked) == 2)
        store.open.set()
        assert all(future.result(20) == bytes(100) for future in reading)
    assert sorted(store.asked) == [Piece("one", 0, 4000), Piece("two", 0, 4000)]


def test_a_group_is_dropped_with_its_last_piece_and_read_again_if_it_is_asked_again(store: Store) -> None:
    store.open.set()
    pieces = [Piece("one", start, 10) for start in (0, 10)]
    shared = SharedReads(pieces, store)
    for _ in range(2):
        for piece in pieces:
            assert shared(*piece) == bytes(10)
    assert len(store.asked) == 3


def test_a_read_that_failed_is_tried_again_by_the_next() -> None:
    fails = [True, False]

    def failing(path: str, offset: int, length: int) -> bytes:
        if fails.pop(0):
            raise ZeroDivisionError
        return read(path, offset, length)

    pieces = [Piece("one", 0, 10), Piece("one", 20, 10)]
    shared = SharedReads(pieces, failing)
    with pytest.raises(ZeroDivisionError):
        shared(*pieces[0])
    assert shared(*pieces[1]) == DATA[20:30]
    assert shared(*pieces[0]) == DATA[:10]
    assert fails == []
