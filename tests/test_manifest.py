from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetl_luigi.errors import ManifestError, SplitError
from imagetl_luigi.exif import ORIENTATIONS
from imagetl_luigi.formats import EXTENSIONS
from imagetl_luigi.manifest import Manifest, copy_manifest, frame_name, read_manifest, write_manifest
from imagetl_luigi.source import Source
from imagetl_luigi.split import Span

SOURCE = Source(url='https://example.org/ä.img?a="b"', etag='"v1"', length=1000, sha256="0" * 64)
HASH = "0123456789abcdef" * 4

sides = st.integers(0, 1 << 32)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
orientations = st.sampled_from(ORIENTATIONS)
known = st.builds(
    Span, sides, sides, st.sampled_from(sorted(EXTENSIONS)), sides, sides, st.booleans(), hashes, orientations
)
unknown = st.builds(
    Span, sides, sides, st.just("unknown"), st.none(), st.none(), st.just(False), sha256=hashes, orientation=st.just(1)
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def span(index: int = 0, format: str = "gif", width: int = 4, height: int = 3, opaque: bool = True) -> Span:
    return Span(index * 100, 96, format, width, height, opaque, f"{index:064x}")


def write(path: Path, spans: list[Span], source: Source = SOURCE, delimiter: str = r"\n\n\n\n") -> Manifest:
    assert write_manifest(str(path), spans, source=source, fingerprint="1-2", delimiter=delimiter) == len(spans)
    manifest = read_manifest(str(path))
    assert manifest
    return manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.json"


@same_folder
@given(st.lists(known | unknown, max_size=12), st.text(max_size=20))
def test_what_is_written_is_read_again(path: Path, spans: list[Span], delimiter: str) -> None:
    manifest = write(path, spans, delimiter=delimiter)
    assert (manifest.source, manifest.fingerprint, manifest.delimiter) == (SOURCE, "1-2", delimiter)
    assert manifest.count == sum(manifest.formats.values()) == len(spans)
    assert manifest.width == max((span.width or 0 for span in spans), default=0)
    assert manifest.height == max((span.height or 0 for span in spans), default=0)
    found = list(manifest.frames())
    assert [frame[2:] for frame in found] == [(*span[:5], *span[6:]) for span in spans]
    assert [frame.index for frame in found] == list(range(len(spans)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_copy_has_the_same_frames_another_source_and_says_whose_they_are(path: Path, count: int) -> None:
    manifest = write(path, [span(index) for index in range(count)])
    source = replace(SOURCE, url="https://example.org/b.img", fetched_at="2026-11-24T00:00:00+00:00")
    there = path.with_name("copy.json")
    copy_manifest(manifest, str(there), source=source, same_as="2026-11-23")
    copied = read_manifest(str(there))
    assert copied
    assert copied == replace(manifest, path=str(there), source=source, same_as="2026-11-23")
    assert list(copied.frames()) == list(manifest.frames())
    json.loads(there.read_bytes())


def test_a_manifest_that_was_replaced_is_not_copied(path: Path) -> None:
    manifest = write(path, [span(0)])
    write(path, [span(1)])
    with pytest.raises(ManifestError, match="was replaced by another run"):
        copy_manifest(manifest, str(path.with_name("copy.json")), source=SOURCE, same_as="2026-11-23")
    assert not path.with_name("copy.json").exists()


def test_the_file_is_json_with_a_line_for_each_frame(path: Path) -> None:
    manifest = write(path, [span(0), span(1, "jpeg"), span(2)])
    text = path.read_text()
    assert [{**frame, "orientation": 1} for frame in json.loads(text)["frames"]] == [
        frame._asdict() for frame in manifest.frames()
    ]
    assert [json.loads(line.rstrip(","))["index"] for line in text.splitlines() if '"index"' in line] == [0, 1, 2]


@given(st.integers(1, 10**7), st.data())
def test_names_sort_as_the_frames_do_and_have_two_digits(count: int, data: st.DataObject) -> None:
    indexes = sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=20)))
    names = [frame_name(index, count, "gif") for index in indexes]
    assert names == sorted(names)
    assert all(len(name) >= len("frame_00.gif") for name in names)
    assert len({len(name) for name in names}) <= 1


@pytest.mark.parametrize(("format", "extension"), [*EXTENSIONS.items(), ("another", "bin")])
def test_the_extension_tells_the_format(format: str, extension: str) -> None:
    assert frame_name(5, 27, format) == f"frame_05.{extension}"


@pytest.mark.parametrize(
    ("spans", "opaque"),
    [
        ([span(0), span(1)], True),
        ([], False),
        ([span(0), span(1, opaque=False)], False),
        ([span(0), span(1, width=5)], False),
        ([span(0, height=2), span(1)], False),
        ([span(0, width=4, height=3), span(1, width=3, height=4)], False),
        ([span(0), Span(0, 9, "unknown", None, None, False, HASH)], False),
    ],
    ids=["alike", "none", "transparent", "wider", "higher", "turned", "unknown"],
)
def test_all_is_opaque_if_each_frame_fills_the_same_canvas(path: Path, spans: list[Span], opaque: bool) -> None:
    assert write(path, spans).opaque is opaque


def test_the_digest_tells_the_frames_and_their_order_and_nothing_else(path: Path) -> None:
    spans = [span(0), span(1)]
    digest = write(path, spans).digest
    moved = [frame._replace(offset=frame.offset + 7) for frame in spans]
    assert write(path, moved, replace(SOURCE, url="elsewhere", etag=None), "|").digest == digest
    others = [spans[::-1], spans[:1], [spans[0], spans[1]._replace(sha256=HASH)], [span(0), span(1, "png")]]
    assert digest not in {write(path, other).digest for other in others}


def test_frames_are_read_one_by_one(path: Path) -> None:
    manifest = write(path, [span(index) for index in range(3)])
    path.write_bytes(path.read_bytes().replace(b'"index": 2', b'"index": 9'))
    frames = manifest.frames()
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(ManifestError, match="frame 2 is listed as frame 9"):
        next(frames)


def edited(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """Another first frame."""
    return lambda frames: [frames[0].replace(old, new), *frames[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: frames[:2], "its 2 frames are not the 3"),
        (lambda frames: [], "its 0 frames are not the 3"),
        (lambda frames: [*frames, frames[2]], "frame 3 is listed as frame 2"),
        (lambda frames: frames[::-1], "frame 0 is listed as frame 2, 'frame_02.gif'"),
        (lambda frames: [b"[" * 100_000 + b"\n", *frames[1:]], "frame 0 cannot be read"),
        (edited(b"}", b""), "frame 0 cannot be read"),
        (edited(b'"offset": 0', b'"offset": "0"'), "frame 0 cannot be read"),
        (edited(b'"gif"', b'["gif"]'), "frame 0 cannot be read"),
        (edited(b"{", b'{"more": 1, '), "frame 0 cannot be read"),
        (edited(b"_00", b"_07"), "frame 0 is listed as frame 0, 'frame_07.gif'"),
        (edited(b"0000", b"\\ud800"), "frame 0 has .* for a SHA-256"),
        (edited(b"0" * 64, b"../../elsewhere"), "frame 0 has '../../elsewhere' for a SHA-256"),
        (edited(b"0" * 64, b"f" * 64), "its 3 frames are not the 3 that its digest was made from"),
    ],
    ids=[
        "fewer",
        "none",
        "more",
        "reordered",
        "deep",
        "broken",
        "text",
        "list",
        "field",
        "name",
        "hash",
        "path",
        "other",
    ],
)
def test_frames_that_split_did_not_write_are_an_error_with_a_remedy(
    path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    manifest = write(path, [span(index) for index in range(3)])
    *head, one, two, three, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*head, *change([one, two, three]), end]))
    with pytest.raises(ManifestError, match=rf"manifest\.json is damaged: {message}.*; remove it and run again"):
        list(manifest.frames())


@same_folder
@given(st.data())
def test_a_damaged_manifest_is_none_or_an_error_or_has_the_frames_that_were_split(
    path: Path, data: st.DataObject
) -> None:
    spans = [span(0), span(1, "unknown"), span(2, "jpeg")]
    write(path, spans)
    content = path.read_bytes()
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(content)), st.integers(0, len(content)))))
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=3)) + content[end:])
    manifest = read_manifest(str(path))
    try:
        found = [(frame.format, frame.sha256) for frame in manifest.frames()] if manifest else []
    except ManifestError:
        return
    assert manifest is None or found == [(span.format, span.sha256) for span in spans][: manifest.count]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff" * 50_000,
        b"[]",
        b'{"schema": 1}',
        b'[\n"frames": [\n]}\n',
        b'{\n"schema": 1,\n"frames": [\n]}\n',
        b'{"source": ' + b"[" * 50_000 + b'\n"frames": [\n',
        b'{"schema": ' + b"9" * 5000 + b',\n"frames": [\n]}\n',
    ],
    ids=["empty", "bytes", "list", "no frames", "broken", "no fields", "deep", "long"],
)
def test_garbage_is_no_manifest(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_manifest(str(path)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema": 2', '"schema": 3'),
        ('"count": 1', '"count": "1"'),
        ('"opaque": true', '"opaque": null'),
        ('"digest": "', '"more": 1, "digest": "'),
        ('"etag"', '"tag"'),
        ('"length": 1000', '"length": null'),
        ('"fingerprint": "1-2",\n', ""),
    ],
)
def test_a_manifest_of_another_make_is_none(path: Path, old: str, new: str) -> None:
    write(path, [span()])
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    assert read_manifest(str(path)) is None


def test_where_there_is_no_file_there_is_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(str(tmp_path / "manifest.json")) is None
    assert read_manifest(str(tmp_path)) is None


def test_an_error_while_splitting_leaves_the_folder_as_it_was(path: Path) -> None:
    def broken() -> Iterator[Span]:
        yield span()
        raise SplitError("frame 1 breaks off")

    for before in ([], ["manifest.json"]):
        with pytest.raises(SplitError):
            write_manifest(str(path), broken(), source=SOURCE, fingerprint="3-4", delimiter="|")
        assert [entry.name for entry in path.parent.iterdir()] == before
        manifest = write(path, [span()])
        assert manifest.fingerprint == "1-2"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", -1),
        ("width", -100),
        ("height", 10**400),
        ("formats", {"gif": "<b>"}),
        ("formats", {"<b>": 3}),
        ("source", {"fetched_at": 7}),
        ("source", {"etag": ["x"]}),
        ("source", {"length": -5}),
    ],
)
def test_a_head_that_cannot_be_is_none(field: str, value: object, path: Path) -> None:
    write(path, [span()])
    lines = path.read_text().splitlines(keepends=True)
    number = next(at for at, line in enumerate(lines) if line.startswith(f'"{field}": '))
    before = json.loads("{" + lines[number].rstrip(",\n") + "}")[field]
    new = {**before, **value} if isinstance(value, dict) else value
    lines[number] = f"{json.dumps(field)}: {json.dumps(new)},\n"
    path.write_text("".join(lines))
    assert read_manifest(str(path)) is None


def test_a_frame_that_is_turned_has_its_orientation_in_its_line_and_another_digest(path: Path) -> None:
    upright = write(path, [span(0, "jpeg")])
    text = path.read_text()
    assert "orientation" not in text
    manifest = write(path, [span(0, "jpeg")._replace(orientation=6)])
    assert [frame.orientation for frame in manifest.frames()] == [6] == [manifest.last_frame().orientation]
    assert manifest.digest != upright.digest
    assert path.read_text().count('"orientation": 6}') == 1


def test_gifs_made_of_frames_that_are_turned_have_other_names(path: Path) -> None:
    spans = [span(0, "jpeg")._replace(orientation=orientation) for orientation in ORIENTATIONS]
    names = [frame.converted_name for frame in write(path, spans).frames()]
    assert names == [f"{0:064x}.gif", *(f"{0:064x}-{orientation}.gif" for orientation in range(2, 9))]


@pytest.mark.parametrize("value", ["0", "9", "-1", "true", "null", '"6"', "6.0", "[6]"])
def test_an_orientation_that_cannot_be_is_an_error(path: Path, value: str) -> None:
    manifest = write(path, [span(0, "jpeg")._replace(orientation=6)])
    path.write_text(path.read_text().replace('"orientation": 6', f'"orientation": {value}'))
    with pytest.raises(ManifestError, match="is damaged: frame 0 cannot be read; remove it and run again"):
        list(manifest.frames())


@pytest.mark.parametrize(
    ("format", "outdated"), [("jpeg", True), ("png", True), ("gif", False), ("webp", False), ("bmp", False)]
)
def test_one_of_an_older_version_is_read_and_outdated_if_frames_might_be_turned(
    path: Path, format: str, outdated: bool
) -> None:
    manifest = write(path, [span(0, format), span(1)])
    assert not manifest.outdated
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    older = read_manifest(str(path))
    assert older == replace(manifest, schema=1)
    assert older.outdated is outdated
    assert list(older.frames()) == list(manifest.frames())
    there = path.with_name("copy.json")
    copy_manifest(older, str(there), source=SOURCE, same_as="2026-11-23")
    copied = read_manifest(str(there))
    assert copied and copied.schema == 1
