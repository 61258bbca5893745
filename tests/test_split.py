from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pictures import every_kind, gif, raw_gif

from imagetl_luigi import split as module
from imagetl_luigi.errors import ParameterError, SplitError
from imagetl_luigi.formats import Malformed, PastEnd, sniff, walk
from imagetl_luigi.settings import Limits
from imagetl_luigi.split import Span, split_stream

NEWLINES = b"\n\n\n\n"
KINDS = every_kind()
ONE, TWO = gif(seed=1), gif(seed=2)

kinds = pytest.mark.parametrize("kind", KINDS)
pictures = st.sampled_from([*KINDS.values(), *every_kind(seed=7).values()])
payloads = st.binary(min_size=1, max_size=40).filter(
    lambda data: data.strip(b"\r\n") == data and b"\n\n" not in data.replace(b"\r", b"") and sniff(data, 0) is None
)


def split(stream: bytes, delimiter: bytes = NEWLINES, limits: Limits | None = None) -> list[Span]:
    def view(offset: int, length: int) -> tuple[bytes, int]:
        return stream[offset : offset + length], 0

    return list(split_stream(view, len(stream), delimiter, limits or Limits()))


def frames(stream: bytes, delimiter: bytes = NEWLINES) -> list[bytes]:
    """The bytes of each frame, held against its hash."""
    spans = split(stream, delimiter)
    found = [stream[span.offset : span.offset + span.length] for span in spans]
    assert [hashlib.sha256(data).hexdigest() for data in found] == [span.sha256 for span in spans]
    return found


def whole(data: bytes) -> bool:
    name = sniff(data, 0)
    try:
        return name is None or walk(name, data, 0).end <= len(data)
    except (PastEnd, Malformed):
        return False


@kinds
def test_each_kind_of_picture_is_found_byte_for_byte(kind: str) -> None:
    data = KINDS[kind]
    stream = NEWLINES.join([ONE, data, data, TWO]) + NEWLINES
    assert frames(stream) == [ONE, data, data, TWO]
    span = split(stream)[1]
    assert (span.format, span.width, span.height) == (kind.split()[0], 12, 8)
    assert span.opaque is (kind in ("gif 87a", "gif of several pictures"))


@given(st.lists(pictures | payloads, min_size=1, max_size=6), st.sampled_from([b"", b"\n", NEWLINES]))
def test_any_frames_that_are_joined_are_found_again(parts: list[bytes], end: bytes) -> None:
    assume(end != b"\n" or sniff(parts[-1], 0))
    assert frames(NEWLINES.join(parts) + end) == parts


@pytest.mark.parametrize(
    "data",
    [
        raw_gif(b"\0", palette=b"\n" * 12),
        raw_gif(b"\0", before=b"!\xfe\x06a\n\n\n\nb\0"),
        raw_gif(b"\x44" + NEWLINES + b"GIF89a"),
        raw_gif(b"\0", before=b"!\xfe\xff" + NEWLINES + ONE.ljust(251, b".") + b"\0"),
        KINDS["png"][:33] + b"\0\0\0\x0ctEXta\0" + NEWLINES + b"\xff\xd8\xff\xe0\n\ncrc!" + KINDS["png"][33:],
        KINDS["jpeg of quality 95"],
        KINDS["jpeg with a thumbnail"],
        KINDS["bmp of 24 bits"][:54] + NEWLINES * 72,
    ],
    ids=["palette", "comment", "codes", "picture in a comment", "text", "quantisation table", "thumbnail", "pixels"],
)
def test_a_delimiter_inside_a_picture_does_not_cut_it(data: bytes) -> None:
    assert NEWLINES in data
    assert frames(NEWLINES.join([data, ONE, data, data]) + NEWLINES) == [data, ONE, data, data]


@settings(max_examples=400)
@given(st.lists(pictures | payloads, max_size=3), st.lists(pictures, min_size=1, max_size=3), st.data())
def test_a_truncated_frame_is_named_and_never_swallows_its_neighbour(
    before: list[bytes], after: list[bytes], data: st.DataObject
) -> None:
    broken = after[0][: data.draw(st.integers(1, len(after[0]) - 1), label="cut")]
    assume(not broken.endswith((b"\r", b"\n")))  # the delimiter would begin there
    parts = [*before, broken, *after[1:]]
    stream = NEWLINES.join(parts) + data.draw(st.sampled_from([b"", NEWLINES]), label="end")
    try:
        found = frames(stream)
    except SplitError as error:
        offset = len(NEWLINES.join([*before, b""]))
        assert str(error).startswith(f"frame {len(before)} at offset {offset:,} breaks off")
    else:
        assert found == parts
        assert whole(broken)  # nothing is missing, or the signature is, and it is a payload of unknown format


@kinds
@pytest.mark.parametrize("delimiter", [b"\n", NEWLINES, b"--frame--\n"], ids=repr)
@pytest.mark.parametrize("behind", [ONE, KINDS["bmp of 32 bits"], b""], ids=["gif", "bmp", "nothing"])
def test_a_delimiter_is_not_taken_for_the_last_bytes_of_a_picture(kind: str, delimiter: bytes, behind: bytes) -> None:
    for missing in (1, 2, 3, 4, 5, 24):
        with pytest.raises(SplitError, match=f"frame 1 at offset {len(ONE + delimiter)} breaks off"):
            split(delimiter.join([ONE, KINDS[kind][:-missing], behind]), delimiter)


def test_a_frame_between_delimiters_inside_a_picture_tells_that_this_breaks_off() -> None:
    broken, swallowed, payload = raw_gif(b"\1" * 1020)[:-162], raw_gif(b"\0" * 40), b"x" * 200 + b"\0;"
    inside = NEWLINES.join([broken, swallowed, payload])
    assert walk("gif", inside, 0).end == len(inside)
    with pytest.raises(SplitError, match="frame 0 at offset 0 breaks off"):
        split(NEWLINES.join([inside, ONE]))


@pytest.mark.parametrize(
    "separator",
    [b"", b"\n", b"\n\n\n", b"\n" * 5, b"\n" * 5000, b"\r\n", b"\r\n" * 4, b"\r\n\n\r\n\n\n"],
    ids=lambda separator: repr(separator[:12]),
)
@pytest.mark.parametrize("ends", [b"", b"\n", b"\n" * 4, b"\r\n" * 9], ids=repr)
def test_pictures_are_found_between_any_number_of_newlines(separator: bytes, ends: bytes) -> None:
    data = [*KINDS.values(), ONE, TWO]
    data.remove(KINDS["jpeg of several images"])  # which says that pictures behind it are its own
    assert frames(ends + separator.join(data) + ends) == data


@given(st.lists(payloads, min_size=1, max_size=5), st.integers(2, 5), st.sampled_from([b"\n", b"\r\n"]))
def test_unknown_payloads_are_what_lies_between_delimiters(parts: list[bytes], count: int, newline: bytes) -> None:
    stream = (newline * count).join([b"", *parts, b"", b""])
    assert frames(stream, b"\n" * count) == parts
    assert {span[2:6] for span in split(stream, b"\n" * count)} == {("unknown", None, None, False)}


def test_fewer_newlines_belong_to_an_unknown_payload() -> None:
    assert frames(b"a\n\n\nb\n" + NEWLINES + b"\n\nc\n") == [b"a\n\n\nb", b"c\n"]


@given(st.lists(pictures, min_size=1, max_size=4), st.binary(min_size=1, max_size=8), st.integers(1, 3))
@example([ONE, TWO], b".*", 1)
@example([KINDS["bmp of 24 bits"], KINDS["webp lossy"]], b"\0", 1)
def test_any_bytes_can_be_the_delimiter(parts: list[bytes], delimiter: bytes, times: int) -> None:
    assume(not any(data.startswith(delimiter) or delimiter in data for data in parts))
    assert frames((delimiter * times).join([b"", *parts, b""]), delimiter) == parts


@given(st.lists(st.text("abc-", min_size=1), min_size=1), st.sampled_from(["--x\n", "|", "\0\0", "x" * 70]))
def test_other_delimiters_stand_for_themselves(parts: list[str], delimiter: str) -> None:
    assert frames(delimiter.join(parts).encode(), delimiter.encode()) == [part.encode() for part in parts]


def test_an_empty_delimiter_is_refused() -> None:
    with pytest.raises(ParameterError, match="delimiter is empty"):
        split(ONE, b"")


@kinds
@pytest.mark.parametrize("trailing", [b"\0", b"\0" * 99, b"made by a camera", b"x\n\n\n\ny"], ids=repr)
def test_bytes_behind_a_whole_picture_stay_with_it(kind: str, trailing: bytes) -> None:
    data = KINDS[kind] + trailing
    assert frames(NEWLINES.join([ONE, data, TWO])) == [ONE, data, TWO]
    assert frames(ONE + NEWLINES + data) == [ONE, data]


def test_a_dark_bitmap_may_end_the_stream_with_newlines() -> None:
    dark = KINDS["bmp of 24 bits"][:54] + b"\n" * 288
    assert frames(NEWLINES.join([ONE, dark])) == [ONE, dark]


@settings(max_examples=60)
@given(st.lists(pictures | payloads | st.just(b"\n" * 70), min_size=1, max_size=4), st.integers(1, 700), st.data())
def test_the_window_makes_no_difference(parts: list[bytes], window: int, data: st.DataObject) -> None:
    delimiter = data.draw(st.sampled_from([NEWLINES, b"--a frame of more bytes than a signature--\n"]))
    stream = delimiter.join(parts)[: data.draw(st.integers(1, 4000))]

    def outcome(window: int) -> list[Span] | str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "WINDOW", window)
            try:
                return split(stream, delimiter)
            except SplitError as error:
                return str(error)

    assert outcome(window) == outcome(1 << 20)


@pytest.mark.parametrize("stream", [b"", b"\n", NEWLINES * 9, b"\r\n" * 50000], ids=lambda stream: repr(stream[:8]))
def test_a_stream_without_a_frame_is_an_error(stream: bytes) -> None:
    with pytest.raises(SplitError, match=f"{len(stream):,} bytes holds no frame; check the URL"):
        split(stream)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(frames=1), r"frame 1 at offset 172 is one more than \[limits\] frames = 1 allows"),
        (Limits(frame_bytes=167), r"frame 0 at offset 0 is longer than \[limits\] frame_bytes = 167; raise it"),
        (Limits(frame_pixels=95), r"frame 0 at offset 0 has 12 × 8 pixels; \[limits\] frame_pixels = 95 allows fewer"),
    ],
    ids=["frames", "bytes", "pixels"],
)
def test_a_limit_is_told_with_the_frame_that_passes_it(limits: Limits, message: str) -> None:
    stream = NEWLINES.join([ONE, ONE])
    assert len(split(stream, limits=Limits(frames=2, frame_bytes=168, frame_pixels=96))) == 2
    with pytest.raises(SplitError, match=message):
        split(stream, limits=limits)


def test_a_frame_without_end_is_given_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 1024)
    shown: list[int] = []

    def view(offset: int, length: int) -> tuple[bytes, int]:
        shown.append(length)
        return b"x" * length, 0

    with pytest.raises(SplitError, match=r"frame_bytes = 10,000; .* or check that --delimiter is"):
        next(split_stream(view, 1 << 40, NEWLINES, Limits(frame_bytes=10_000)))
    assert max(shown) == 10_000 + 2 * 1024


@pytest.mark.parametrize("screen", [(0, 4), (4, 0)])
def test_a_picture_without_pixels_is_refused(screen: tuple[int, int]) -> None:
    picture = raw_gif(b"\0", screen=screen, box=(0, 0, 4, 4))
    with pytest.raises(SplitError, match=f"frame 1 at offset 172 has no pixels: {screen[0]} × {screen[1]}"):
        split(ONE + NEWLINES + picture)


@given(st.lists(st.binary(max_size=50) | st.sampled_from([NEWLINES, b"\n"]) | pictures.map(lambda data: data[:60])))
def test_garbage_raises_nothing_but_split_errors(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    try:
        spans = split(stream)
    except SplitError:
        return
    ends = [0, *(span.offset + span.length for span in spans)]
    assert all(end <= span.offset for end, span in zip(ends, spans, strict=False))
    assert all(begin < end for begin, end in pairwise(ends))
    assert ends[-1] <= len(stream)


@pytest.mark.parametrize(
    "stream",
    [
        NEWLINES.join([raw_gif(b"\x44\x01")] * 20_000),
        NEWLINES.join([b"x"] * 20_000),
        ONE[:-1] + b"!\xfe" + (b"\xff" + b"\nBM" * 85) * 20_000 + b"\0;",
        KINDS["jpeg baseline"][:-2]
        + b"\xff\xfe\0\x14\n\xff\xd8\xff\xda\0\x08...........".ljust(22, b".") * 50_000
        + b"\xff\xd9",
        ONE + b"behind" + b"\n" * 10_000_000 + TWO,
        b"x" * 20_000_000,
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 200_000 + KINDS["jpeg baseline"][2:],
        raw_gif(b"\0")[:-2] + b"\1a" * 1_000_000 + b"\0;",
    ],
    ids=["pictures", "payloads", "starts", "pictures in a picture", "newlines", "payload", "segments", "sub-blocks"],
)
def test_much_of_anything_is_split_in_linear_time(stream: bytes) -> None:
    """A quadratic way would take hours for each of these."""
    parts = frames(stream)
    assert sum(map(len, parts)) + 4 * (len(parts) - 1) == len(stream) or parts == [ONE + b"behind", TWO]


MEASURE = """
import sys
import psutil
from imagetl_luigi.settings import Limits
from imagetl_luigi.split import split_stream
from imagetl_luigi.storage import size, viewing

path, delimiter, peak = sys.argv[1], sys.argv[2].encode(), 0

def measured(offset, length):
    global peak
    peak = max(peak, psutil.Process().memory_info().rss)
    return view(offset, length)

with viewing(path) as view:
    print(sum(1 for _ in split_stream(measured, size(path), delimiter, Limits())), peak >> 20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("delimiter", [NEWLINES, b"--frame--"])
def test_memory_does_not_grow_with_the_stream(tmp_path: Path, delimiter: bytes) -> None:
    path = tmp_path / "stream.img"
    frame = KINDS["jpeg of quality 95"] + bytes(100_000) + delimiter
    with path.open("wb") as file:
        file.write(delimiter * (100_000_000 // len(delimiter)))
        for _ in range(3000):
            file.write(frame)
    command = [sys.executable, "-c", MEASURE, path, delimiter]
    count, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(count) == 3000
    assert int(peak) < 100


def test_the_real_stream_is_its_frames_and_the_delimiter(real_stream: Path) -> None:
    stream = real_stream.read_bytes()
    parts = frames(stream)
    assert len(parts) == 27
    assert NEWLINES.join([*parts, b""]) == stream
    assert {span[2:6] for span in split(stream)} == {("gif", 500, 375, True)}
