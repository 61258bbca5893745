"""The page of a workspace, in a real browser: what it shows, and what it does not."""

from __future__ import annotations

import io
import mimetypes
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, browser  # noqa: F401 - the fixture
from pictures import encode, exif_of, near, raw_gif, with_exif
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from server import Response, Server, silent
from waiting import until
from workflow import build, stream

from imagetl_luigi import WatchPage

pytestmark = pytest.mark.slow

SIZE = (24, 16)
STANDSTILL = range(700, 820)
"""Frames of `many` that are the one before them."""


def colour(frame: int) -> tuple[int, int, int]:
    """That of a frame, and of no other."""
    return frame % 256, frame // 256 * 25, frame * 7 % 256


def picture(
    shade: tuple[int, int, int], format: str = "GIF", size: tuple[int, int] = SIZE, clear: bool = False, **options: Any
) -> bytes:
    """A frame of one colour; the right half of a `clear` one is transparent."""
    drawn = Image.new("RGBA" if clear else "RGB", size, shade)
    if clear:
        drawn.paste((0, 0, 0, 0), (size[0] // 2, 0, *size))
    elif format == "GIF":
        drawn = Image.new("P", size)
        drawn.putpalette(shade)
    out = io.BytesIO()
    drawn.save(out, format, **options)
    return out.getvalue()


def made(folder: Path, frames: list[bytes], name: str = "cam.img", **parameters: Any) -> Path:
    """The workspace with the page of a stream that is called `name`."""
    source = folder / name
    source.write_bytes(stream(frames))
    workspace = folder / "a # workspace?"
    task = WatchPage(url=str(source), workspace=str(workspace), **parameters)
    assert build(task).scheduling_succeeded and task.complete()
    return workspace


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 frames, each of its own colour."""
    return made(tmp_path_factory.mktemp("few"), [picture(colour(frame)) for frame in range(27)])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 frames; 120 of them are the same as the one before."""
    shown = [STANDSTILL.start - 1 if frame in STANDSTILL else frame for frame in range(2000)]
    return made(tmp_path_factory.mktemp("many"), [picture(colour(frame)) for frame in shown])


class Page:
    """The page in the browser, as a user has it."""

    def __init__(self, browser: Browser) -> None:  # noqa: F811
        self.browser = browser
        self.folder = ""

    def open(
        self, folder: Path | str, *, plays: bool = False, width: int = 800, height: int = 600, **emulated: Any
    ) -> None:
        """Open that of a workspace; it begins to play unless the user wants no motion."""
        self.folder = folder if isinstance(folder, str) else folder.as_uri()
        self.browser.emulate(reduced_motion=not plays, width=width, height=height, **emulated)
        self.browser.open(f"{self.folder}/index.html")

    def run(self, script: str) -> Any:
        return self.browser.run(script)

    def attribute(self, name: str, attribute: str) -> str | None:
        found: str | None = self.run(f"return document.getElementById('{name}').getAttribute('{attribute}')")
        return found

    @property
    def frame(self) -> int | None:
        """The one that the canvas shows from its own file."""
        found = self.attribute("stage", "data-frame")
        return None if found is None else int(found)

    @property
    def plays(self) -> bool:
        return self.attribute("play", "aria-label") == "Pause"

    def text(self, name: str) -> str:
        found: str = self.run(f"return document.getElementById('{name}').textContent")
        return found

    def shows(self, frame: int, shade: tuple[int, int, int] | None = None) -> None:
        """Wait for a frame; all that is said of it is right, and so is what is seen."""
        until(lambda: self.frame == frame)
        assert self.text("number").startswith(f"Frame {frame + 1:,} of ")
        assert self.attribute("scrubber", "aria-valuetext") == self.attribute("stage", "aria-label")
        assert self.run("return document.getElementById('scrubber').value") == str(frame + 1)
        assert near(self.browser.pixel("#stage", 20, 20), colour(frame) if shade is None else shade)

    def click(self, name: str, x: float = 0.5) -> None:
        """Click on an element, so far from its left edge as a part of its width."""
        element = self.browser.driver.find_element(By.ID, name)
        off = round((x - 0.5) * (element.size["width"] - 1))
        ActionChains(self.browser.driver, duration=0).move_to_element_with_offset(element, off, 0).click().perform()

    def scrub(self, *frames: int) -> None:
        """Move the slider to one frame after the other, so fast that nothing is drawn between."""
        self.run(
            "const scrubber = document.getElementById('scrubber');"
            f"for (const frame of {[*frames]}) {{"
            "  scrubber.value = frame + 1; scrubber.dispatchEvent(new Event('input'));"
            "}"
        )

    def draws(self, times: int) -> None:
        """Let the browser draw so often: 60 times a second, if it can."""
        self.run(
            f"let left = {times}; const next = done => left-- ? requestAnimationFrame(() => next(done)) : done();"
            "return new Promise(next)"
        )

    def focus(self, name: str) -> None:
        self.run(f"document.getElementById('{name}').focus()")

    def record(self) -> None:
        """From now on, note which frames are shown, and when."""
        self.run(
            "const stage = document.getElementById('stage'); window.seen = [];"
            "const note = () => { if (stage.dataset.frame) seen.push([+stage.dataset.frame, performance.now()]); };"
            "new MutationObserver(note).observe(stage, {attributeFilter: ['data-frame']})"
        )

    @property
    def seen(self) -> list[tuple[int, float]]:
        return [(frame, at) for frame, at in self.run("return seen")]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:  # noqa: F811
    """No test leaves an error in the console, or has anything asked for that is not in the workspace."""
    opened = Page(browser)
    yield opened
    assert browser.errors() == []
    outside = [url for url in browser.requests() if not url.startswith(f"{opened.folder}/")]
    assert outside == []


def serve(server: Server, folder: Path) -> str:
    """The URL at which a static server has the files of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            server.put(f"/some/where/{path.relative_to(folder)}", path.read_bytes(), **{"Content-Type": kind})
    return server.url("/some/where")


# -- every frame --


def test_each_of_27_frames_is_shown_with_its_number_time_and_file_when_stepping(page: Page, few: Path) -> None:
    page.open(few)
    for frame in range(27):
        page.shows(frame)
        assert page.text("number") == f"Frame {frame + 1} of 27"
        assert page.text("time") == f"{frame / 10:.2f} s"
        assert page.text("file") == f"frame_{frame:02}.gif"
        link = page.run("return document.getElementById('file').href")
        path = few / "frames" / page.text("file")
        assert unquote(urlsplit(link).path) == str(path)
        assert page.text("about") == f"{path.stat().st_size} bytes"
        assert page.text("note") == ""
        page.click("forward")
    page.shows(26)  # there is no further one
    page.click("back")
    page.shows(25)


def test_it_is_the_same_page_behind_a_static_server(server: Server, page: Page, few: Path) -> None:
    page.open(serve(server, few))
    page.shows(0)
    page.browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.shows(2)
    asked = {request.path.partition("?")[0].removeprefix("/some/where/") for request in server.requests}
    assert asked == {"index.html", "contact-sheet.jpg", *(f"frames/frame_{frame:02}.gif" for frame in range(11))}


def test_any_of_2000_frames_is_shown_by_scrubbing_keys_and_clicks(page: Page, many: Path) -> None:
    page.open(many)
    page.shows(0)
    page.focus("stage")
    page.browser.press(Keys.END)
    page.shows(1999)
    page.browser.press(Keys.PAGE_UP)
    page.shows(1989)
    page.browser.press(Keys.HOME, Keys.PAGE_DOWN, Keys.PAGE_DOWN)
    page.shows(20)
    page.focus("scrubber")
    page.browser.press(Keys.ARROW_RIGHT)
    page.shows(21)
    for part in (0.25, 0.9):
        page.click("chart", part)
        until(lambda: page.frame is not None)
        assert page.frame is not None and abs(page.frame - part * 2000) < 6
        page.shows(page.frame)
    for frame in (1234, 3, 1801, 256):
        page.scrub(frame)
        page.shows(frame)
    page.click("thumbnails", 0.0)
    until(lambda: page.frame is not None and page.frame < 256)
    assert page.frame is not None and page.frame >= 248  # the strip had followed, and begins a few frames before
    page.shows(page.frame)
    assert page.run("return document.querySelectorAll('*').length") < 600
    assert page.run("return files.size") <= 64


def test_scrubbing_fast_ends_at_exactly_the_last_frame_that_was_asked_for(
    server: Server, page: Page, many: Path
) -> None:
    def only(response: Response) -> None:
        if "frames/" in response.request.path and "frame_1500" not in response.request.path:
            silent(response)

    page.open(serve(server, many))
    page.shows(0)
    server.always(only)
    page.scrub(*range(1501))
    page.shows(1500)
    page.browser.press(Keys.ARROW_LEFT)  # which never comes
    until(lambda: page.text("number") == "Frame 1,500 of 2,000")
    assert page.frame is None
    # from the contact sheet, a JPEG
    assert near(page.browser.pixel("#stage", 20, 20), colour(1499), by=12)


def test_dragging_over_the_chart_shows_the_frame_below_also_with_a_finger(page: Page, many: Path) -> None:
    page.open(many)
    chart = page.browser.driver.find_element(By.ID, "chart")
    actions = ActionChains(page.browser.driver, duration=20).move_to_element(chart).click_and_hold()
    for _ in range(10):
        actions.move_by_offset(10, 0)
    actions.release().perform()
    expected = 2000 * (0.5 + 100 / chart.size["width"])
    until(lambda: page.frame is not None and abs(page.frame - expected) < 5)

    page.open(many, width=390, height=844, mobile=True)
    box = page.run(
        "const chart = document.getElementById('chart'); chart.scrollIntoView({block: 'center'});"
        "return chart.getBoundingClientRect().toJSON()"
    )
    middle, scrolled = box["top"] + box["height"] / 2, page.run("return scrollY")

    def touch(kind: str, *points: dict[str, float]) -> None:
        page.browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    touch("touchStart", {"x": 200, "y": middle})
    for up in range(10, 200, 10):
        touch("touchMove", {"x": 200 + up % 3, "y": middle - up})
    touch("touchEnd")
    until(lambda: page.run("return scrollY") > scrolled)
    assert page.text("number") == "Frame 1 of 2,000"  # to scroll the page is not meant for the chart
    page.run("document.getElementById('chart').scrollIntoView({block: 'center'})")
    touch("touchStart", {"x": box["left"] + 20, "y": middle})
    for x in range(30, 200, 10):
        touch("touchMove", {"x": box["left"] + x, "y": middle})
    touch("touchEnd")
    until(lambda: page.frame is not None and abs(page.frame - 190 / box["width"] * 2000) < 20)


def test_the_list_goes_through_all_frames_some_at_a_time_and_shows_each(page: Page, many: Path) -> None:
    page.open(many)
    assert page.text("range") == "Frames 1 to 30 of 2,000"
    assert not page.browser.driver.find_element(By.ID, "previous").is_enabled()
    for _ in range(23):
        page.run("document.getElementById('next').click()")
    assert page.text("range") == "Frames 691 to 720 of 2,000"
    rows = page.browser.texts("#rows tr")
    assert rows[8].split(maxsplit=4)[:4] == ["699", "69.80", "s", "frame_0698.gif"]
    assert not rows[9].endswith("the same as frame 700")
    assert all(row.endswith("the same as frame 700") for row in rows[10:])
    links = page.run("return [...document.querySelectorAll('#rows a')].map(link => link.href)")
    assert [Path(unquote(urlsplit(link).path)).is_file() for link in links] == [True] * 30
    page.browser.driver.find_element(By.CSS_SELECTOR, "#rows tr:nth-child(15) button").click()
    page.shows(704, colour(699))
    assert page.text("note") == "the same as frame 700"
    assert page.run("return document.querySelector('tr.current').dataset.frame") == "704"
    assert page.run("return document.getElementById('stage').getBoundingClientRect().bottom > 0")
    page.browser.press(Keys.ARROW_RIGHT)
    page.shows(705, colour(699))


def test_a_camera_that_got_stuck_shows_in_the_chart_and_in_words(page: Page, many: Path) -> None:
    page.open(many, scheme="light")
    assert "120 frames repeat an earlier one; the longest standstill is 121 frames from frame 700 on." in (
        " ".join(text) for text in (found.split() for found in page.browser.texts("main .note"))
    )
    seen = page.browser.pixels("#chart")
    y = seen.height - 30
    plain, alarm = (11, 98, 196), (163, 77, 0)
    row = [seen.getpixel((x, y)) for x in range(4, seen.width)]
    stuck = [x + 4 for x, shade in enumerate(row) if shade == alarm]
    assert set(row) == {plain, alarm}  # no gap and no shade in between
    assert abs(stuck[0] / seen.width - 0.35) < 0.003 and abs(stuck[-1] / seen.width - 0.41) < 0.003
    assert stuck == list(range(stuck[0], stuck[-1] + 1))


# -- playing --


def test_it_plays_by_itself_pauses_and_goes_on(page: Page, few: Path) -> None:
    page.open(few, plays=True)
    until(lambda: (page.frame or 0) > 2)
    assert page.plays
    # a screen reader that is on them says nothing from frame to frame
    assert page.attribute("stage", "aria-label") == page.attribute("scrubber", "aria-valuetext") == "playing"
    assert page.attribute("number", "aria-live") == "off"
    page.click("play")
    assert not page.plays
    stopped = page.frame
    assert stopped is not None
    page.record()
    page.draws(30)
    assert page.seen == []
    page.shows(stopped)
    assert page.attribute("number", "aria-live") == "polite"
    assert page.attribute("stage", "aria-label") == f"Frame {stopped + 1} of 27, {stopped / 10:.2f} s"
    page.click("stage")
    until(lambda: page.plays and len(page.seen) > 2)
    page.click("forward")
    assert not page.plays


@pytest.mark.parametrize(("speed", "most"), [(1, 1), (8, 8)])
def test_playing_goes_around_in_order_and_no_frame_comes_before_its_time(
    page: Page, tmp_path: Path, speed: int, most: int
) -> None:
    """However slow a browser is, it catches up on 100 ms at the most, in which there are so many frames."""
    delays = [(120, 200, 160, 300)[frame % 4] for frame in range(30)]
    page.open(made(tmp_path, [picture(colour(frame), duration=delays[frame]) for frame in range(30)]))
    page.scrub(27)
    page.shows(27)
    page.record()
    page.run(f"document.getElementById('speed').value = '{speed}'")
    page.click("play")
    until(lambda: len(page.seen) > 5 * speed**0.5)
    page.click("play")
    (at, began), *others = page.seen
    assert at == 27
    due = 0.0
    for frame, time in others:
        assert 0 < (frame - at) % 30 <= most
        while at != frame:
            due += delays[at] / speed
            at = (at + 1) % 30
        assert time - began > due - 50


@pytest.mark.parametrize(
    ("delay", "times"), [(None, ["0.00", "0.04", "0.24", "1.24"]), (50, ["0.00", "0.05", "0.10", "0.15"])]
)
def test_times_are_those_of_the_animation(page: Page, tmp_path: Path, delay: int | None, times: list[str]) -> None:
    frames = [picture(colour(frame), duration=(40, 200, 1000, 80)[frame]) for frame in range(4)]
    page.open(made(tmp_path, frames, delay=delay))
    for frame, time in enumerate(times):
        page.shows(frame)
        assert page.text("time") == f"{time} s"
        page.browser.press(Keys.ARROW_RIGHT)


def test_what_is_to_be_played_once_stops_at_the_last_frame_and_begins_anew(page: Page, tmp_path: Path) -> None:
    workspace = made(tmp_path, [picture(colour(frame)) for frame in range(7)], loop=1, delay=20)
    page.open(workspace)
    page.run("document.getElementById('speed').value = '8'")
    for _ in range(2):
        page.click("play")
        until(lambda: not page.plays)
        page.shows(6)


def test_one_frame_is_shown_and_there_is_nothing_to_play(page: Page, tmp_path: Path) -> None:
    page.open(made(tmp_path, [picture(colour(5))]), plays=True)
    page.shows(0, colour(5))
    page.browser.press(" ", Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    page.shows(0, colour(5))
    controls = page.browser.driver.find_elements(By.CSS_SELECTOR, ".controls button, .controls select, #scrubber")
    assert len(controls) == 7 and not any(control.is_enabled() for control in controls)


def test_who_wants_no_motion_starts_it_and_who_wants_none_any_more_stops_it(page: Page, few: Path) -> None:
    page.open(few)
    page.shows(0)
    page.draws(30)
    page.shows(0)
    assert not page.plays
    page.click("play")
    until(lambda: (page.frame or 0) > 1)
    page.browser.emulate()
    assert page.plays
    page.browser.emulate(reduced_motion=True)
    until(lambda: not page.plays)


def test_a_frame_that_does_not_come_is_waited_for_and_can_be_passed(server: Server, page: Page, few: Path) -> None:
    def without(response: Response) -> None:
        if "frame_20" in response.request.path:
            silent(response)

    page.open(serve(server, few))
    page.shows(0)
    server.always(without)  # now, or the page would never be complete
    page.run("document.getElementById('speed').value = '8'")
    page.click("play")
    until(lambda: page.text("note") == "waiting for the next frame")
    page.shows(19)
    page.click("last")
    page.shows(26)
    assert page.text("note") == ""


# -- keys, fingers, screen readers --


def test_keys_do_what_the_page_says(page: Page, few: Path) -> None:
    page.open(few)
    page.shows(0)
    page.browser.press(" ")
    assert page.plays
    page.browser.press(" ")
    assert not page.plays
    page.click("first")
    page.browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    page.shows(1)
    page.focus("stage")
    for key, value in [(Keys.ARROW_UP, "2"), (Keys.ARROW_UP, "4"), (Keys.ARROW_DOWN, "2")]:
        page.browser.press(key)
        assert page.run("return document.getElementById('speed').value") == value
    page.browser.press(Keys.END, Keys.PAGE_UP)
    page.shows(16)
    page.browser.press(Keys.HOME)
    page.shows(0)


def test_keys_are_left_to_what_has_the_focus_and_to_the_browser(page: Page, few: Path) -> None:
    page.open(few)
    page.shows(0)
    page.focus("play")
    page.browser.press(" ")
    assert page.plays  # and not twice
    page.browser.press(" ")
    page.click("first")
    page.focus("forward")
    page.browser.press(" ", " ")
    page.shows(2)
    page.click("first")
    page.focus("speed")
    page.browser.press(Keys.ARROW_DOWN)
    assert page.run("return document.getElementById('speed').value") == "2"
    page.browser.press(Keys.ARROW_RIGHT)
    assert page.text("number") == "Frame 1 of 27"
    page.focus("stage")
    page.browser.press(*(modifier + Keys.ARROW_RIGHT for modifier in (Keys.CONTROL, Keys.ALT, Keys.META)))
    page.browser.press(Keys.CONTROL + " ")
    assert page.text("number") == "Frame 1 of 27" and not page.plays
    page.focus("scrubber")
    page.browser.press(Keys.ARROW_UP, Keys.ARROW_RIGHT)  # a slider's own
    page.shows(2)
    page.run("document.activeElement.blur(); scrollTo(0, 0)")
    page.browser.press(Keys.END)
    until(lambda: page.run("return scrollY") > 0)
    assert page.text("number") == "Frame 3 of 27"


def test_the_focus_goes_from_top_to_bottom_and_is_seen(page: Page, few: Path) -> None:
    page.open(few)
    page.shows(0)
    passed = []
    for _ in range(12):
        page.browser.press(Keys.TAB)
        passed.append(
            page.run(
                "const at = document.activeElement; const seen = at.id === 'stage' ? at.parentElement : at;"
                "return [at.id, getComputedStyle(seen).outlineStyle, parseFloat(getComputedStyle(seen).outlineWidth)]"
            )
        )
    ids = [name for name, _, _ in passed]
    assert ids[:10] == ["stage", "file", "scrubber", "first", "back", "play", "forward", "last", "speed", "strip"]
    assert all(style == "solid" and width >= 2 for _, style, width in passed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_nobody_is_kept_out_before_and_after_it_is_used(page: Page, many: Path, scheme: str, phone: bool) -> None:
    size = {"width": 390, "height": 844, "mobile": True} if phone else {"width": 1400, "height": 1000}
    page.open(many, scheme=scheme, **size)
    page.shows(0)
    assert page.browser.violations() == []
    page.run("document.getElementById('play').click(); document.getElementById('next').click()")
    until(lambda: (page.frame or 0) > 0)
    page.click("chart", 0.38)
    until(lambda: page.text("note") == "the same as frame 700" and page.frame is not None)
    assert page.browser.violations() == []


def test_on_a_phone_nothing_is_cut_off_and_nothing_jumps(page: Page, many: Path) -> None:
    page.open(many, width=390, height=844, mobile=True)
    tops = set()
    for frame in (0, 9, 99, 705, 1999):
        page.scrub(frame)
        until(lambda frame=frame: page.frame == frame)
        tops.add(page.run("return document.getElementById('scrubber').getBoundingClientRect().top"))
        assert page.run("return document.documentElement.scrollWidth") == 390
    assert len(tops) == 1


# -- frames of all kinds --


def test_frames_of_other_formats_and_sizes_and_transparent_ones_are_shown_as_they_are(
    page: Page, tmp_path: Path
) -> None:
    red, blue = (200, 0, 0), (0, 0, 200)
    frames = [
        picture(red, "PNG"),
        picture(blue, "JPEG", quality=100, subsampling=0),
        picture(red, "WEBP", lossless=True),
        picture(blue, "BMP"),
        picture(red, "PNG", size=(12, 16)),
        picture(blue, "PNG", clear=True),
        picture(
            red, "PNG", save_all=True, append_images=[Image.new("RGB", SIZE, blue)], duration=20
        ),  # an animation, of which the first picture counts
    ]
    page.open(made(tmp_path, frames, delay=70))
    assert page.browser.texts("#rows .note:last-child") == [""] * 7
    for frame, format in enumerate(["png", "jpg", "webp", "bmp", "png", "png", "png"]):
        page.shows(frame, blue if frame in (1, 3, 5) else red)
        seen = page.browser.pixels("#stage")
        right = seen.getpixel((seen.width - 20, 20))
        assert (right == seen.getpixel((20, 20))) == (frame not in (4, 5))
        assert page.text("file").endswith(f".{format}")
        assert page.text("time") == f"{frame * 0.07:.2f} s"
        page.browser.press(Keys.ARROW_RIGHT)


def test_a_file_that_is_gone_or_damaged_is_said_so_and_breaks_nothing(page: Page, few: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "damaged"
    shutil.copytree(few, workspace)
    (workspace / "frames" / "frame_03.gif").unlink()
    (workspace / "frames" / "frame_05.gif").write_bytes(b"GIF89a and no more")
    page.open(workspace)
    for frame in range(8):
        if frame in (3, 5):
            until(lambda: page.text("note") == "its file cannot be shown")
            assert page.frame is None
        else:
            page.shows(frame)
            assert page.text("note") == ""
        page.browser.press(Keys.ARROW_RIGHT)
    page.browser.press(Keys.HOME)
    page.click("first")
    page.click("play")
    until(lambda: (page.frame or 0) > 6)
    gone = "frame_03.gif"
    assert all(gone in error for error in page.browser.errors())


def test_without_its_contact_sheet_it_still_shows_each_frame(page: Page, few: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "bare"
    shutil.copytree(few, workspace)
    (workspace / "contact-sheet.jpg").unlink()
    (workspace / "frames" / "frame_02.gif").unlink()
    page.open(workspace)
    page.browser.press(Keys.ARROW_RIGHT)
    page.shows(1)
    page.browser.press(Keys.ARROW_RIGHT)
    until(lambda: page.text("note") == "its file cannot be shown")
    until(lambda: page.browser.pixel("#stage", 20, 20) not in (colour(1), colour(2)))  # nor is another frame shown
    page.browser.press(Keys.ARROW_RIGHT)
    page.shows(3)
    assert {"contact-sheet.jpg", "frame_02.gif"} == {
        name for error in page.browser.errors() for name in ("contact-sheet.jpg", "frame_02.gif") if name in error
    }


def test_a_frame_that_cannot_be_decoded_is_said_so(page: Page, tmp_path: Path) -> None:
    frames = [picture(colour(0)), picture(colour(1)), raw_gif(b"\xff\xff\xff\xff", screen=SIZE)]
    page.open(made(tmp_path, frames))
    facts = dict(zip(page.browser.texts("dt"), page.browser.texts("dd"), strict=True))
    assert facts["Damaged"] == "1 frame cannot be decoded, the first is frame 3"
    page.focus("stage")
    page.browser.press(Keys.END)
    until(lambda: page.text("note") in ("damaged", "its file cannot be shown"))


ALL_ORIENTATIONS = range(1, 9)


def quarters(format: str, orientation: int) -> bytes:
    """A picture of four colours that is to be turned."""
    drawn = Image.new("RGB", (24, 16), (200, 0, 0))
    drawn.paste((0, 0, 200), (12, 0, 24, 16))
    drawn.paste((0, 200, 0), (0, 8, 12, 16))
    drawn.paste((200, 200, 0), (12, 8, 24, 16))
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    return with_exif(encode(drawn, format, **options), exif_of(orientation))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_page_contact_sheet_and_gif_show_a_picture_that_is_to_be_turned_alike(
    page: Page, tmp_path: Path, format: str
) -> None:
    folder = made(tmp_path, [quarters(format, orientation) for orientation in ALL_ORIENTATIONS])
    page.open(folder)
    sheet = Image.open(folder / "contact-sheet.jpg").convert("RGB")
    columns = page.run("return data.sheet.columns")
    with Image.open(folder / "clip.gif") as animation:
        assert animation.size == (24, 24)  # holds those that lie and those that stand
        for frame, orientation in enumerate(ALL_ORIENTATIONS):
            until(lambda frame=frame: page.frame == frame)
            animation.seek(frame)
            drawn, seen = animation.convert("RGB"), page.browser.pixels("#stage")
            width, height = (16, 24) if orientation > 4 else (24, 16)
            assert page.run(f"return of(data.size, {frame})") == f"{width} × {height}"
            for x, y in ((1, 1), (width - 2, 1), (1, height - 2), (width - 2, height - 2)):
                shade = drawn.getpixel((x, y))
                row, column = divmod(frame, columns)
                assert near(
                    seen.getpixel((int((x + 0.5) * seen.width / 24), int((y + 0.5) * seen.height / 24))), shade, 8
                )
                assert near(sheet.getpixel((column * 96 + 4 * x + 2, row * 96 + 4 * y + 2)), shade, 20)
            page.browser.press(Keys.ARROW_RIGHT)


def test_a_webp_is_turned_neither_on_the_page_nor_in_the_gif(page: Page, tmp_path: Path) -> None:
    drawn = Image.new("RGB", (24, 8), (200, 0, 0))
    drawn.paste((0, 0, 200), (12, 0, 24, 8))
    folder = made(tmp_path, [encode(drawn, "WEBP", lossless=True, exif=exif_of(6))])
    page.open(folder)
    until(lambda: page.frame == 0)
    seen = page.browser.pixels("#stage")
    assert near(seen.getpixel((5, 5)), (200, 0, 0)) and near(seen.getpixel((seen.width - 6, 5)), (0, 0, 200))
    with Image.open(folder / "clip.gif") as animation:
        assert animation.size == (24, 8)


def test_without_scripts_there_are_the_animation_and_the_facts(page: Page, few: Path) -> None:
    page.browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open(few)
        (image,) = page.browser.driver.find_elements(By.CSS_SELECTOR, "img.screen")
        assert image.is_displayed()
        seen = page.browser.pixel("img.screen", 5, 5)
        assert any(near(seen, colour(frame)) for frame in range(27))
        assert "27 GIF" in page.browser.texts("main")[0]
        assert not page.browser.driver.find_element(By.ID, "scrubber").is_displayed()
        assert not page.browser.driver.find_element(By.ID, "rows").is_displayed()
    finally:
        page.browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# -- what is said of where it comes from, whatever that is --


def test_facts_and_links_are_those_of_the_workspace(page: Page, few: Path) -> None:
    page.open(few)
    facts = dict(zip(page.browser.texts("dt"), page.browser.texts("dd"), strict=True))
    manifest = (few / "manifest.json").read_text()
    assert facts["SHA-256"] in manifest and len(facts["SHA-256"]) == 64
    assert facts["Source"] == str(few.parent / "cam.img")
    assert facts["Fetched"].endswith(" UTC")
    assert facts["Frames"].startswith("27 frames of ") and facts["Frames"].endswith("; 27 GIF")
    assert facts["Canvas"] == "24 × 16 pixels"
    assert facts["Duration"] == "2.70 s; 100 ms a frame, over and over"
    links = page.run("return [...document.querySelectorAll('a')].map(link => link.href)")
    files = {Path(unquote(urlsplit(link).path)) for link in links}
    assert files == {few / "clip.gif", few / "manifest.json", *(few / "frames").glob("frame_*")}


HOSTILE = [
    '"><img src=x onerror="document.title=\'hacked\'">',
    "'><script>document.title='hacked'<%2Fscript>#?%&amp;{{ 7 * 7 }}",
    "javascript:document.title='hacked'",
    "</title><svg onload=document.title=1>".replace("/", "\N{DIVISION SLASH}"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_and_does_nothing(page: Page, tmp_path: Path, name: str) -> None:
    workspace = made(tmp_path, [picture(colour(frame)) for frame in range(3)], name=name, gif=f"{name}.gif")
    page.open(workspace)
    _harmless(page, name)
    assert page.browser.texts("h1") == [name]
    gif = page.run("return [...document.querySelectorAll('dd a')].map(link => link.href)")[0]
    assert unquote(urlsplit(gif).path) == str(workspace / f"{name}.gif")


def test_a_hostile_url_is_shown_and_does_nothing(page: Page, tmp_path: Path, server: Server) -> None:
    server.put("/a.img", stream([picture(colour(frame)) for frame in range(3)]))
    url = f"{server.url('/a.img')}?q=\"><script>document.title='hacked'</script><img/src=x/onerror=alert(1)>"
    task = WatchPage(url=url, workspace=str(tmp_path / "workspace"))
    assert build(task).scheduling_succeeded and task.complete()
    page.open(tmp_path / "workspace")
    _harmless(page, "a.img")
    links: list[str] = page.run("return [...document.querySelectorAll('dd a')].map(link => link.href)")
    assert links[0].startswith(server.url("/a.img"))
    assert unquote(page.browser.texts("dd")[0]) == url


def _harmless(page: Page, name: str) -> None:
    page.shows(0)
    page.browser.press(Keys.ARROW_RIGHT)
    page.shows(1)
    assert page.browser.driver.title == f"{name}: 3 frames"
    for selector, count in {"script": 2, "img": 0, "svg": 5, "[onerror], [onload]": 0}.items():
        assert len(page.browser.driver.find_elements(By.CSS_SELECTOR, selector)) == count
    assert page.run("return [...document.links].every(link => /^(file|http):/.test(link.href))")
