"""The gallery's page in a real browser."""

from __future__ import annotations

import datetime
import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, browser  # noqa: F401 - the fixture
from nights import BLUE, GREEN, RED, YELLOW, day, make_night, make_stream, plain
from pictures import near
from s3 import S3
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from waiting import until
from workflow import build, file_url, stream

from imagetl_luigi import Gallery, WatchPage, gallery_page
from imagetl_luigi.survey import Entry, State, survey

pytestmark = pytest.mark.slow

HOSTILE = [
    "<img src=x onerror=document.title='hacked'>",
    "\"><script>document.title='hacked'</script>",
    "a' onmouseover='document.title=1",
    "50% #1?x&y=\\z",
    "two\nlines {{ 7*7 }}",
    "javascript:alert(1)",
    os.fsdecode(b"not \xff utf-8"),
    "größe 日本",
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with "nights" of every state, "cams", and "hostile", whose folders have such names."""
    place = tmp_path_factory.mktemp("roots")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        make_night("nights", 1, [BLUE, RED], delay=40)
        make_night("nights", 2, [BLUE, RED], delay=40)
        make_night("nights", 4, [RED, GREEN])
        make_night("nights", -200, [YELLOW])
        Path(make_night("nights", 5, [BLUE]), "clip.gif").unlink()
        Path(make_night("nights", 6, [BLUE]), "manifest.json").write_text("{}")
        Path("nights/2026-11-07").mkdir()
        Path("nights/2026-11-07/image-data.img.part").touch()
        Path("nights/2026-11-01/index.html").write_text("<title>the night's own</title>")
        make_night("cams/harbour", 1, [RED])
        make_night("cams/harbour", 2, [GREEN])
        make_stream("cams/summit", [BLUE])
        make_stream("plain", [YELLOW])
        for name in HOSTILE:
            shutil.copytree("plain", os.path.join("hostile", name.replace("/", "\u2215")))
        for root in ("nights", "cams", "hostile"):
            assert build(Gallery(root=root)).scheduling_succeeded
    yield place


@pytest.fixture(autouse=True)
def plain_browser(browser: Browser) -> Iterator[None]:  # noqa: F811
    yield
    browser.emulate()


def url(root: Path) -> str:
    return file_url(str(root / "index.html"))


def card(browser: Browser, heading: str) -> str:  # noqa: F811
    """The text of a card."""
    (found,) = (text for text in browser.texts("li.card") if heading in text.splitlines())
    return found


def attributes(browser: Browser, selector: str, name: str) -> list[str]:  # noqa: F811
    found = browser.driver.find_elements(By.CSS_SELECTOR, selector)
    return [str(element.get_attribute(name)) for element in found]


def test_it_shows_the_newest_first_with_date_frames_size_and_state(browser: Browser, roots: Path) -> None:  # noqa: F811
    browser.open(url(roots / "nights"))
    assert browser.texts("h1") == ["nights"]
    assert browser.texts("li.card h3") == [
        *(f"{number} November 2026" for number in (7, 6, 5, 4, 2, 1)),
        gallery_page.words(day(-200)),
    ]
    assert browser.texts("li.card .state") == [
        *("download not finished", "manifest.json is damaged", "no animation in its folder", "complete"),
        *("unchanged since 1 November 2026", "complete", "complete"),
    ]
    shown = card(browser, "1 November 2026")
    for fact in ("2 frames", "16 × 12", f"{(roots / 'nights/2026-11-01/image-data.img').stat().st_size} B"):
        assert fact in shown.replace(",", "")
    assert browser.texts("header p")[0].endswith("3 not complete")
    assert browser.errors() == []


@pytest.mark.parametrize(("number", "colour"), [(6, BLUE), (5, BLUE), (4, GREEN), (2, RED), (1, RED), (-200, YELLOW)])
def test_the_picture_is_that_of_the_newest_frame(
    browser: Browser,  # noqa: F811
    roots: Path,
    number: int,
    colour: tuple[int, int, int],
) -> None:
    browser.open(url(roots / "nights"))
    selector = f"#night-{day(number)} img"
    browser.run(f"document.querySelector('{selector}').scrollIntoView()")
    until(lambda: browser.run(f"return document.querySelector('{selector}').naturalWidth") == 16)
    picture = browser.pixels(selector)
    seen = picture.getpixel((picture.width // 2, picture.height // 2))
    assert near(seen, colour, by=7)
    assert attributes(browser, selector, "alt") == [f"Newest picture of {gallery_page.words(day(number))}"]


def test_links_lead_to_the_page_of_a_night_or_that_of_its_frames_or_the_gif(
    browser: Browser,  # noqa: F811
    roots: Path,
) -> None:
    browser.open(url(roots / "nights"))
    links = dict(zip(browser.texts("li.card h3 a"), attributes(browser, "li.card h3 a", "href"), strict=True))
    assert {
        heading: Path(urlsplit(link).path).relative_to(roots / "nights").as_posix() for heading, link in links.items()
    } == {
        "6 November 2026": "2026-11-06/clip.gif",
        "4 November 2026": "2026-11-04/clip.gif",
        "2 November 2026": "2026-11-01/index.html",
        "1 November 2026": "2026-11-01/index.html",
        gallery_page.words(day(-200)): f"{day(-200)}/clip.gif",
    }
    browser.find("//h3/a[.='2 November 2026']")[0].click()
    until(lambda: browser.driver.title == "the night's own")


def test_the_calendar_has_each_night_by_name_and_shape_and_what_is_missing(
    browser: Browser,  # noqa: F811
    roots: Path,
) -> None:
    browser.open(url(roots / "nights"))
    assert browser.texts("caption") == ["November 2026", "April 2026"]
    assert browser.texts("p.empty") == ["May 2026 to October 2026: no nights"]
    assert attributes(browser, "table:first-of-type th[scope=col] abbr", "title")[:7] == gallery_page._WEEKDAYS
    names = attributes(browser, ".month:first-child a.day", "aria-label")
    assert names == [
        "1 November 2026: 2 frames, complete",
        "2 November 2026: 2 frames, unchanged since 1 November 2026",
        "4 November 2026: 2 frames, complete",
        "5 November 2026: 1 frame, no animation in its folder",
        "6 November 2026: manifest.json is damaged",
        "7 November 2026: download not finished",
    ]
    assert attributes(browser, ".month:first-child a.day", "class") == [
        *("day complete", "day unchanged", "day complete", "day unfinished", "day damaged", "day unfinished")
    ]
    assert attributes(browser, ".month:first-child a.day", "href")[-1] == url(roots / "nights") + f"#night-{day(7)}"
    assert [text.splitlines()[0] for text in browser.texts(".month:first-child .gap")] == ["3"]
    rows = browser.run("return [...document.querySelector('tbody').rows].map(row => row.cells.length)")
    assert rows == [7] * 6
    first = browser.run("return document.querySelector('a.day').closest('td').cellIndex")
    assert first == day(1).weekday()


def test_a_calendar_of_many_years_is_folded_up(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    dates = [datetime.date(2026, 11, 24) - datetime.timedelta(number) for number in range(1000)]
    entries = [
        Entry(
            name=str(date), folder=(str(date),), state=State.COMPLETE, date=date, night=True, frames=27, gif="clip.gif"
        )
        for date in dates
    ]
    (tmp_path / "index.html").write_bytes(gallery_page.render("nights", entries, set()))
    browser.open(url(tmp_path))
    seen = "return [...document.querySelectorAll('caption')].filter(caption => caption.checkVisibility()).length"
    assert browser.run(seen) == gallery_page.OPEN_MONTHS
    assert [text.strip() for text in browser.texts("summary")] == [
        "2026: 243 nights",
        "2025: 365 nights",
        "2024: 307 nights",
    ]
    browser.find("//summary")[-1].send_keys(Keys.ENTER)
    until(lambda: browser.run(seen) > gallery_page.OPEN_MONTHS)
    assert browser.run("return document.querySelectorAll('a.day').length") == 1000
    assert browser.errors() == []


def followed(link: str) -> Path:
    """The file that a file:// URL leads to; it has no query and no fragment."""
    assert "?" not in link and "#" not in link
    return Path(unquote(urlsplit(link).path, errors="surrogateescape"))


def test_names_from_outside_do_nothing_and_their_links_lead_there(browser: Browser, roots: Path) -> None:  # noqa: F811
    browser.open(url(roots / "hostile"))
    assert browser.driver.title == "hostile"
    assert browser.errors() == []
    assert browser.run("return document.querySelectorAll('img, script').length") == len(HOSTILE)
    names = {os.fsencode(entry.name) for entry in survey(str(roots / "hostile"))}
    assert len(names) == len(HOSTILE)
    links = attributes(browser, "li.card h3 a", "href")
    assert {
        os.fsencode(unquote(urlsplit(link).path, errors="surrogateescape").split("/")[-2]) for link in links
    } == names
    for link in links:
        assert "?" not in link and "#" not in link
        assert Path(unquote(urlsplit(link).path, errors="surrogateescape")).read_bytes().startswith(b"GIF89a")
    assert set(browser.texts("li.card h3")) >= {"javascript:alert(1)", "größe 日本", "two lines {{ 7*7 }}"}
    manifest = attributes(browser, "li.card .files a", "href")[-1]
    assert json.loads(followed(manifest).read_text())["count"] == 1


@pytest.mark.parametrize("root", ["nights", "cams", "hostile"])
def test_nothing_is_asked_for_but_pictures_in_the_root(browser: Browser, roots: Path, root: str) -> None:  # noqa: F811
    browser.open(url(roots / root))
    browser.run("for (const image of document.images) image.loading = 'eager'")
    until(lambda: browser.run("return [...document.images].every(image => image.complete)"))
    page, *pictures = browser.requests()
    assert page == url(roots / root)
    assert pictures and all(asked.startswith(file_url(str(roots / root / "_gallery")) + "/") for asked in pictures)
    assert browser.errors() == []


def test_cameras_lead_to_their_own_pages_over_http(browser: Browser, roots: Path) -> None:  # noqa: F811
    handler = functools.partial(Quiet, directory=str(roots / "cams"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            place = f"http://127.0.0.1:{serving.server_port}/"
            browser.open(place)
            assert "2 nights" in card(browser, "harbour") and "newest night: complete" in card(browser, "harbour")
            assert browser.texts("main h2") == ["Workspaces"]
            browser.find("//h3/a[.='harbour']")[0].click()
            until(lambda: browser.texts("h1") == ["harbour"])
            assert browser.texts("li.card h3") == ["2 November 2026", "1 November 2026"]
            until(lambda: browser.run("return [...document.images].every(image => image.naturalWidth)"))
            assert all(asked.startswith(place) for asked in browser.requests())
            assert not [error for error in browser.errors() if "favicon" not in error]
        finally:
            browser.driver.get("about:blank")
            serving.shutdown()
            thread.join()


def test_from_a_bucket_links_lead_down_to_the_page_of_a_night_and_through_its_frames(
    browser: Browser,  # noqa: F811
    s3_server: S3,
    s3: str,
    tmp_path: Path,
) -> None:
    source = tmp_path / "cam.img"
    source.write_bytes(stream(plain(colour, (48, 32)) for colour in (RED, GREEN, BLUE)))
    night = WatchPage(url=str(source), workspace=f"{s3}/cams/harbour/{day(1)}")
    assert build(night).scheduling_succeeded and build(Gallery(root=f"{s3}/cams")).scheduling_succeeded
    browser.emulate(reduced_motion=True)  # or it would play
    with s3_server.public(f"{s3}/cams") as place:
        browser.open(f"{place}/index.html")
        browser.find("//h3/a[.='harbour']")[0].click()
        until(lambda: browser.texts("h1") == ["harbour"])
        until(lambda: near(browser.pixel("li.card img", 24, 16), BLUE, by=8))
        browser.find("//h3/a[.='1 November 2026']")[0].click()
        for frame, colour in enumerate((RED, GREEN, BLUE)):
            until(lambda frame=frame: attributes(browser, "#stage", "data-frame") == [str(frame)])
            assert near(browser.pixel("#stage", 20, 20), colour)
            browser.press(Keys.ARROW_RIGHT)
        asked = browser.requests()
        assert f"{place}/harbour/{day(1)}/frames/frame_02.gif" in {url.partition("?")[0] for url in asked}
        assert [url for url in asked if not url.startswith(f"{place}/")] == browser.errors() == []
        browser.driver.get("about:blank")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static server that logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_can_be_used_by_everybody_in_both_schemes_and_on_a_phone(
    browser: Browser,  # noqa: F811
    roots: Path,
    scheme: str,
    width: int,
) -> None:
    browser.emulate(scheme=scheme, width=width, height=800, mobile=width < 500)  # type: ignore[arg-type]
    for root in ("nights", "cams"):
        browser.open(url(roots / root))
        assert browser.violations() == []
        assert browser.run("return document.documentElement.scrollWidth") <= width


def test_by_keyboard_the_calendar_can_be_skipped_and_the_focus_is_seen(browser: Browser, roots: Path) -> None:  # noqa: F811
    browser.open(url(roots / "nights"))
    browser.press(Keys.TAB)
    focused = browser.driver.switch_to.active_element
    assert focused.text == "Skip to the pictures"
    until(lambda: focused.rect["y"] >= 0)
    browser.press(Keys.ENTER, Keys.TAB)
    focused = browser.driver.switch_to.active_element
    assert focused.get_attribute("href").endswith("2026-11-06/clip.gif")
    assert browser.run("return getComputedStyle(document.activeElement, '::after').outlineStyle") == "solid"
