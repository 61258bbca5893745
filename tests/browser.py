"""A real browser: headless Chromium, driven by selenium, one for all tests of a module.

from browser import browser  # the fixture
def test_…(browser: Browser) -> None:
    browser.open(url)  # http://… or file://…
    until(lambda: browser.texts("h1") == ["…"])
    assert browser.errors() == browser.violations() == []
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import conftest
import psutil
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--window-size=1400,1000",
    # only this machine is there: whatever else a page asks for is refused at once, and is an error of the console
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """What tests want of one, in few words; all else by its `driver`."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._requests: list[str] = []

    def open(self, url: str) -> None:
        """Load a page, also where only what follows the # is another; errors of the last one are forgotten."""
        self.driver.get("about:blank")
        self.errors()
        self.requests()
        self._requests.clear()
        self.driver.get(url)

    def emulate(
        self,
        *,
        scheme: Literal["light", "dark"] | None = None,
        reduced_motion: bool = False,
        width: int = 0,
        height: int = 0,
        mobile: bool = False,
    ) -> None:
        """Be another browser, for this page and those that are opened: all that is not named is as at the start.

        Args:
            scheme: of colours, that the user prefers.
            reduced_motion: whether the user wants none.
            width, height: of the page, in its pixels; 0 is the window's.
            mobile: a phone, with fingers and no mouse; a page learns of them when it is opened.
        """
        preferred = {"color-scheme": scheme or "", "reduced-motion": "reduce" if reduced_motion else ""}
        features = [{"name": f"prefers-{name}", "value": value} for name, value in preferred.items()]
        self._tell("Emulation.setEmulatedMedia", features=features)
        self._tell("Emulation.clearDeviceMetricsOverride")
        if width or height or mobile:
            size = {"width": width, "height": height, "deviceScaleFactor": 1}
            self._tell("Emulation.setDeviceMetricsOverride", mobile=mobile, **size)
        self._tell("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def _tell(self, method: str, **arguments: object) -> None:
        self.driver.execute_cdp_cmd(method, arguments)

    def texts(self, selector: str) -> list[str]:
        """The visible texts of the elements of a CSS selector; none while the page is being changed."""
        try:
            return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, selector)]
        except StaleElementReferenceException:
            return []

    def find(self, path: str) -> list[WebElement]:
        """The elements of an XPath."""
        return self.driver.find_elements(By.XPATH, path)

    def run(self, script: str) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(script)

    def errors(self) -> list[str]:
        """Errors in the console since they were last asked for."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The URLs of all that was asked for since `open`, also in vain, but for data: URLs, which hold it themselves.

        What a Content-Security-Policy keeps scripts from asking for is not among them; it is in `errors`.
        """
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self._requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                self._requests.append(event["params"]["url"])
        return [url for url in self._requests if not url.startswith("data:")]

    def violations(self) -> list[str]:
        """What of the page is serious or critical to people with disabilities, as axe-core finds it, a line each."""
        # what WebDriver runs is under no Content-Security-Policy; axe-core's own requests (preload) would be
        self.run(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
        found = self.run("return axe.run({resultTypes: ['violations'], preload: false})")["violations"]
        return [
            f"{rule['id']} ({rule['impact']}): {rule['help']}: {', '.join(str(at['target']) for at in rule['nodes'])}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is; those of one text together, as SHIFT + TAB."""
        for chord in keys:
            actions = ActionChains(self.driver)
            for key in chord:
                actions.key_down(key)
            for key in reversed(chord):
                actions.key_up(key)
            actions.perform()

    def picture(self, path: Path) -> None:
        """What is seen, as a PNG."""
        self.driver.save_screenshot(str(path))

    def pixels(self, selector: str) -> Image.Image:
        """What is seen of the one element of a CSS selector, as far as the window holds it, as RGB."""
        (element,) = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")

    def pixel(self, selector: str, x: int, y: int) -> tuple[int, int, int]:
        """The colour that is seen there in the element."""
        red, green, blue = self.pixels(selector).getpixel((x, y))
        return red, green, blue


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with a new and empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        conftest.missing("chromium or chromedriver (Debian's chromium-driver) is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=Service(str(driver))) as running:
        conftest._servers.update(psutil.Process().children())
        yield Browser(running)
