"""A real browser: headless Chromium, driven by selenium, one for all tests of a module.

from browser import browser  # the fixture
def test_…(browser: Browser) -> None:
    browser.open(url)
    until(lambda: browser.texts("h1") == ["…"])
    assert browser.errors() == []
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conftest
import psutil
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
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

    def open(self, url: str) -> None:
        """Load a page, also where only what follows the # is another; errors of the last one are forgotten."""
        self.driver.get("about:blank")
        self.errors()
        self.driver.get(url)

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

    def picture(self, path: Path) -> None:
        """What is seen, as a PNG."""
        self.driver.save_screenshot(str(path))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with a new and empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        conftest.missing("chromium or chromedriver (Debian's chromium-driver) is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=Service(str(driver))) as running:
        conftest._servers.update(psutil.Process().children())
        yield Browser(running)
