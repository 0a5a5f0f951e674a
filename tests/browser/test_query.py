"""The query box in a real Chromium: there when a service gave the page, asking it, and nowhere else.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.report.explorer import write_report
from scuba_ray.report.show import voxel_table
from scuba_ray.serve.page import page as report_page
from scuba_ray.serve.protection import protect
from tests.browser.chromium import SETTLED, chromium, settle
from tests.report.synthetic import Written, write_run

pytestmark = pytest.mark.browser
VOXELS, TOKEN = 300, "correct-horse"


@dataclass
class Service:
    """A service that knows the page and answers queries: voxels that name a word of the text first."""

    written: Written
    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    pause: threading.Event = field(default_factory=threading.Event)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def index(request: Request) -> Response:
            return await asyncio.to_thread(report_page, request, self.written.run.location)

        @app.post("/v1/query")
        async def ask(request: Request) -> dict[str, Any]:
            body = await request.json()
            self.asked.append(body)
            await asyncio.to_thread(self.pause.wait, 30)
            if body["texts"] == ["bad"]:
                raise ConfigError("texts[0] is <b>bad</b>")
            if body["texts"] == ["busy"]:
                raise TimeoutError
            return {"rows": self.ranked(body["texts"][0], body["subject"])}

        protect(app, ServeConfig(run=self.written.run.location))
        return app

    def ranked(self, text: str, subject: str) -> list[dict[str, Any]]:
        rows = [row for row in voxel_table(self.written.run).to_pylist() if row["subject"] == subject]
        for row in rows:
            row["cosine"] = 0.5 * (text in (row["caption"] or "")) + row["voxel_id"] / 10_000
            row["q"] = 0.01
        rows[-1]["cosine"] = None
        return sorted(rows, key=lambda row: -1 if row["cosine"] is None else row["cosine"], reverse=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("page"), voxels=VOXELS, subjects=("subj01", "subj02"))
    write_report(made.run, made.config)
    return made


def started(written: Written) -> Iterator[Service]:
    service = Service(written)
    service.pause.set()
    server = uvicorn.Server(uvicorn.Config(service.app(), host="127.0.0.1", port=0, log_level="error", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.05)
    service.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    yield service
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def service(written: Written) -> Iterator[Service]:
    yield from started(written)


@pytest.fixture
def closed(written: Written, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """One that asks for its token."""
    monkeypatch.setenv("SCUBA_SERVE_TOKEN", TOKEN)
    yield from started(written)


@pytest.fixture
def page(browser: Chrome, service: Service) -> Chrome:
    browser.get(service.address)
    settle(browser)
    return browser


def of(page: Chrome, name: str) -> Any:
    return page.find_element(By.ID, name)


def ask(page: Chrome, text: str) -> str:
    """Type a text and press Enter; returns what the page says once the answer is there."""
    of(page, "query-text").clear()
    of(page, "query-text").send_keys(text, Keys.ENTER)
    return waited(page)


def waited(page: Chrome) -> str:
    WebDriverWait(page, 30).until(lambda driver: "Asking" not in of(driver, "query-said").text and of(driver, "query-said").text)
    settle(page)
    text: str = of(page, "query-said").text
    return text


def best(page: Chrome) -> list[Any]:
    return page.find_elements(By.CSS_SELECTOR, "#query-best button")


def chosen_map(page: Chrome) -> str:
    text: str = page.execute_script("return document.getElementById('map').selectedOptions[0].text")
    return text


def seen(page: Chrome) -> np.ndarray:
    page.execute_script("arguments[0].scrollIntoView()", of(page, "canvas"))
    settle(page)
    return np.asarray(Image.open(io.BytesIO(of(page, "canvas").screenshot_as_png)).convert("RGB")).astype(float)


def test_a_page_opened_from_disk_has_no_box_and_asks_nobody(browser: Chrome, written: Written) -> None:
    browser.get(Path(f"{written.run.location}/report/index.html").as_uri())
    settle(browser)
    assert not of(browser, "query").is_displayed()
    assert "loads nothing and sends nothing" in browser.find_element(By.TAG_NAME, "footer").text
    refused = browser.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done(''), () => done('refused'))"
    )
    assert refused == "refused"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_voxels_are_ranked_and_the_cortex_coloured(page: Chrome, service: Service) -> None:
    before = seen(page)
    said = ask(page, "fruit")
    assert service.asked == [{"texts": ["fruit"], "subject": "subj01"}]
    assert said.startswith(f"{VOXELS - 1} voxels ranked by “fruit”. {VOXELS - 1} of them predict held-out images")
    wanted = service.ranked("fruit", "subj01")[:10]
    assert [f"Voxel {row['voxel_id']} ·" in button.text for row, button in zip(wanted, best(page), strict=True)] == [True] * 10
    assert all("fruit" in button.find_element(By.CLASS_NAME, "caption").text for button in best(page))
    assert chosen_map(page) == "last query"
    assert "cosine of a voxel's weights with “fruit”" in of(page, "legend").text
    assert np.abs(seen(page) - before).max() > 50
    best(page)[1].click()
    assert page.find_element(By.CSS_SELECTOR, "#panel h2").text == f"Voxel {wanted[1]['voxel_id']}"
    assert [entry for entry in page.get_log("browser") if entry["source"] != "rendering"] == []


def test_other_maps_can_be_chosen_and_the_query_cleared(page: Chrome) -> None:
    ask(page, "fruit")
    of(page, "map").send_keys("Region")
    page.execute_script("document.activeElement.blur()")
    assert "faces" in of(page, "legend").text
    ask(page, "street")
    assert "“street”" in of(page, "legend").text
    assert [option.text for option in of(page, "map").find_elements(By.TAG_NAME, "option")].count("last query") == 1
    of(page, "query-clear").click()
    assert chosen_map(page) == "Region" and not of(page, "query-best").is_displayed() and of(page, "query-said").text == ""
    assert "last query" not in of(page, "map").text


def test_each_subject_has_its_own_last_query(page: Chrome, service: Service) -> None:
    ask(page, "fruit")
    of(page, "set").send_keys("subj02")
    page.execute_script("document.activeElement.blur()")
    settle(page)
    assert chosen_map(page) == "Region" and not best(page)[0].is_displayed() and of(page, "query-said").text == ""
    ask(page, "street")
    assert service.asked[-1] == {"texts": ["street"], "subject": "subj02"}
    of(page, "set").send_keys("subj01")
    page.execute_script("document.activeElement.blur()")
    settle(page)
    assert chosen_map(page) == "last query" and "“fruit”" in of(page, "legend").text
    assert "fruit" in best(page)[0].text


def test_the_box_can_be_used_by_keys_alone(page: Chrome) -> None:
    of(page, "query-text").send_keys("fruit", Keys.ENTER)
    waited(page)
    focus = page.switch_to.active_element
    for _ in range(3):  # the two buttons, then the first voxel
        focus.send_keys(Keys.TAB)
        focus = page.switch_to.active_element
    assert focus.get_attribute("class") == "best"
    focus.send_keys(Keys.ENTER)
    assert page.find_element(By.CSS_SELECTOR, "#panel h2").text in focus.text
    assert of(page, "query-said").get_attribute("role") == "status"
    controls = page.find_elements(By.CSS_SELECTOR, "#query input, #query button")
    name = "const [one] = arguments; return one.ariaLabel || one.textContent || one.labels[0].textContent"
    names = [page.execute_script(name, one) for one in controls]
    assert all(names)


def test_errors_are_said_in_words_and_as_text(page: Chrome, service: Service) -> None:
    assert ask(page, "bad") == "texts[0] is <b>bad</b>."
    assert "took too long" in ask(page, "busy")
    assert "Give a few words" in ask(page, "   ")
    assert not page.find_elements(By.CSS_SELECTOR, "#query b")
    assert "ranked" in ask(page, "fruit"), "and the next one is answered"


def test_a_service_that_is_gone_is_said(browser: Chrome, written: Written) -> None:
    running = started(written)
    browser.get(next(running).address)
    settle(browser)
    next(running, None)
    assert "cannot be reached" in ask(browser, "fruit")


def test_an_answer_that_was_overtaken_is_not_shown(page: Chrome, service: Service) -> None:
    service.pause.clear()
    of(page, "query-text").send_keys("fruit", Keys.ENTER)
    WebDriverWait(page, 10).until(lambda driver: len(service.asked) == 1)
    assert of(page, "query").get_attribute("aria-busy") == "true"
    of(page, "query-text").clear()
    of(page, "query-text").send_keys("street", Keys.ENTER)
    WebDriverWait(page, 10).until(lambda driver: len(service.asked) == 2)
    service.pause.set()
    assert "“street”" in waited(page)
    assert "street" in best(page)[0].text and of(page, "query").get_attribute("aria-busy") is None


def test_the_token_is_asked_for_once_and_kept_in_the_tab(browser: Chrome, closed: Service) -> None:
    browser.get(closed.address)
    WebDriverWait(browser, 10).until(lambda driver: driver.find_elements(By.ID, "token"))
    assert "Voxel" not in browser.page_source
    of(browser, "token").send_keys("wrong", Keys.ENTER)
    WebDriverWait(browser, 10).until(lambda driver: "not the token" in of(driver, "said").text)
    of(browser, "token").clear()
    of(browser, "token").send_keys(TOKEN, Keys.ENTER)
    WebDriverWait(browser, 30).until(lambda driver: driver.find_elements(By.ID, "query"))
    settle(browser)
    assert "ranked" in ask(browser, "fruit")
    assert browser.execute_script("return [localStorage.length, document.cookie]") == [0, ""]
    browser.refresh()
    WebDriverWait(browser, 30).until(lambda driver: driver.find_elements(By.ID, "query"))
    settle(browser)
    browser.execute_script("sessionStorage.clear()")
    assert "asks for its token" in ask(browser, "fruit")
    of(browser, "query-key").send_keys("wrong", Keys.ENTER)
    WebDriverWait(browser, 10).until(lambda driver: "not the service's token" in of(driver, "query-said").text)
    of(browser, "query-key").send_keys(TOKEN, Keys.ENTER)
    WebDriverWait(browser, 30).until(lambda driver: "ranked" in of(driver, "query-said").text)
    assert not of(browser, "query-token").is_displayed()


@pytest.mark.parametrize("size", [(1440, 1000), (420, 900)])
def test_nothing_sticks_out_sideways_with_an_answer(page: Chrome, size: tuple[int, int]) -> None:
    page.set_window_size(*size)
    ask(page, "fruit")
    wide, room = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    page.set_window_size(1440, 1100)
    assert wide <= room


def test_dark_pages_have_a_dark_box(service: Service, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", dark=True) as driver:
        driver.get(service.address)
        settle(driver)
        ask(driver, "fruit")
        for name in ("query", "query-text"):
            colour = of(driver, name).value_of_css_property("background-color")
            assert max(int(part) for part in colour.removeprefix("rgba(").split(",")[:3]) < 80, colour
        assert driver.execute_script(SETTLED)
