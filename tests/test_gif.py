from __future__ import annotations

import io
import json
import queue
import random
import shutil
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import encode, gif, noise, raw_gif
from PIL import Image, ImageSequence

from imagetl_luigi.errors import FrameError, ParameterError
from imagetl_luigi.formats import parse_gif
from imagetl_luigi.gif import LONGEST_HEAD, Recipe, check_timing, combine, find_recipe, read_recipe, relabel
from imagetl_luigi.settings import Limits
from imagetl_luigi.split import split_stream

Pixels = NDArray[np.uint8]
"""Pictures as an array of shape (frames, height, width, 4), or one without the first axis."""

Decoder = Callable[[bytes], Pixels]

GREY_RAMP = bytes(level for level in range(0, 256, 17) for _ in "rgb")

RECIPE = Recipe(source="0123456789abcdef", delimiter=r"\n\n\n\n", delay=None, loop=0, stream="sha256", frames="digest")


# --- Decoders: each is given an animation and returns what it shows, frame by frame.


def by_pillow(clip: bytes) -> Pixels:
    with Image.open(io.BytesIO(clip)) as animation:
        screen = (0, 0, *animation.size)  # which Pillow enlarges for a frame that hangs over it
        frames = [frame.convert("RGBA").crop(screen) for frame in ImageSequence.Iterator(animation)]
    return np.stack([np.asarray(frame) for frame in frames])


@pytest.fixture(scope="session")
def by_ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    path = tmp_path_factory.mktemp("ffmpeg") / "clip.gif"
    command = [_program("ffmpeg"), "-v", "error", "-i", path]
    command += ["-f", "rawvideo", "-pix_fmt", "rgba", "-fps_mode", "passthrough", "-"]

    def decode(clip: bytes) -> Pixels:
        path.write_bytes(clip)
        return _as_frames(subprocess.run(command, capture_output=True, check=True).stdout, clip)

    return decode


PAGE = b"""<!doctype html><link rel="icon" href="data:,"><script type="module">
async function show(data) {
  const decoder = new ImageDecoder({data, type: "image/gif"})
  await decoder.tracks.ready
  await decoder.completed
  const {frameCount, repetitionCount} = decoder.tracks.selectedTrack
  const delays = [], pixels = []
  for (let frameIndex = 0; frameIndex < frameCount; frameIndex++) {
    const {image} = await decoder.decode({frameIndex})
    const {displayWidth: width, displayHeight: height} = image
    const canvas = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true})
    canvas.drawImage(image, 0, 0)
    delays.push(image.duration / 1000)
    pixels.push(canvas.getImageData(0, 0, width, height).data)
    image.close()
  }
  return [JSON.stringify({delays, repeats: String(repetitionCount)}), "\\n", ...pixels]
}
for (;;) {
  const data = await (await fetch("/clip")).arrayBuffer()
  if (!data.byteLength) break
  const shown = await show(data).catch(error => [JSON.stringify({error: String(error)})])
  await fetch("/shown", {method: "POST", body: new Blob(shown)})
}
</script>"""


class Chromium:
    """A browser with one page, which asks for an animation, posts what its ImageDecoder makes of it, and asks again."""

    FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")

    def __init__(self, profile: Path) -> None:
        clips, shown = self.clips, self.shown = queue.Queue[bytes](), queue.Queue[bytes]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # one connection, and so one thread, for all tests

            def do_GET(self) -> None:
                self._answer(clips.get() if self.path == "/clip" else PAGE)

            def do_POST(self) -> None:
                shown.put(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        command = [_program("chromium"), *self.FLAGS, *self.QUIET, f"--user-data-dir={profile}"]
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever).start()
        self.process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{self.server.server_port}/"], stderr=subprocess.DEVNULL
        )

    def ask(self, clip: bytes) -> tuple[dict[str, Any], Pixels]:
        """What the browser tells of an animation, and what it shows."""
        self.clips.put(clip)
        told, _, pixels = self.shown.get(timeout=120).partition(b"\n")
        answer = json.loads(told)
        assert "error" not in answer, answer
        return answer, _as_frames(pixels, clip)

    def decode(self, clip: bytes) -> Pixels:
        return self.ask(clip)[1]

    def close(self) -> None:
        self.clips.put(b"")  # the page waits for it
        self.process.terminate()
        self.process.wait()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    try:
        browser.ask(gif())  # its threads and processes have started before the first test
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="session", params=["Pillow", "ffmpeg", pytest.param("Chromium", marks=pytest.mark.slow)])
def decode(request: pytest.FixtureRequest) -> Decoder:
    match request.param:
        case "Pillow":
            return by_pillow
        case "ffmpeg":
            return request.getfixturevalue("by_ffmpeg")
        case _:
            return request.getfixturevalue("chromium").decode


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name} is not installed")
    assert path
    return path


def _as_frames(pixels: bytes, clip: bytes) -> Pixels:
    width, height = struct.unpack_from("<HH", clip, 6)
    return np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 4)


# --- Frames: drawn without any library, so that what they should show is known.


@dataclass(frozen=True)
class Shot:
    """A GIF of one picture, and what it shows: its screen, clear where nothing is painted."""

    data: bytes
    shows: Pixels


def draw(
    seed: int = 0,
    size: tuple[int, int] = (8, 6),
    *,
    colours: int = 16,
    palette: bytes | None = None,
    code_size: int = 0,
    screen: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    transparent: int | None = None,
    interlaced: bool = False,
    delay: int = 0,
    local: bool = False,
) -> Shot:
    """A picture of random pixels, and of random colours if there is no `palette`."""
    (width, height), (left, top), chance = size, at, random.Random(seed)
    screen = screen or (left + width, top + height)
    bits = (colours - 1).bit_length()
    palette = chance.randbytes(3 << bits) if palette is None else palette
    rgb = np.frombuffer(palette or GREY_RAMP, np.uint8).reshape(-1, 3)
    indexes = np.array([chance.randrange(colours) for _ in range(width * height)]).reshape(height, width)
    picture = np.dstack([rgb[indexes], np.full_like(indexes, 255)])
    picture[indexes == transparent] = 0
    shows = np.zeros((screen[1], screen[0], 4), np.uint8)
    shows[top : top + height, left : left + width] = picture[: screen[1] - top, : screen[0] - left]
    if interlaced:
        indexes = indexes[[*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]]
    code_size = code_size or max(2, bits)
    data = raw_gif(
        lzw(indexes.ravel().tolist(), code_size),
        screen=screen,
        box=(*at, *size),
        palette=palette,
        local=local,
        code_size=code_size,
        before=b"!\xf9\x04" + struct.pack("<BHBB", transparent is not None, delay, transparent or 0, 0),
        packed=0x40 if interlaced else 0,
    )
    return Shot(data, shows)


def lzw(indexes: list[int], code_size: int) -> bytes:
    """Codes of one width, since the code table is cleared before they would grow (GIF89a, appendix F)."""
    clear, codes = 1 << code_size, []
    for start in range(0, len(indexes), clear - 2):
        codes += [clear, *indexes[start : start + clear - 2]]
    bits = "".join(f"{code:0{code_size + 1}b}" for code in reversed([*codes, clear + 1]))
    return int(bits, 2).to_bytes(len(bits) // 8 + 1, "little")


def by_others(data: bytes) -> Shot:
    """A GIF that a library wrote: it shows what Pillow shows."""
    shows = by_pillow(data)[0]
    return Shot(data, np.where(shows[..., 3:] > 0, shows, 0))


def combined(frames: list[bytes], screen: tuple[int, int], opaque: bool, recipe: Recipe = RECIPE) -> bytes:
    out = io.BytesIO()
    assert list(combine(frames, out, screen=screen, opaque=opaque, recipe=recipe)) == [*range(1, len(frames) + 1)]
    return out.getvalue()


def clip_of(shots: list[Shot], **timing: Any) -> tuple[bytes, Pixels]:
    """The animation of the shots, and what it should show."""
    height, width = np.max([shot.shows.shape[:2] for shot in shots], axis=0).tolist()
    expected = np.zeros((len(shots), height, width, 4), np.uint8)
    for canvas, shot in zip(expected, shots, strict=True):
        canvas[: shot.shows.shape[0], : shot.shows.shape[1]] = shot.shows
    opaque = all(parse_gif(shot.data, 0).opaque and shot.shows.shape[:2] == (height, width) for shot in shots)
    return combined([shot.data for shot in shots], (width, height), opaque, replace(RECIPE, **timing)), expected


SIZES = [(8, 6), (4, 5), (6, 3), (2, 2), (8, 6), (1, 1), (8, 6), (8, 6)]
KINDS = {
    "opaque": [draw(seed) for seed in range(4)],
    "one palette": [draw(seed, palette=bytes(range(48))) for seed in range(4)],
    "local palettes": [draw(seed, local=True) for seed in range(4)],
    "no palette": [draw(seed, palette=b"") for seed in range(4)],
    "palettes of 2 to 256": [draw(colours, (20, 20), colours=colours) for colours in (2, 3, 4, 17, 128, 129, 256)],
    "repeated": [draw()] * 4,
    "repeated and transparent": [draw(transparent=1)] * 4,
    "transparent": [draw(seed, transparent=seed) for seed in range(4)],
    "transparent, of 256": [draw(seed, (20, 20), colours=256, transparent=seed) for seed in range(4)],
    "transparent beyond the palette": [draw(seed, transparent=200) for seed in range(4)],
    "mixed sizes": [draw(seed, size) for seed, size in enumerate(SIZES)],
    "mixed sizes, small first": [draw(seed, size) for seed, size in enumerate(SIZES[1:])],
    "mixed sizes, long codes": [draw(seed, size, code_size=8) for seed, size in enumerate(SIZES[1:])],
    "mixed sizes, of 256": [draw(seed, size, colours=256) for seed, size in enumerate(SIZES)],
    "mixed sizes, of 256, small first": [draw(seed, size, colours=256) for seed, size in enumerate(SIZES[1:])],
    "smaller than the screen": [draw(seed, (4, 3), screen=(8, 6), at=(seed, 2)) for seed in range(4)],
    "smaller, of 256": [draw(seed, (4, 3), screen=(8, 6), at=(seed, 2), colours=256) for seed in range(4)],
    "opaque and transparent": [draw(seed, transparent=seed if seed % 2 else None) for seed in range(5)],
    "opaque of 256 and transparent": [draw(0, colours=256), draw(1, transparent=1), draw(2, colours=256), draw(3)],
    "interlaced": [draw(seed, (9, height), interlaced=True) for seed, height in enumerate((19, 3, 1, 8))],
    "a single one": [draw()],
    "a single small one": [draw(1, (4, 3), screen=(8, 6), at=(1, 1))],
    "by Pillow": [by_others(gif((30, 20), seed, colours)) for seed, colours in enumerate((2, 9, 64, 256))],
    "by Pillow, transparent": [by_others(gif((30, 20), seed, transparency=seed)) for seed in range(4)],
    "by Pillow, interlaced": [by_others(gif((20, 30), seed, interlace=1)) for seed in range(4)],
    "by Pillow, mixed sizes": [by_others(gif(size, seed, 256)) for seed, size in enumerate(SIZES)],
}


def check_shown(shown: Pixels, expected: Pixels, behind: bytes = b"") -> None:
    """Every painted pixel is as it should be, and behind them is nothing, or all over the same colour `behind`."""
    painted = expected[..., 3] > 0
    assert shown.shape == expected.shape
    assert np.array_equal(shown[painted], expected[painted])
    assert not shown[~painted][:, 3].any() or {pixel.tobytes()[:3] for pixel in shown[~painted]} == {behind}


def first_colour(shot: Shot) -> bytes:
    """Behind an opaque first frame whose 256 colours may all be in use, Pillow paints the first of them."""
    start, _ = parse_gif(shot.data, 0).palette
    return shot.data[start : start + 3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_shown_as_it_was_alone(decode: Decoder, kind: str) -> None:
    clip, expected = clip_of(KINDS[kind])
    check_shown(decode(clip), expected, first_colour(KINDS[kind][0]) if decode is by_pillow else b"")


def drawn() -> st.SearchStrategy[Shot]:
    side = st.integers(1, 20)
    return st.builds(
        draw,
        seed=st.integers(0, 999),
        size=st.tuples(side, side),
        colours=st.integers(2, 256),
        code_size=st.sampled_from([0, 8]),
        screen=st.sampled_from([None, (24, 24)]),
        at=st.tuples(st.integers(0, 4), st.integers(0, 4)),
        transparent=st.none() | st.integers(0, 255),
        interlaced=st.booleans(),
        delay=st.integers(0, 65535),
        local=st.booleans(),
    )


@pytest.mark.slow
@given(shots=st.lists(drawn(), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_frames_are_shown_as_they_were_alone(decode: Decoder, shots: list[Shot]) -> None:
    clip, expected = clip_of(shots)
    check_shown(decode(clip), expected, first_colour(shots[0]) if decode is by_pillow else b"")


def test_the_notebooks_frames_are_shown_as_they_were_alone(decode: Decoder, real_stream: Path) -> None:
    stream = real_stream.read_bytes()
    spans = split_stream(lambda offset, _: (stream, offset), len(stream), b"\n\n\n\n", Limits())
    shots = [by_others(stream[span.offset : span.offset + span.length]) for span in spans]
    clip, expected = clip_of(shots)
    assert expected.shape == (27, 375, 500, 4)
    check_shown(decode(clip), expected)


def test_a_frame_that_hangs_over_its_screen_does_not_enlarge_it(decode: Decoder) -> None:
    clip, expected = clip_of([draw(0), draw(1, (4, 3), screen=(8, 6), at=(6, 4)), draw(2)])
    check_shown(decode(clip), expected)


def test_of_several_pictures_the_first_is_taken(decode: Decoder) -> None:
    several = [encode(noise(seed=s), "GIF", save_all=True, append_images=[noise(seed=s + 1)]) for s in range(3)]
    shots = [by_others(data) for data in several]
    assert by_pillow(several[0]).shape[0] == 2
    clip, expected = clip_of(shots)
    check_shown(decode(clip), expected)


# --- What stands in the file.


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_pictures_go_over_byte_for_byte_and_in_order(kind: str) -> None:
    clip, _ = clip_of(KINDS[kind])
    position = 0
    for shot in KINDS[kind]:
        codes = shot.data[slice(*parse_gif(shot.data, 0).data)]
        position = clip.index(codes, position) + len(codes)
    assert clip[position:] == b";"


def test_equal_palettes_are_written_once() -> None:
    palette = bytes(range(48))
    clip, _ = clip_of([draw(seed, palette=palette, local=seed > 1) for seed in range(4)])
    assert clip.count(palette) == 1


def test_there_is_no_global_palette_where_the_canvas_shows() -> None:
    palette = bytes(range(48))
    clip, _ = clip_of([draw(seed, palette=palette, transparent=1) for seed in range(4)])
    assert clip[10] & 0x80 == 0
    assert clip.count(palette) == 4


def test_comments_and_application_blocks_of_the_frames_are_dropped() -> None:
    comment, application = b"!\xfe\x05hello\0", b"!\xff\x0bXMP DataXMP\x04data\0"
    frame = raw_gif(lzw([1] * 16, 2), before=comment + application)
    clip = combined([frame, frame], (4, 4), True)
    assert b"hello" not in clip
    assert b"XMP" not in clip
    assert clip.count(b"!\xfe") == 1  # our own


LOOPS = [(0, 0, "Infinity"), (1, None, "0"), (2, 1, "1"), (3, 2, "2"), (65536, 65535, "65535")]


@pytest.mark.parametrize(("loop", "written", "repeats"), LOOPS)
def test_the_loop_block_counts_the_repeats(loop: int, written: int | None, repeats: str) -> None:
    clip, _ = clip_of(KINDS["opaque"], loop=loop)
    assert (b"NETSCAPE2.0" in clip) == (written is not None)
    with Image.open(io.BytesIO(clip)) as animation:
        assert animation.info.get("loop") == written


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "written", "repeats"), LOOPS)
def test_a_browser_plays_it_as_often_as_asked(chromium: Chromium, loop: int, written: int | None, repeats: str) -> None:
    told, _ = chromium.ask(clip_of(KINDS["opaque"], loop=loop)[0])
    assert told["repeats"] == repeats


DELAYS = [  # the frames' own, in hundredths of a second; the parameter; what is shown, in milliseconds
    ([4, 5, 65535], None, [40, 50, 655350]),
    ([4, 0, 0], None, [40, 100, 100]),
    ([4, 0, 9], 40, [40, 40, 40]),
    ([4, 0, 9], 655350, [655350] * 3),
]


def _timed(delays: list[int]) -> list[Shot]:
    return [draw(delay=delay) for delay in delays]


@pytest.mark.parametrize(("own", "delay", "shown"), [*DELAYS, ([4, 0, 9], 0, [0, 0, 0]), ([1], None, [10])])
def test_a_frames_own_delay_gives_way_to_the_parameter(own: list[int], delay: int | None, shown: list[int]) -> None:
    clip, _ = clip_of(_timed(own), delay=delay)
    with Image.open(io.BytesIO(clip)) as animation:
        assert [frame.info.get("duration", 0) for frame in ImageSequence.Iterator(animation)] == shown


@pytest.mark.slow
@pytest.mark.parametrize(("own", "delay", "shown"), DELAYS)
def test_a_browser_shows_each_frame_that_long(
    chromium: Chromium, own: list[int], delay: int | None, shown: list[int]
) -> None:
    told, _ = chromium.ask(clip_of(_timed(own), delay=delay)[0])
    assert told["delays"] == shown


@pytest.mark.parametrize(("delay", "loop"), [(None, 0), (0, 1), (10, 2), (655350, 65536)])
def test_timing_that_a_gif_can_say_is_taken(delay: int | None, loop: int) -> None:
    check_timing(delay, loop)


@pytest.mark.parametrize("delay", [-10, 5, 41, 655360])
def test_a_delay_that_a_gif_cannot_say_is_refused(delay: int) -> None:
    with pytest.raises(ParameterError, match=f"delay = {delay} is not possible.*multiples of 10"):
        check_timing(delay, 0)


@pytest.mark.parametrize("loop", [-1, 65537])
def test_a_loop_that_a_gif_cannot_say_is_refused(loop: int) -> None:
    with pytest.raises(ParameterError, match=f"loop = {loop} is not possible"):
        check_timing(None, loop)


# --- What cannot be combined.


@pytest.mark.parametrize("screen", [(65536, 1), (1, 65536)])
def test_a_screen_larger_than_a_gif_may_have_is_refused(screen: tuple[int, int]) -> None:
    with pytest.raises(FrameError, match=f"{screen[0]} × {screen[1]} pixels"):
        combined([gif()], screen, False)


def test_the_largest_screen_is_possible() -> None:
    clip = combined([gif()], (65535, 65535), False)
    assert parse_gif(clip, 0).screen == (65535, 65535)


@pytest.mark.parametrize(
    "damaged", [b"", b"GIF89a", gif()[:-9], gif()[:40], b"GIF89a" + b"\xff" * 90, encode(noise(), "PNG")]
)
def test_a_frame_that_is_no_whole_gif_is_named(damaged: bytes) -> None:
    with pytest.raises(FrameError, match="frame 2 is not a whole GIF"):
        combined([gif(), gif(), damaged], (12, 8), True)


def test_each_frame_is_written_before_the_next_is_read() -> None:
    frame = gif((100, 100))
    start, end = parse_gif(frame, 0).data
    out = io.BytesIO()

    def frames() -> Iterator[bytes]:
        for index in range(5):
            assert out.getvalue().count(frame[start:end]) == index
            yield frame

    assert len(list(combine(frames(), out, screen=(100, 100), opaque=True, recipe=RECIPE))) == 5


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    frame = gif((300, 300), colours=256)
    copies = (bytes(bytearray(frame)) for _ in range(50))
    with open(tmp_path / "clip.gif", "wb") as out:
        tracemalloc.start()
        try:
            assert len(list(combine(copies, out, screen=(300, 300), opaque=True, recipe=RECIPE))) == 50
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * len(frame)  # the last frame, and two while the next is copied


# --- The recipe.


@given(
    recipe=st.builds(
        Recipe,
        source=st.text(),
        delimiter=st.text() | st.text(min_size=1).map(lambda text: text * 500),
        delay=st.none() | st.integers(0, 655350),
        loop=st.integers(0, 65536),
        stream=st.text(),
        frames=st.text(),
    )
)
@example(replace(RECIPE, delimiter=r"\xff" * 128 * 1024))
@settings(max_examples=60, deadline=None)
def test_an_animation_tells_its_recipe(recipe: Recipe) -> None:
    assert read_recipe(combined([gif(colours=256)], (12, 8), True, recipe)[:LONGEST_HEAD]) == recipe


def _comment(text: bytes) -> bytes:
    pieces = [text[start : start + 255] for start in range(0, len(text), 255)]
    return b"!\xfe" + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


HEAD = b"GIF89a\1\0\1\0\0\0\0"


def _marked(text: bytes) -> bytes:
    return HEAD + _comment(b"imagetl_luigi " + text)


@given(head=st.binary() | st.binary().map(lambda text: HEAD + text) | st.binary().map(_marked))
@example(head=_marked(b"[" * 100_000))
@example(head=_marked(b'{"source": 1}'))
@example(head=_marked(b"[]"))
def test_what_is_not_ours_has_no_recipe(head: bytes) -> None:
    assert read_recipe(head) is None


def test_a_recipe_behind_foreign_blocks_is_found() -> None:
    foreign = b"!\xff\x0bXMP DataXMP\x04data\0" + _comment(b"hello")
    assert read_recipe(HEAD + foreign + _comment(RECIPE.to_comment()) + b",") == RECIPE


def test_a_recipe_that_breaks_off_is_none() -> None:
    head = HEAD + _comment(RECIPE.to_comment())
    assert [read_recipe(head[:length]) for length in range(len(head) - 1)] == [None] * (len(head) - 1)


# Another label


@pytest.mark.parametrize("loop", [0, 1])
@pytest.mark.parametrize("opaque", [False, True])
def test_with_another_recipe_only_the_comment_is_another(tmp_path: Path, loop: int, opaque: bool) -> None:
    clip = combined([gif((4, 4), seed=seed) for seed in range(3)], (4, 4), opaque, replace(RECIPE, loop=loop))
    other = replace(RECIPE, loop=loop, source="f" * 700)
    out = io.BytesIO()
    relabel(io.BytesIO(clip), out, other)
    assert read_recipe(out.getvalue()) == other
    back = io.BytesIO()
    relabel(io.BytesIO(out.getvalue()), back, replace(RECIPE, loop=loop))
    assert back.getvalue() == clip


@pytest.mark.parametrize(
    "clip",
    [gif(), combined([gif((4, 4))], (4, 4), True, replace(RECIPE, delay=500))],
    ids=["foreign", "another delay"],
)
def test_what_is_not_the_same_animation_gets_no_label(clip: bytes) -> None:
    out = io.BytesIO()
    with pytest.raises(FrameError, match="was replaced while it was used"):
        relabel(io.BytesIO(clip), out, RECIPE)
    assert out.getvalue() == b""


@pytest.mark.parametrize("length", [4, 20_000])
def test_a_recipe_is_found_in_a_file_however_long_it_is(tmp_path: Path, length: int) -> None:
    recipe = replace(RECIPE, delimiter="x" * length)
    path = tmp_path / "clip.gif"
    path.write_bytes(combined([gif((4, 4))], (4, 4), True, recipe))
    assert find_recipe(str(path)) == recipe
    path.write_bytes(gif())
    assert find_recipe(str(path)) is None
