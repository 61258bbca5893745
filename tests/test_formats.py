from __future__ import annotations

import mmap
import re
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encode, every_kind, exif_of, raw_gif, with_exif
from PIL import Image

from imagetl_luigi.formats import (
    EXTENSIONS,
    LONGEST_SIGNATURE,
    START,
    Malformed,
    PastEnd,
    Picture,
    parse_gif,
    sniff,
    walk,
)

KINDS = every_kind()
ENTROPY_CODED = b"\x12\xff\x00\x34\xff\xd0\n\n\n\n\xff\xd7"
kinds = pytest.mark.parametrize("kind", KINDS)


def jpeg(*segments: tuple[int, bytes], scan: bytes = ENTROPY_CODED, end: bytes = b"\xff\xd9") -> bytes:
    """A JPEG of 3 × 2 pixels, laid out as it should be, with `segments` in front; nothing could decode it."""
    frame, start_of_scan = (0xC0, b"\x08\0\x02\0\x03\1\0\0\0"), (0xDA, b"\1\0\0\0\x3f\0")
    laid_out = [struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in (*segments, frame)]
    return b"\xff\xd8" + b"".join(laid_out) + struct.pack(">BBH", 0xFF, 0xDA, 8) + start_of_scan[1] + scan + end


def riff(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI4s4sI", b"RIFF", len(data) + 12, b"WEBP", kind, len(data)) + data


def bmp(width: int = 3, height: int = 2, *, length: int = 0, compression: int = 0, pixels: int = 24) -> bytes:
    header = struct.pack("<2sI4xIIiiHHI20x", b"BM", length, 54, 40, width, height, 1, 24, compression)
    return header + b"\n" * pixels


@kinds
def test_a_picture_is_walked_to_its_last_byte_whatever_surrounds_it(kind: str) -> None:
    data = KINDS[kind]
    buffer = b"before" + data + b"\n\n\n\nbehind"
    name = sniff(buffer, 6)
    assert name == kind.split()[0]
    opaque = kind in ("gif 87a", "gif of several pictures")
    assert walk(name, buffer, 6) == Picture(6 + len(data), 12, 8, opaque)


def test_the_samples_hold_what_they_are_named_after() -> None:
    assert KINDS["gif 87a"].startswith(b"GIF87a")
    assert KINDS["gif 89a"].startswith(b"GIF89a")
    assert b"\n\n\n\n" in KINDS["jpeg of quality 95"]
    assert b"\xff\xd0" in KINDS["jpeg with restart markers"]
    assert b"\xff\xc2" in KINDS["jpeg progressive"]
    assert KINDS["jpeg of several images"].count(b"MPF\0") > 0
    assert [KINDS[f"webp {kind}"][12:16] for kind in ("lossy", "lossless", "extended")] == [b"VP8 ", b"VP8L", b"VP8X"]


@kinds
def test_a_file_mapped_into_memory_is_walked_like_bytes(kind: str) -> None:
    data = KINDS[kind]
    name = kind.split()[0]
    with mmap.mmap(-1, len(data) + 5) as mapped:
        mapped[5:] = data
        assert sniff(mapped, 5) == name
        assert walk(name, mapped, 5) == walk(name, b"12345" + data, 5)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_picture_that_breaks_off_is_never_taken_for_whole(kind: str, data: st.DataObject) -> None:
    whole = KINDS[kind]
    part = whole[: data.draw(st.integers(LONGEST_SIGNATURE, len(whole) - 1))]
    first_image = whole.index(b"\xff\xd9\xff\xd8") + 2 if kind == "jpeg of several images" else len(whole)
    if len(part) in range(first_image, first_image + 3):
        return  # the first image of several is a picture by itself
    with pytest.raises(PastEnd) as error:
        walk(kind.split()[0], part, 0)
    assert len(part) < error.value.needed <= len(whole)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_damage_raises_nothing_but_malformed_and_past_end(kind: str, data: st.DataObject) -> None:
    buffer = bytearray(KINDS[kind])
    for place in data.draw(st.lists(st.integers(0, len(buffer) - 1), min_size=1, max_size=5)):
        buffer[place] = data.draw(st.integers(0, 255))
    with suppress(Malformed, PastEnd):
        assert 0 < walk(kind.split()[0], bytes(buffer), 0).end <= len(buffer)


@given(
    st.sampled_from([b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBPVP8L", b"BM", b""]),
    st.binary(max_size=300),
    st.sampled_from(sorted(EXTENSIONS.keys() - {"unknown"})),
)
def test_garbage_raises_nothing_but_malformed_and_past_end(head: bytes, tail: bytes, name: str) -> None:
    buffer = head + tail
    assert sniff(buffer, 0) in {None, *EXTENSIONS}
    with suppress(Malformed, PastEnd):
        walk(name, buffer, 0)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, LONGEST_SIGNATURE), st.binary(max_size=40))
def test_whatever_is_sniffed_begins_with_a_known_start(kind: str, length: int, tail: bytes) -> None:
    buffer = KINDS[kind][:length] + tail
    assert sniff(buffer, 0) is None or re.match(START, buffer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF88a" + bytes(30),
        b"\x89PNG\n" + bytes(30),
        b"RIFF0000WAVE" + bytes(30),
        b"BM, a firm of Munich" * 2,
    ],
)
def test_what_only_resembles_a_signature_is_unknown(data: bytes) -> None:
    assert sniff(data, 0) is None


@pytest.mark.parametrize(
    ("picture", "opaque"),
    [
        (raw_gif(b"\0"), True),
        (raw_gif(b"\0", before=b"!\xf9\x04\0\x05\0\0\0"), True),
        (raw_gif(b"\0", before=b"!\xf9\x04\1\x05\0\0\0"), False),
        (raw_gif(b"\0", screen=(5, 4), box=(0, 0, 4, 4)), False),
        (raw_gif(b"\0", screen=(5, 4), box=(1, 0, 5, 4)), False),
    ],
    ids=["full", "delayed", "transparent", "smaller", "shifted"],
)
def test_a_gif_is_opaque_if_it_paints_every_pixel_of_its_screen(picture: bytes, opaque: bool) -> None:
    assert walk("gif", picture, 0).opaque is opaque


@given(st.integers(0, 6000), st.booleans(), st.integers(1, 8))
def test_a_gif_is_taken_apart_into_ranges_that_can_be_copied(length: int, local: bool, bits: int) -> None:
    palette = bytes(3 << bits)
    control = b"!\xf9\x04" + struct.pack("<BHBB", 1, 25, 7, 0)
    data = raw_gif(b"\xaa" * length, screen=(9, 8), box=(1, 2, 3, 4), palette=palette, local=local, before=control)
    found = parse_gif(b"xx" + data, 2)
    assert (found.end, found.screen, found.box) == (len(data) + 2, (9, 8), (1, 2, 3, 4))
    assert (found.delay, found.transparent, found.interlaced, found.code_size) == (25, 7, False, 2)
    assert found.palette[1] - found.palette[0] == len(palette)
    assert (b"xx" + data)[slice(*found.data)] == data[found.data[0] - 2 : -1]
    assert found.data[1] - found.data[0] == 2 + length + -(-length // 255)


@pytest.mark.parametrize("blocks", [1023, 1024, 1025, 2500])
def test_full_sub_blocks_are_walked_beyond_one_stride(blocks: int) -> None:
    data = raw_gif(b"\xff" * 255 * blocks)
    assert parse_gif(data, 0).end == len(data)
    with pytest.raises(PastEnd):
        parse_gif(data[:-256], 0)


def test_the_first_picture_of_a_gif_counts_and_its_end_is_the_end_of_all() -> None:
    found = parse_gif(KINDS["gif of several pictures"], 0)
    assert found._replace(end=0) == parse_gif(KINDS["gif 87a"], 0)._replace(end=0, delay=found.delay)
    assert found.end == len(KINDS["gif of several pictures"])


@pytest.mark.parametrize(
    "data",
    [
        jpeg((0xFE, b"\n\n\n\n\xff\xd9")),
        jpeg((0xE2, b"MPF\0"), (0xFE, b"")),
        jpeg(end=b"\xff\xff\xff\xd9"),
        jpeg(end=b"\xff\xfe\0\2\xff\xd9"),
        jpeg(end=b"\xff\x01\xff\xd9"),
    ],
    ids=[
        "end marker in a comment",
        "one of several",
        "fill bytes",
        "short comment at the end",
        "marker that stands alone",
    ],
)
def test_odd_but_right_jpegs_are_walked(data: bytes) -> None:
    assert walk("jpeg", data, 0) == Picture(len(data), 3, 2, False)


@pytest.mark.parametrize(
    "kind", ["png", "png with alpha", "jpeg baseline", "jpeg progressive", "jpeg of several images"]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_picture_as_it_is_shown(kind: str, orientation: int) -> None:
    data = with_exif(KINDS[kind], exif_of(orientation))
    size = (8, 12) if orientation > 4 else (12, 8)
    assert walk(kind.split()[0], b"before" + data, 6) == Picture(6 + len(data), *size, False, orientation)


def app1(orientation: int, header: bytes = b"Exif\0\0") -> tuple[int, bytes]:
    return 0xE1, header + exif_of(orientation)


FRAME, SCAN = (0xC0, b"\x08\0\x02\0\x03\1\0\0\0"), (0xDA, b"\1\0\0\0\x3f\0")
XMP = (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>')


# What Chromium 156 does with each; Pillow and ffmpeg differ in some.
@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (jpeg(XMP, app1(6)), 6),
        (jpeg(FRAME, app1(6)), 6),
        (jpeg(app1(6), app1(3)), 6),
        (jpeg(app1(0), app1(6)), 1),
        (jpeg((0xE1, b"Exif\0\0"), app1(6)), 6),
        (jpeg(app1(6, b"Exif\0\1")), 6),
        (jpeg(XMP), 1),
        (jpeg(app1(6, b"EXIF\0\0")), 1),
        (jpeg(app1(6, b"Exif\0")), 1),
        (jpeg((0xE2, app1(6)[1])), 1),
        (jpeg(FRAME, SCAN, app1(6)), 1),
    ],
    ids=[
        *("XMP before it", "behind the frame header", "two, the first counts", "also if it is damaged"),
        *("an empty one is none", "fill byte", "XMP alone", "capitals", "half a header", "APP2", "behind a scan"),
    ],
)
def test_exif_is_found_where_browsers_find_it(data: bytes, orientation: int) -> None:
    size = (2, 3) if orientation > 4 else (3, 2)
    assert walk("jpeg", data, 0) == Picture(len(data), *size, False, orientation)


def test_of_several_images_the_first_says_how_all_are_turned() -> None:
    several = (0xE2, b"MPF\0")
    data = jpeg(several, app1(6)) + jpeg(several, app1(3)) + jpeg(several)
    assert walk("jpeg", data, 0) == Picture(len(data), 2, 3, False, 6)
    data = jpeg(several) + jpeg(several, app1(6))
    assert walk("jpeg", data, 0) == Picture(len(data), 3, 2, False, 1)


def test_exif_behind_the_pixels_of_a_png_is_not_looked_at() -> None:
    data = with_exif(KINDS["png"], exif_of(6))
    end = data.index(b"IDAT") - 4
    begin = data.index(b"eXIf") - 4
    later = data[:begin] + data[end:-12] + data[begin:end] + data[-12:]
    assert walk("png", later, 0) == Picture(len(data), 12, 8, False, 1)
    twice = with_exif(with_exif(KINDS["png"], exif_of(0)), exif_of(6))
    assert walk("png", twice, 0).orientation == 1


def test_exif_of_a_png_that_browsers_pass_over_is_passed_over() -> None:
    good = with_exif(KINDS["png"], exif_of(6))
    at = good.index(b"IDAT") - 8
    wrong = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    assert [walk("png", data, 0).orientation for data in (good, wrong)] == [6, 1], "by its checksum"
    assert walk("png", with_exif(wrong, exif_of(8)), 0).orientation == 8, "and the next one counts"
    longest = exif_of(6).ljust(4 * 1024 * 1024, b"\0")
    for exif, orientation in ((longest, 6), (longest + b"\0", 1)):
        assert walk("png", with_exif(KINDS["png"], exif), 0).orientation == orientation


def test_a_webp_is_not_turned_as_browsers_do_not_either() -> None:
    data = encode(Image.new("RGB", (12, 8)), "WEBP", exif=exif_of(6))
    assert b"EXIF" in data
    assert walk("webp", data, 0) == Picture(len(data), 12, 8, False, 1)


def test_any_number_of_images_may_follow_each_other_in_a_jpeg() -> None:
    data = jpeg((0xE2, b"MPF\0")) * 5000
    assert walk("jpeg", data, 0).end == len(data)


def test_jpegs_that_follow_each_other_without_saying_so_are_single() -> None:
    assert walk("jpeg", jpeg() * 3, 0).end == len(jpeg())


def test_the_smallest_webp_is_shorter_than_other_headers() -> None:
    data = encode(Image.new("RGB", (1, 1)), "WEBP", lossless=True)
    assert walk("webp", data, 0) == Picture(len(data), 1, 1, False)
    smallest = riff(b"VP8L", b"\x2f\0\0\0\0\0")
    assert walk("webp", smallest, 0) == Picture(26, 1, 1, False)


@pytest.mark.parametrize("height", [2, -2], ids=["bottom up", "top down"])
@pytest.mark.parametrize("length", [0, 78], ids=["without length", "with length"])
def test_the_length_of_a_bmp_follows_from_its_size_where_it_is_not_given(length: int, height: int) -> None:
    data = bmp(height=height, length=length)
    assert walk("bmp", data + b"more", 0) == Picture(len(data), 3, 2, False)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gif", raw_gif(b"\0")[:-1] + b"\n\n\n\n"),
        ("gif", raw_gif(b"\0", before=b";")),
        ("gif", raw_gif(b"\0", code_size=12)),
        ("gif", raw_gif(b"\0", box=(0, 0, 0, 4))),
        ("png", KINDS["png"][:-4] + b"\n\n\n\n"),
        ("png", KINDS["png"].replace(b"IHDR", b"IDAT")),
        ("png", KINDS["png"].replace(b"IDAT", b"ID\nT")),
        ("jpeg", b"\xff\xd8\xff\xd9"),
        ("jpeg", b"\xff\xd8" + jpeg()),
        ("jpeg", jpeg().replace(b"\xff\xc0\x00\x0b", b"\xff\xc0\x00\x01")),
        ("jpeg", jpeg()[:2] + b"\n" + jpeg()[2:]),
        ("webp", riff(b"JUNK", bytes(20))),
        ("bmp", bmp(compression=1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_laid_out_as_its_format_demands_is_malformed(name: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        walk(name, data, 0)
