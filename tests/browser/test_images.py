"""Images that were made, on the page in a real Chromium: in the panel after a click, in their section, by keyboard, on a phone.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from scuba_ray.analyses.clusters import CLUSTERS
from scuba_ray.report.explorer import write_report
from tests.browser.chromium import opened, settle
from tests.browser.test_explorer import choose
from tests.report.images import QUERY, VOXEL, picture, write_images
from tests.report.synthetic import HOSTILE, Written, finish, write_run

pytestmark = pytest.mark.browser
LOADED = "return [...document.querySelectorAll(arguments[0])].every((one) => one.complete && one.naturalWidth > 0)"


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Written:
    written = write_run(tmp_path_factory.mktemp("pictured"), voxels=80)
    first, second = region_of(written, VOXEL), region_of(written, VOXEL + 20)
    write_images(written, (first, second), images=9, parts=(f"{first} part 1", f"{first} part 2"))
    part = {"subject": "subj01", "backbone": "tiny", "roi": first, "parts": 2}
    rows = [
        {**part, "level": "part", "part": number, "voxels": 1, "nouns": [noun], "noun_shares": [1.0]}
        for number, noun in enumerate(("hat", "fog"))
    ]
    rows.append({**part, "level": "voxel", "part": 1, "voxel_id": VOXEL})
    with written.run.lock():
        finish(written.run, "analyses/clusters", "run", pa.Table.from_pylist(rows, schema=CLUSTERS))
    return written


@pytest.fixture(scope="module")
def file(pictured: Written) -> str:
    return write_report(pictured.run, pictured.config)


@pytest.fixture
def page(browser: Chrome, file: str) -> Iterator[Chrome]:
    with opened(browser, file) as page:
        yield page


def region_of(written: Written, voxel: int) -> str:
    table = written.run.read("voxels", columns=["voxel_id", "rois"])
    names: list[list[str]] = table["rois"].to_pylist()
    return names[table["voxel_id"].to_pylist().index(voxel)][0]


def headings(page: Chrome) -> list[str]:
    return [one.text for one in page.find_elements(By.CSS_SELECTOR, "#panel h3")]


def colours(element: WebElement) -> np.ndarray:
    """Mean colours of the quarters of an element, as it is seen."""
    seen = Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")
    return np.asarray(seen.resize((2, 2), Image.Resampling.BOX)).astype(int)


def test_a_click_shows_the_images_of_the_voxel_and_of_its_regions(page: Chrome, pictured: Written) -> None:
    choose(page, VOXEL)
    assert "Images made for this voxel" in headings(page)
    region = region_of(pictured, VOXEL)
    made_for = [text for text in headings(page) if text.startswith("Images made for") and "voxel" not in text]
    assert made_for == [f"Images made for {region}", f"Images made for {region} part 2"], "of the part that it is in"
    own, natural, *of_region = page.find_elements(By.CSS_SELECTOR, "#panel .by-method")
    assert own.find_element(By.TAG_NAME, "h4").text == "brainscuba · best 8 of 9 images"
    assert len(own.find_elements(By.TAG_NAME, "img")) == 8 and len(natural.find_elements(By.TAG_NAME, "img")) == 3
    assert [len(one.find_elements(By.TAG_NAME, "img")) for one in of_region] == [4, 4, 4, 3, 4, 3]
    assert page.execute_script(LOADED, "#panel img")
    first = own.find_elements(By.TAG_NAME, "figure")[0]
    assert first.text.splitlines()[:3] == ["3.75 / 2.00 z", "percentile 88", "food"]
    page.execute_script("arguments[0].scrollIntoView()", first)
    made = Image.open(io.BytesIO(picture(100 * len(f"voxel {VOXEL}") + 10 * len("brainscuba") + 8))).convert("RGB")
    wanted = np.asarray(made.resize((2, 2), Image.Resampling.BOX)).astype(int)
    np.testing.assert_allclose(colours(first.find_element(By.TAG_NAME, "img")), wanted, atol=24)


def test_html_in_a_prompt_is_text(page: Chrome) -> None:
    choose(page, VOXEL)
    said = [one.get_attribute("alt") or "" for one in page.find_elements(By.CSS_SELECTOR, "#panel img")]
    assert any(HOSTILE in text for text in said) and all(said)
    assert HOSTILE in [one.get_attribute("title") for one in page.find_elements(By.CSS_SELECTOR, "#panel figcaption span")]
    assert page.execute_script("return window.hacked") is None
    assert not page.find_elements(By.CSS_SELECTOR, "#panel b, #panel img:not(.made), #synthesised i")
    assert QUERY in [one.text for one in page.find_elements(By.CLASS_NAME, "sheet-name")]
    part = next(one for one in page.find_elements(By.CSS_SELECTOR, ".sheet summary") if "part 2" in one.text)
    assert part.text.endswith("part 2 · 2 voxels · 9 images · fog")


def test_the_section_opens_by_keyboard_and_leads_to_voxels(page: Chrome) -> None:
    section = page.find_element(By.ID, "synthesised")
    opened, closed, *_ = section.find_elements(By.CLASS_NAME, "sheet")
    assert opened.get_attribute("open") and not closed.get_attribute("open")
    closed.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    strips = closed.find_elements(By.CLASS_NAME, "strip")
    assert len(strips) == 4 and all(strip.is_displayed() for strip in strips)
    page.execute_script("arguments[0].focus()", strips[0])
    assert page.switch_to.active_element == strips[0], "a row that scrolls sideways can be scrolled by keys"
    assert page.execute_script(LOADED, "#synthesised img")
    sheet = closed.find_element(By.CSS_SELECTOR, "a").get_attribute("href") or ""
    assert Path(sheet.removeprefix("file://")).is_file()
    section.find_element(By.CSS_SELECTOR, ".voxel-links button").send_keys(Keys.ENTER)
    assert page.find_element(By.CSS_SELECTOR, "#panel h2").text == f"Voxel {VOXEL}"


def test_a_voxel_without_images_shows_none(page: Chrome, pictured: Written) -> None:
    regions = {region_of(pictured, VOXEL), region_of(pictured, VOXEL + 20)}
    voxel = next(one for one in range(120, 180) if region_of(pictured, one) not in regions)
    choose(page, voxel)
    assert not [text for text in headings(page) if text.startswith("Images made")]
    assert not page.find_elements(By.CSS_SELECTOR, "#panel img")


@pytest.mark.parametrize("width", [1440, 1000, 500])
def test_nothing_sticks_out_sideways(page: Chrome, width: int) -> None:
    page.set_window_size(width, 900)
    choose(page, VOXEL)
    wide, room = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room
    over = "return [...document.querySelectorAll('#panel .made-grid')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.execute_script(over) == 0
    page.set_window_size(1440, 1100)


def test_a_run_without_images_has_no_section(browser: Chrome, tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=20)
    browser.get(Path(write_report(written.run, written.config)).as_uri())
    settle(browser)
    assert not browser.find_elements(By.ID, "synthesised")
    choose(browser, VOXEL)
    assert "Images made for this voxel" not in headings(browser)
