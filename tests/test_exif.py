"""exif: how a picture is to be turned before it is shown."""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import exif_of

from imagetl_luigi.exif import ORIENTATIONS, as_shown, read_orientation

SHORT, LONG = 3, 4


def entry(tag: int, value: int, kind: int = SHORT, count: int = 1, order: str = "<") -> bytes:
    return struct.pack(order + "HHI", tag, kind, count) + struct.pack(
        order + "I" if kind == LONG else order + "Hxx", value
    )


def directory(*entries: bytes, count: int | None = None) -> bytes:
    return struct.pack("<H", len(entries) if count is None else count) + b"".join(entries) + bytes(4)


def exif(*directories: bytes, at: int = 8) -> bytes:
    return b"II*\0" + struct.pack("<I", at) + b"".join(directories)


def read(data: bytes) -> int:
    return read_orientation(data, 0, len(data))


TURNED = entry(0x112, 6)
OTHER = entry(0x10F, 6)
NONE = entry(0x112, 0)


def pointer(to: int, kind: int = LONG) -> bytes:
    return entry(0x8769, to, kind)


@pytest.mark.parametrize("order", ["<", ">"], ids=["Intel", "Motorola"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_each_orientation_is_read_in_both_byte_orders(orientation: int, order: str) -> None:
    assert read(exif_of(orientation, order)) == orientation


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_width_and_height_change_places_if_it_lies_on_its_side(orientation: int) -> None:
    assert as_shown(30, 20, orientation) == ((20, 30) if orientation in (5, 6, 7, 8) else (30, 20))


# What Chromium 156 does with each; Pillow and ffmpeg differ in some.
@pytest.mark.parametrize(
    "data",
    [
        exif(directory(OTHER, TURNED)),
        exif(directory(entry(0x9000, 1), TURNED)),
        exif(b"\xff" * 13, directory(TURNED), at=21),
        exif(directory(TURNED))[:-4],
        exif(directory(OTHER, TURNED, count=9)),
        exif(directory(TURNED, entry(0x112, 3))),
        exif(directory(NONE, TURNED)),
        exif(directory(entry(0x112, 6, LONG), TURNED)),
        exif(directory(pointer(26)), directory(TURNED)),
        exif(directory(pointer(38), entry(0x112, 3)), directory(TURNED)),
        exif(directory(pointer(8), TURNED)),
    ],
    ids=[
        *("second entry", "unsorted", "directory elsewhere", "no next directory", "fewer entries than it says"),
        *("two tags", "one that cannot be before it", "one of another type before it"),
        *("in the Exif directory", "in the Exif directory before it", "a directory that points to itself"),
    ],
)
def test_what_browsers_take_for_a_tag_is_one(data: bytes) -> None:
    assert read(data) == 6


@pytest.mark.parametrize(
    "data",
    [
        exif(directory(NONE)),
        exif(directory(entry(0x112, 9))),
        exif(directory(entry(0x112, 0x0600))),
        exif_of(6, kind=1),
        exif_of(6, kind=4),
        exif_of(6, kind=8),
        exif_of(6, count=0),
        exif_of(6, count=2),
        exif(directory(TURNED))[:-5],
        exif(directory(TURNED), at=0),
        exif(directory(TURNED), at=0xFFFFFFFF),
        exif(directory(OTHER), directory(TURNED)),
        exif(directory(pointer(26, SHORT)), directory(TURNED)),
        exif(directory(entry(0x8825, 26, LONG)), directory(TURNED)),
        exif(directory(pointer(26)), directory(pointer(44)), directory(TURNED)),
        exif(directory(pointer(38), pointer(56)), directory(NONE), directory(TURNED)),
        b"Exif\0\0" + exif(directory(TURNED)),
        b"II\0*" + exif(directory(TURNED))[4:],
        b"II+\0" + exif(directory(TURNED))[4:],
        b"MM\0*" + exif(directory(TURNED))[4:],
        b"II*\0\x08\0\0",
        b"",
    ],
    ids=[
        *("0", "9", "of the other byte order", "a byte", "a long", "signed", "none", "two", "cut off"),
        *("directory before all", "directory behind all", "second directory", "pointer of another type", "GPS"),
        *("too deep", "the second pointer", "a header before it", "mixed order", "BigTIFF", "wrong order"),
        *("half a header", "nothing"),
    ],
)
def test_what_browsers_take_for_none_is_none(data: bytes) -> None:
    assert read(data) == 1


@given(st.binary(max_size=80), st.integers(0, 90), st.integers(0, 90))
def test_any_bytes_have_an_orientation(data: bytes, start: int, end: int) -> None:
    assert read_orientation(data, start, end) in ORIENTATIONS


@given(st.sampled_from([b"II*\0", b"MM\0*"]), st.data())
def test_damage_is_no_error(head: bytes, data: st.DataObject) -> None:
    buffer = bytearray(exif(directory(OTHER, pointer(38)), directory(TURNED, OTHER)))
    buffer[:4] = head
    for place in data.draw(st.lists(st.integers(0, len(buffer) - 1), max_size=6)):
        buffer[place] = data.draw(st.integers(0, 255))
    assert read(bytes(buffer[: data.draw(st.integers(0, len(buffer)))])) in ORIENTATIONS


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_nothing_outside_of_it_is_looked_at(before: bytes, behind: bytes) -> None:
    data = exif(directory(OTHER))
    whole = before + data + directory(TURNED) + behind
    assert read_orientation(whole, len(before), len(before) + len(data)) == 1
    pointed = exif(directory(pointer(26)))
    whole = before + pointed + directory(TURNED) + behind
    assert read_orientation(whole, len(before), len(before) + len(pointed)) == 1
    assert read_orientation(whole, len(before), len(whole)) == 6


def test_of_thousands_of_pointers_to_thousands_of_entries_one_is_followed() -> None:
    seen = []

    class Counted(bytes):
        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            seen.append(key)
            return super().__getitem__(key)  # type: ignore[index]

    data = Counted(exif(directory(*[pointer(8)] * 5000)))
    assert read_orientation(data, 0, len(data)) == 1
    assert len(seen) < 10


def test_a_file_mapped_into_memory_is_read_like_bytes() -> None:
    data = exif_of(6)
    with mmap.mmap(-1, len(data) + 5) as mapped:
        mapped[5:] = data
        assert read_orientation(mapped, 5, len(data) + 5) == 6
