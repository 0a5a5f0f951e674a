"""What analyses found, in a real Chromium: colours of the cortex, their legends, and what is said of a voxel.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from scuba_ray.report.explorer import write_report
from tests.browser.chromium import opened, settle
from tests.browser.test_explorer import choose, pixel_of, point, ring, search
from tests.report.analysed import HOSTILE_NOUN, colour_of, counts, part_of, person_share, write_analyses, write_nouns
from tests.report.synthetic import Written, write_run

pytestmark = pytest.mark.browser
VOXELS = 300
LIGHT, DARK = (253, 231, 37), (65, 68, 135)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("page"), voxels=VOXELS, subjects=("subj01", "subj02"))
    write_analyses(made)
    write_nouns(made)
    write_report(made.run, made.config)
    return made


@pytest.fixture
def page(browser: Chrome, written: Written) -> Iterator[Chrome]:
    with opened(browser, f"{written.run.location}/report/index.html") as page:
        yield page


def colour_by(page: Chrome, label: str) -> str:
    """Choose a map by its label; returns the legend's text."""
    page.find_element(By.XPATH, f"//select[@id='map']//option[normalize-space()='{label}']").click()
    settle(page)
    text: str = page.find_element(By.ID, "legend").text
    return text


def region_voxels(written: Written, region: str) -> list[int]:
    table = written.run.read("voxels", key="subj01/tiny", columns=["voxel_id", "rois", "hemi", "vertex"]).to_pylist()
    return [row["voxel_id"] for row in table if region in row["rois"] and row["voxel_id"] > 104]


def alike(pixel: Any, colour: Any) -> float:
    """Cosine of two colours: shading makes a patch darker, not another colour."""
    return float(pixel @ np.asarray(colour) / np.linalg.norm(pixel) / np.linalg.norm(colour))


def test_the_menu_has_what_the_subject_has(page: Chrome) -> None:
    def entries() -> list[str]:
        options = page.find_elements(By.CSS_SELECTOR, "#map option")
        return [option.get_attribute("textContent") or "" for option in options]

    found = {"Person share", "Caption agreement", "Embedding map", "Parts of faces", "Parts of food"}
    assert found < set(entries()) and "Noun in the caption" in entries()
    page.find_element(By.ID, "set").send_keys("subj02")
    page.execute_script("document.activeElement.blur()")
    assert not found & set(entries()) and "Noun in the caption" in entries()


def test_scales_say_unit_range_and_how_many_have_no_value(page: Chrome) -> None:
    legend = colour_by(page, "Person share")
    missing = sum(not counts(voxel) for voxel in range(100, 100 + VOXELS))
    assert "share of a voxel's captions that name people" in legend and f"{missing} without a value" in legend
    assert "voxels with q < 0.05" in legend
    assert "nouns that captions of two partitions have in common" in colour_by(page, "Caption agreement")


def test_parts_have_colours_and_their_nouns_as_text(page: Chrome, written: Written) -> None:
    legend = colour_by(page, "Parts of faces")
    assert "part 1: man, hat" in legend and f"part 2: {HOSTILE_NOUN}" in legend and "0.75" in legend
    assert not page.find_elements(By.CSS_SELECTOR, "#legend b")
    swatches = page.find_elements(By.CSS_SELECTOR, "#legend .keys .swatch")
    colours = [[int(v) for v in one.value_of_css_property("background-color")[5:-1].split(",")[:3]] for one in swatches]
    inside = [voxel for voxel in region_voxels(written, "faces") if counts(voxel)]
    for part in (0, 1):
        voxel = next(one for one in inside if part_of(one) == part)
        assert alike(pixel_of(page, voxel), colours[part]) > 0.98
    assert "no voxel counts" in colour_by(page, "Parts of food")


def test_the_embedding_map_shows_its_own_colours_and_says_what_they_are(page: Chrome, written: Written) -> None:
    legend = colour_by(page, "Embedding map")
    for part in ("red, green and blue", "fitted on subj01, 25 % of its variance", "without a value"):
        assert part in legend
    for voxel in [one for one in region_voxels(written, "food") if counts(one)][:3]:
        assert alike(pixel_of(page, voxel), colour_of(voxel)) > 0.98
        choose(page, voxel)
        assert f"red {colour_of(voxel)[0]:.0%}".replace("%", " %") in page.find_element(By.ID, "panel").text


def test_a_noun_is_typed_and_the_voxels_that_name_it_light_up(page: Chrome, written: Written) -> None:
    legend = colour_by(page, "Noun in the caption")
    assert "names “" in legend, "the most frequent noun to begin with"
    box = page.find_element(By.ID, "noun")
    box.clear()
    box.send_keys("Bowl", Keys.ENTER)
    rows = written.run.read("captions", key="subj01/tiny").to_pylist()
    named = [row["voxel_id"] for row in rows if row["partition"] < 0 and "bowl" in row["nouns"]]
    assert f"names “bowl” {len(named)} of {VOXELS} voxels" in page.find_element(By.ID, "legend").text.replace("\n", " ")
    assert page.find_element(By.ID, "live").get_attribute("textContent") == f"{len(named)} voxels' captions name bowl"
    food = region_voxels(written, "food")
    assert alike(pixel_of(page, next(one for one in food if one in named)), LIGHT) > 0.98
    assert alike(pixel_of(page, next(one for one in food if one not in named)), DARK) > 0.98
    box.clear()
    box.send_keys("bowls")
    assert "No caption names “bowls”; nouns are in the singular. Nouns that begin alike: bowl." in legend_of(page)
    options = page.find_elements(By.CSS_SELECTOR, "#nouns option")
    assert len(options) > 5
    colour_by(page, "Region")
    assert not box.is_displayed()


def legend_of(page: Chrome) -> str:
    text: str = page.find_element(By.ID, "legend").text
    return text


def test_the_tip_and_the_panel_say_what_was_found(page: Chrome, written: Written) -> None:
    colour_by(page, "Person share")
    voxel = next(one for one in region_voxels(written, "faces") if counts(one) and part_of(one) == 1)
    choose(page, voxel)
    panel = page.find_element(By.ID, "panel").text
    share = person_share(voxel)
    said = f"Person share {share:.3f}" if share % 1 else f"Person share {share:.0f}"
    assert said in panel and "Part 2 of 2 of faces" in panel and HOSTILE_NOUN in panel
    x, y = ring(page)
    point(page, x, y)
    assert said in page.find_element(By.ID, "tip").text
    left_out = next(one for one in region_voxels(written, "faces") if not counts(one))
    choose(page, left_out)
    assert "Person share not known" in page.find_element(By.ID, "panel").text


def test_the_noun_is_chosen_by_keys_alone(page: Chrome) -> None:
    colour_by(page, "Noun in the caption")
    page.find_element(By.ID, "map").send_keys(Keys.TAB)
    focus = page.switch_to.active_element
    assert focus.get_attribute("id") == "noun" and page.execute_script("return arguments[0].labels[0].textContent", focus)
    assert search(page, "pasta").endswith(f"of {VOXELS} voxels")


def test_figures_and_steps_are_on_the_page_with_their_texts(page: Chrome) -> None:
    names = [link.text for link in page.find_elements(By.CSS_SELECTOR, "#parts a")]
    assert names == ["Cortex", "Voxels", "Recovery", "Figures", "Provenance"]
    figures = page.find_elements(By.CSS_SELECTOR, "#figures figure")
    titles = [figure.find_element(By.TAG_NAME, "h3").text for figure in figures]
    assert titles[:5] == ["Nouns of regions", "People", "Selectivity", "Parts of regions", "Embedding map"]
    assert figures[1].find_element(By.TAG_NAME, "img").get_attribute("alt") == "People. faces 50%."
    assert "RUN/analyses/person" in figures[1].find_element(By.TAG_NAME, "figcaption").text
    page.find_element(By.XPATH, "//*[@id='figures']//button[text()='Embedding map']").send_keys(Keys.ENTER)
    assert page.switch_to.active_element == figures[4]
    page.find_element(By.XPATH, "//*[@id='provenance']//summary[starts-with(., 'steps')]").send_keys(Keys.ENTER)
    cells = page.find_element(By.CSS_SELECTOR, ".steps tbody tr").text
    assert cells == "fit 1.500"
