"""A real Chromium for the tests: Debian's `chromium` and `chromium-driver`, driven by selenium, with an empty profile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip

SETTLED = 'const page = document.documentElement; return page.dataset.ready && !page.hasAttribute("data-moving")'

FRAMES = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
"""Scroll and resize events are told before a frame: after the second all of them were, and what they draw is drawn."""


@contextmanager
def chromium(
    profile: Path, *, size: tuple[int, int] = (1440, 1100), dark: bool = False, still: bool = True
) -> Iterator[webdriver.Chrome]:
    """Start the browser with an empty profile folder; the page's console is recorded, and views change at once if `still`."""
    options = Options()
    options.binary_location = _found("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_found("chromedriver")))
    try:
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        emulated = [{"name": name, "value": value} for name, value in features.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": emulated})
        yield driver
    finally:
        driver.quit()


def settle(page: webdriver.Chrome) -> None:
    """Wait until the page is drawn, what follows a scroll or a new size too, and nothing moves."""
    WebDriverWait(page, 30).until(lambda driver: driver.execute_script(SETTLED))
    page.execute_async_script(FRAMES)


@contextmanager
def opened(browser: webdriver.Chrome, file: str) -> Iterator[webdriver.Chrome]:
    """A page freshly opened from disk; afterwards its console must be empty (but for notes of the graphics driver)."""
    browser.get(Path(file).as_uri())
    settle(browser)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["source"] != "rendering"] == []


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path, f"{program} is not installed: apt-get install chromium chromium-driver"
    return path
