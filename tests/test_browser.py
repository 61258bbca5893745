"""browser: what it says of a page would otherwise be silent if it did not work."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, browser  # noqa: F401 - the fixture
from PIL import Image
from selenium.webdriver.common.keys import Keys
from waiting import until

pytestmark = pytest.mark.slow

STRICT = "default-src 'none'; img-src 'self' data: file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(folder: Path, body: str, policy: str = STRICT) -> str:
    """The file:// URL of a page with a red picture beside it."""
    Image.new("RGB", (30, 20), (200, 10, 30)).save(folder / "red.png")
    path = folder / "a # page.html"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8>{policy}<title>A page</title><main><h1>A page</h1>{body}"
    )
    return path.as_uri()


def test_violations_are_found_under_a_strict_policy_without_a_request_or_an_error(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    browser.open(page(tmp_path, "<img src=red.png alt=Red>"))
    assert browser.violations() == []
    browser.open(page(tmp_path, "<img src=red.png><p style='color: #ccc; background: #fff'>Pale</p>"))
    asked = browser.requests()
    pale, picture = browser.violations()
    assert pale.startswith("color-contrast (serious): ") and pale.endswith(": ['p']")
    assert picture == "image-alt (critical): Images must have alternative text: ['img']"
    assert browser.requests() == asked
    assert browser.errors() == []


def test_requests_that_are_refused_are_seen_and_those_of_the_last_page_forgotten(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    elsewhere = ["https://example.com/a.png", "https://example.org/b", "ws://example.net/c"]
    script = f"fetch('{elsewhere[1]}').catch(() => 0); new WebSocket('{elsewhere[2]}')"
    url = page(tmp_path, f"<img src=red.png><img src={elsewhere[0]}><script>{script}</script>", policy="")
    browser.open(url)
    until(lambda: len(browser.requests()) >= 5)
    picture = (tmp_path / "red.png").as_uri()
    assert sorted(browser.requests()) == sorted([url, picture, *elsewhere])
    until(lambda: len(browser.errors()) >= 3)
    url = page(tmp_path, f"<img src=red.png><img src={elsewhere[0]}><img src=data:,>")
    browser.open(url)
    assert sorted(browser.requests()) == sorted([url, picture, elsewhere[0]])  # the policy refuses the last


def test_emulate_changes_what_a_page_knows_of_its_reader_and_without_arguments_changes_it_back(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    def known() -> object:
        queries = ["prefers-color-scheme: dark", "prefers-reduced-motion: reduce", "pointer: coarse"]
        return browser.run(
            f"return [innerWidth, innerHeight, ...{queries}.map(query => matchMedia(`(${{query}})`).matches)]"
        )

    url = page(tmp_path, "<meta name=viewport content='width=device-width'>")
    browser.open(url)
    at_first = known()
    browser.emulate(scheme="dark", reduced_motion=True, width=390, height=844, mobile=True)
    browser.open(url)
    assert known() == [390, 844, True, True, True]
    browser.emulate()
    assert known() == at_first


def test_a_pixel_is_what_is_shown_where_scripts_may_not_read_and_keys_go_where_the_focus_is(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    script = (
        "const red = new Image(); red.onload = () => canvas.getContext('2d').drawImage(red, 0, 0); red.src = 'red.png'"
    )
    shown = "<canvas id=canvas width=60 height=20 style='background: #0a0'></canvas><input autofocus><input id=second>"
    browser.open(page(tmp_path, f"{shown}<script>{script}</script>"))
    until(lambda: browser.pixel("canvas", 5, 5) == (200, 10, 30))
    assert browser.pixel("canvas", 40, 5) == (0, 170, 0)
    assert browser.pixels("canvas").size == (60, 20)
    focused = "return [document.activeElement.id, document.querySelector('input').value]"
    browser.press("a", "bc", Keys.SHIFT + "d", Keys.TAB)
    assert browser.run(focused) == ["second", "abcD"]
    browser.press(Keys.SHIFT + Keys.TAB)
    assert browser.run(focused) == ["", "abcD"]
