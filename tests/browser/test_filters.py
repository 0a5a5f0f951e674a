"""Filters and the voxel's panel in a real Chromium: filters narrow together, and the panel says what speaks for a caption.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from scuba_ray.report.explorer import write_report
from tests.browser.chromium import opened
from tests.browser.test_explorer import choose, search
from tests.report.analysed import HOSTILE_NOUN, control_text, write_evidence
from tests.report.synthetic import Written, write_run

pytestmark = pytest.mark.browser
VOXELS = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("page"), voxels=VOXELS)
    write_evidence(made)
    write_report(made.run, made.config)
    return made


@pytest.fixture
def page(browser: Chrome, written: Written) -> Iterator[Chrome]:
    with opened(browser, f"{written.run.location}/report/index.html") as page:
        yield page


def of(page: Chrome, name: str) -> Any:
    return page.find_element(By.ID, name)


def said(page: Chrome, count: int) -> bool:
    """Whether the page says, where a screen reader hears it, that so many voxels are left."""
    wanted = f"{count} of {VOXELS} voxels" if count < VOXELS else f"{VOXELS} voxels"
    WebDriverWait(page, 10).until(lambda driver: of(driver, "count").text == wanted, of(page, "count").text)
    return of(page, "count").get_attribute("aria-live") == "polite"


def test_filters_narrow_together_and_are_cleared(page: Chrome, written: Written) -> None:
    voxels = written.run.read("voxels", key="subj01/tiny").to_pylist()
    captions = written.run.read("captions", key="subj01/tiny").to_pylist()
    nouns = {row["voxel_id"]: row["nouns"] for row in captions if row["partition"] < 0}
    left = [row for row in voxels if row["r2"] >= 0.1]
    of(page, "r2").send_keys(*[Keys.ARROW_RIGHT] * 3)
    assert of(page, "r2-value").text == "0.10" and said(page, len(left))
    left = [row for row in left if row["q"] < 0.05]
    page.find_element(By.CSS_SELECTOR, "#q option[value='0.05']").click()
    assert said(page, len(left))
    left = [row for row in left if "bowl" in nouns[row["voxel_id"]]]
    of(page, "filter-noun").send_keys("Bowl", Keys.ENTER)
    assert left and said(page, len(left))
    search(page, "fruit 1")
    left = [row for row in left if "1" in str(row["voxel_id"])]
    assert said(page, len(left))
    assert f"{len(left)} of {VOXELS} voxels pass the filters" in of(page, "filtered").text
    of(page, "clear-2").click()
    assert said(page, VOXELS) and not of(page, "filtered").is_displayed()
    values = [of(page, name).get_attribute("value") for name in ("search", "filter-noun", "q", "r2", "ceiling")]
    assert values == ["", "", "1", "-0.05", "0"] and of(page, "r2-value").text == "any"


def test_regions_are_ticked_by_keys(page: Chrome, written: Written) -> None:
    rois = written.run.read("voxels", key="subj01/tiny")["rois"].to_pylist()
    summary = page.find_element(By.CSS_SELECTOR, "#regions summary")
    summary.send_keys(Keys.ENTER)
    page.find_element(By.XPATH, "//*[@id='regions-boxes']//button[text()='None']").send_keys(Keys.ENTER)
    assert said(page, 0) and of(page, "none").is_displayed()
    box = page.find_element(By.XPATH, "//*[@id='regions-boxes']//label[contains(., 'food')]/input")
    box.send_keys(Keys.SPACE)
    assert said(page, sum("food" in own for own in rois)) and of(page, "regions-said").text == "food"
    focus = page.switch_to.active_element
    assert focus.get_attribute("type") == "checkbox", "the focus stays on the box"
    chips = page.find_elements(By.CSS_SELECTOR, "#legend .chip[aria-pressed='true']")
    assert [chip.text.split("\n")[0].split()[0] for chip in chips] == ["food"], "the legend's switches are the same filter"
    focus.send_keys(Keys.ESCAPE)
    assert not box_open(page) and page.switch_to.active_element == page.find_element(By.CSS_SELECTOR, "#regions summary")


def box_open(page: Chrome) -> bool:
    return of(page, "regions").get_attribute("open") is not None


def test_the_panel_says_what_speaks_for_a_caption(page: Chrome) -> None:
    choose(page, 150)
    panel = of(page, "panel").text
    rows = {row.find_element(By.TAG_NAME, "th").text: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            for row in page.find_elements(By.CSS_SELECTOR, ".judged tbody tr")}  # fmt: skip
    assert rows == {
        "brainscuba": ["0.50", "0.40"], f"control: shuffled\n“{control_text(150, 'shuffled')}”": ["0.00", "−0.10"],
        f"control: most frequent\n“{control_text(150, 'most-frequent')}”": ["0.00", "−0.10"],
    }  # fmt: skip
    assert "most frequent, the caption that most voxels have." in panel and not page.find_elements(By.CSS_SELECTOR, "#panel b")
    assert "the embedding alone 0.30" in panel and "low-level alone −0.05" in panel and "The baseline explains" not in panel
    choose(page, 106)
    assert "The baseline explains this voxel" in of(page, "panel").text
    choose(page, 101)
    marks = page.find_elements(By.CSS_SELECTOR, "#panel .marks li")
    assert [mark.get_attribute("textContent") for mark in marks] == [
        "bowl ✓: a near picture shows it", f"{HOSTILE_NOUN} ✗: no near picture shows it", "pasta ?: not known",
    ]  # fmt: skip
    assert not page.find_elements(By.CSS_SELECTOR, "#panel b")


def test_neighbours_are_listed_with_the_rule_of_a_shared_vertex(page: Chrome) -> None:
    choose(page, 101)
    panel = of(page, "panel").text
    assert "Also on this vertex" in panel and "the one with the best R²" in panel and "of all, that is voxel 102's" in panel
    _, around = page.find_elements(By.CSS_SELECTOR, "#panel .plain")
    away = [float(text.split(" mm")[0].split("· ")[1]) for text in around.text.split("\n")]
    assert 0 < len(away) <= 8 and away == sorted(away) and away[-1] <= 20
    first = around.find_element(By.TAG_NAME, "button")
    name = first.text
    first.send_keys(Keys.ENTER)
    assert page.find_element(By.CSS_SELECTOR, "#panel h2").text == name
    assert "Voxel 101" in of(page, "panel").text, "a neighbour's neighbour"
