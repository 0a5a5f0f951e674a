"""The page in a real Chromium, opened from disk: what a person points at, clicks and types.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from scuba_ray.report.explorer import write_report
from scuba_ray.report.palette import region_colours
from tests.browser.chromium import chromium, opened, settle
from tests.report.synthetic import CENTRES, HOSTILE, Written, write_run

pytestmark = pytest.mark.browser
VOXELS = 600


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_run(tmp_path_factory.mktemp("page"), voxels=VOXELS, subjects=("subj01", "subj02"))


@pytest.fixture(scope="module")
def file(written: Written) -> str:
    return write_report(written.run, written.config)


@pytest.fixture
def page(browser: Chrome, file: str) -> Iterator[Chrome]:
    with opened(browser, file) as page:
        yield page


def caption_of(written: Written, voxel: int) -> str:
    return captions(written)[voxel]


def captions(written: Written) -> dict[int, str]:
    rows = written.run.read("captions", key="subj01/tiny").to_pylist()
    return {row["voxel_id"]: row["caption"] for row in rows if row["partition"] == -1}


def rows(page: Chrome) -> list[Any]:
    return page.find_elements(By.CSS_SELECTOR, "#rows tr:not(.spacer)")


def column(page: Chrome, name: str) -> list[str]:
    """What the rows in sight say in a column."""
    cells = f"#rows tr:not(.spacer) .{name}"
    return list(page.execute_script(f"return [...document.querySelectorAll('{cells}')].map((cell) => cell.innerText)"))


def search(page: Chrome, text: str) -> str:
    """Type into the search box and press Enter; returns what the page says of the number found."""
    box = page.find_element(By.ID, "search")
    box.clear()
    box.send_keys(text, Keys.ENTER)
    settle(page)
    return page.find_element(By.ID, "count").text


def choose(page: Chrome, voxel: int) -> None:
    """Find a voxel by its id in the table and click its row."""
    search(page, f"{voxel}")
    rows(page)[column(page, "voxel").index(str(voxel))].click()
    settle(page)


def ring(page: Chrome) -> tuple[float, float]:
    """Middle of the ring around the chosen voxel, in pixels of the stage."""
    element = WebDriverWait(page, 10).until(lambda driver: driver.find_element(By.CSS_SELECTOR, "#overlay .ring"))
    return float(element.get_attribute("cx") or 0), float(element.get_attribute("cy") or 0)


def point(page: Chrome, x: float, y: float, *, click: bool = False) -> None:
    canvas = page.find_element(By.ID, "canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    size = canvas.size
    moves = ActionChains(page, duration=0).move_to_element_with_offset(canvas, x - size["width"] / 2, y - size["height"] / 2)
    (moves.click() if click else moves).perform()


def surface_voxels(written: Written, count: int) -> list[int]:
    """Some voxels that have a vertex of their own, spread over the subject."""
    table = written.run.read("voxels", key="subj01/tiny")
    places = list(zip(table["hemi"].to_pylist(), table["vertex"].to_pylist(), strict=True))
    alone = [row for row, place in enumerate(places) if place[1] is not None and places.count(place) == 1]
    return [
        table["voxel_id"][row].as_py()
        for row in np.linspace(0, len(alone) - 1, count).astype(int).tolist()
        for row in [alone[row]]
    ]


def test_hover_and_click_say_the_caption_of_the_patch_under_the_pointer(page: Chrome, written: Written) -> None:
    for voxel in surface_voxels(written, 4):
        choose(page, voxel)
        assert page.find_element(By.CSS_SELECTOR, "#panel h2").text == f"Voxel {voxel}"
        x, y = ring(page)
        page.find_element(By.CSS_SELECTOR, "#panel .close").click()
        point(page, x, y)
        tip = page.find_element(By.ID, "tip")
        assert tip.is_displayed()
        assert tip.find_element(By.TAG_NAME, "strong").text == caption_of(written, voxel)
        assert f"voxel {voxel}" in tip.text and "R²" in tip.text and "ceiling" in tip.text
        point(page, x, y, click=True)
        assert page.find_element(By.CSS_SELECTOR, "#panel .caption").text == caption_of(written, voxel)
        (selected,) = page.find_elements(By.CSS_SELECTOR, '#rows tr[aria-selected="true"]')
        assert selected.find_element(By.CLASS_NAME, "voxel").text == str(voxel)


def pixel_of(page: Chrome, voxel: int) -> Any:
    """Colour of the middle of a voxel's patch, nothing chosen, pointed at or filtered."""
    choose(page, voxel)
    x, y = ring(page)
    page.find_element(By.CSS_SELECTOR, "#panel .close").click()
    page.find_element(By.ID, "clear").click()
    point(page, 5, 5)
    settle(page)
    canvas = page.find_element(By.ID, "canvas")
    picture = np.asarray(Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")).astype(float)
    return picture[round(y), round(x)]


def test_the_patch_is_drawn_where_it_is_pointed_at(page: Chrome, written: Written) -> None:
    table = written.run.read("voxels", key="subj01/tiny")
    region = dict(
        zip(table["voxel_id"].to_pylist(), (names[0] if names else None for names in table["rois"].to_pylist()), strict=True)
    )
    colours = {name: np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) for name, text in region_colours(CENTRES).items()}
    for voxel in surface_voxels(written, 5):
        pixel = pixel_of(page, voxel)
        likeness = {name: pixel @ colour / np.linalg.norm(pixel) / np.linalg.norm(colour) for name, colour in colours.items()}
        assert max(likeness, key=lambda name: likeness[name]) == region[voxel] and likeness[region[voxel]] > 0.99


def test_search_filters_the_table(page: Chrome, written: Written) -> None:
    fruit = [caption for caption in captions(written).values() if "ripe fruit" in caption]
    assert search(page, "ripe FRUIT") == f"{len(fruit)} of {VOXELS} voxels"
    assert all("fruit" in caption for caption in column(page, "caption"))
    assert search(page, "no such words") == f"0 of {VOXELS} voxels"
    assert page.find_element(By.ID, "none").is_displayed()
    page.find_element(By.ID, "clear").click()
    assert page.find_element(By.ID, "count").text == f"{VOXELS} voxels"


def test_a_row_can_be_clicked_right_after_typing(page: Chrome) -> None:
    page.find_element(By.ID, "search").send_keys("ripe fruit")
    WebDriverWait(page, 10).until(lambda driver: " of " in driver.find_element(By.ID, "count").text)
    settle(page)
    rows(page)[1].click()
    assert "ripe fruit" in page.find_element(By.CSS_SELECTOR, "#panel .caption").text


def test_regions_and_ceiling_filter(page: Chrome, written: Written) -> None:
    table = written.run.read("voxels", key="subj01/tiny")
    faces = sum("faces" in names for names in table["rois"].to_pylist())
    next(chip for chip in page.find_elements(By.CLASS_NAME, "chip") if chip.text.startswith("faces")).click()
    assert page.find_element(By.ID, "count").text == f"{VOXELS - faces} of {VOXELS} voxels"
    page.find_element(By.ID, "clear").click()
    page.find_element(By.ID, "ceiling").send_keys(*[Keys.ARROW_RIGHT] * 8)
    high = sum(ceiling >= 0.4 for ceiling in table["noise_ceiling"].to_pylist())
    assert page.find_element(By.ID, "count").text == f"{high} of {VOXELS} voxels"


def test_table_sorts_and_moves_by_keys(page: Chrome) -> None:
    def ceilings() -> list[float]:
        return [float(text) for text in column(page, "noise_ceiling")]

    head = page.find_element(By.CSS_SELECTOR, "#heads .noise_ceiling button")
    head.click()
    assert ceilings() == sorted(ceilings(), reverse=True)
    page.find_element(By.CSS_SELECTOR, "#heads .noise_ceiling button").click()
    assert ceilings() == sorted(ceilings())
    assert page.find_element(By.CSS_SELECTOR, "#heads .noise_ceiling").get_attribute("aria-sort") == "ascending"
    scroller = page.find_element(By.ID, "scroller")
    scroller.send_keys(Keys.END)
    settle(page)
    (selected,) = page.find_elements(By.CSS_SELECTOR, '#rows tr[aria-selected="true"]')
    assert selected.get_attribute("aria-rowindex") == str(VOXELS + 1)
    scroller.send_keys(Keys.ARROW_UP)
    (selected,) = page.find_elements(By.CSS_SELECTOR, '#rows tr[aria-selected="true"]')
    assert selected.get_attribute("aria-rowindex") == str(VOXELS)


def test_views_switch(page: Chrome) -> None:
    """With the motion that other tests go without."""
    moving = [{"name": "prefers-reduced-motion", "value": "no-preference"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": moving})
    seen = set()
    for group, key in [
        ("shapes", "inflated"),
        ("shapes", "pial"),
        ("sides", "lateral"),
        ("sides", "posterior"),
        ("shapes", "flat"),
    ]:
        button = page.find_element(By.CSS_SELECTOR, f"#{group} [data-key={key}]")
        button.click()
        settle(page)
        assert button.get_attribute("aria-pressed") == "true"
        seen.add(page.find_element(By.ID, "canvas").screenshot_as_base64)
    assert len(seen) == 5
    assert not page.find_element(By.ID, "sides").is_displayed()


def test_maps_colour_and_say_their_unit(page: Chrome) -> None:
    seen = set()
    for label, unit in [("Region", "faces"), ("R²", "variance predicted"), ("Noise ceiling", "variance that is signal")]:
        page.find_element(By.ID, "map").send_keys(label)
        page.execute_script("document.activeElement.blur()")
        assert unit in page.find_element(By.ID, "legend").text
        settle(page)
        seen.add(page.find_element(By.ID, "canvas").screenshot_as_base64)
    assert len(seen) == 3


def test_html_in_a_caption_is_text(page: Chrome) -> None:
    choose(page, 100)
    assert page.find_element(By.CSS_SELECTOR, "#panel .caption").text == HOSTILE
    assert page.execute_script("return window.hacked") is None
    assert not page.find_elements(By.CSS_SELECTOR, "#panel img, #table img")


def test_voxels_on_one_vertex_are_all_listed(page: Chrome) -> None:
    choose(page, 102)
    x, y = ring(page)
    choose(page, 101)
    page.find_element(By.ID, "clear").click()
    assert ring(page) == pytest.approx((x, y), abs=1)
    point(page, x, y)
    tip = page.find_element(By.ID, "tip").text
    assert "voxel 102" in tip and "1 more on this vertex" in tip, "102 has the better R²"
    assert "Voxel 102" in page.find_element(By.CSS_SELECTOR, "#panel .plain").text


def test_a_voxel_without_vertex_is_in_the_table_only(page: Chrome) -> None:
    choose(page, 103)
    assert "volume voxel 4, 4, 4" in page.find_element(By.CSS_SELECTOR, "#panel .where").text
    assert "not on the surface" in page.find_element(By.ID, "stage-note").text
    assert not page.find_elements(By.CSS_SELECTOR, "#overlay .ring")


def test_panel_shows_pictures_of_the_nearest_images(page: Chrome) -> None:
    choose(page, 110)
    pictures = page.find_elements(By.CSS_SELECTOR, "#panel .thumbnail")
    assert len(pictures) == 6
    colours = np.asarray(Image.open(io.BytesIO(pictures[0].screenshot_as_png)).convert("RGB")).reshape(-1, 3).astype(float)
    assert colours.std(axis=0).max() > 20, "a picture, not an empty box"


def test_subjects_can_be_changed_and_theme_switched(page: Chrome) -> None:
    page.find_element(By.ID, "set").send_keys("subj02")
    page.execute_script("document.activeElement.blur()")
    assert "subj02" in page.find_element(By.ID, "subtitle").text
    before = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    page.find_element(By.ID, "theme").click()
    assert page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color") != before


@pytest.mark.parametrize("size", [(1440, 1000), (1000, 900), (420, 900)])
def test_nothing_sticks_out_sideways(page: Chrome, size: tuple[int, int]) -> None:
    page.set_window_size(*size)
    choose(page, 110)
    wide, room = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room
    page.set_window_size(1440, 1100)


def test_dark_and_light_follow_the_system(file: str, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", dark=True) as driver:
        driver.get(Path(file).as_uri())
        settle(driver)
        assert driver.find_element(By.TAG_NAME, "html").get_attribute("data-theme") == "dark"


def test_40000_voxels_are_ready_in_four_seconds(browser: Chrome, tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=40_000)
    location = Path(write_report(written.run, written.config))
    assert location.stat().st_size < 60e6
    browser.get(location.as_uri())
    settle(browser)
    assert float(browser.find_element(By.TAG_NAME, "html").get_attribute("data-ready") or "inf") < 4000
    assert search(browser, "pasta").endswith("of 40,000 voxels")
