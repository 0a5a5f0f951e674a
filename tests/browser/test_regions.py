"""A region's own view in a real Chromium: what it is about, how one gets there, and what is said where there is nothing to say.

Needs Debian's chromium and chromium-driver; `pytest -m browser`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from scuba_ray.report import page as page_file
from scuba_ray.report.explorer import gather
from tests.browser.chromium import opened, settle
from tests.browser.test_explorer import choose
from tests.report.analysed import EMPTY_REGION, HOSTILE_NOUN, write_analyses, write_evidence, write_nouns
from tests.report.images import write_images
from tests.report.synthetic import HOSTILE, Written, write_run

pytestmark = pytest.mark.browser
VOXELS = 300
PALE = r"""
const parse = (text) => { const parts = text.match(/[\d.]+/g).map(Number); return parts.length > 3 ? parts : [...parts, 1]; };
const linear = (value) => (value <= 0.03928 * 255 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const over = (top, below) => below.map((value, i) => top[i] * top[3] + value * (1 - top[3]));
const ratio = (element) => {
  const layers = [];
  let opacity = 1;
  for (let one = element; one; one = one.parentElement) {
    const style = getComputedStyle(one);
    opacity *= Number(style.opacity);
    layers.unshift(parse(style.backgroundColor));
  }
  const behind = layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  const colour = parse(getComputedStyle(element).color);
  const [a, b] = [luminance(over([...colour.slice(0, 3), colour[3] * opacity], behind)), luminance(behind)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const seen = (one) => one.getBoundingClientRect().height && !one.closest("svg, .unseen, .skip, noscript, script");
const speaks = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
return [...document.querySelectorAll("body *")].filter((one) => speaks(one) && seen(one) && ratio(one) < 4.5)
  .map((one) => `${ratio(one).toFixed(2)} ${one.className} ${one.textContent.slice(0, 40)}`);
"""
"""Texts whose contrast with what is behind them is below 4.5, which WCAG's level AA asks for."""
NAMELESS = """
const named = (one) => one.ariaLabel || one.getAttribute("aria-labelledby") || one.textContent.trim()
  || [...(one.labels ?? [])].some((label) => label.textContent.trim());
return [...document.querySelectorAll("button, input, select, summary, a, [role=img], [tabindex='0']")]
  .filter((one) => !one.closest("[hidden]") && !named(one)).map((one) => one.outerHTML.slice(0, 90));
"""
"""Controls, pictures and what can be scrolled by keys without a name for who cannot see them."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("page"), voxels=VOXELS)
    write_analyses(made)
    write_nouns(made)
    write_evidence(made)
    write_images(made, ("faces",))
    return made


@pytest.fixture(scope="module")
def data(written: Written) -> Any:
    from scuba_ray.report.synthesised import by_target

    return gather(written.run, written.config, images_made=by_target(written.run, written.config))


@pytest.fixture(scope="module")
def file(data: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(data, tmp_path_factory.mktemp("file"))


def saved(data: Any, folder: Path) -> str:
    (folder / "index.html").write_text(page_file.build("regions", data), encoding="utf-8")
    return str(folder / "index.html")


@pytest.fixture
def page(browser: Chrome, file: str) -> Iterator[Chrome]:
    with opened(browser, file) as page:
        yield page


def panel(page: Chrome) -> str:
    text: str = page.find_element(By.ID, "panel").text
    return text


def heading(page: Chrome) -> str:
    text: str = page.find_element(By.CSS_SELECTOR, "#panel h2").text
    return text


def press(page: Chrome, text: str) -> None:
    """Press a button of the panel by keyboard."""
    button = page.find_element(By.XPATH, f"//*[@id='panel']//button[normalize-space()='{text}']")
    button.send_keys(Keys.ENTER)
    settle(page)


def about(page: Chrome, region: str) -> None:
    page.find_element(By.CSS_SELECTOR, f"#legend [aria-label='What {region} is about']").send_keys(Keys.ENTER)


def test_a_region_says_what_it_is_about(page: Chrome, written: Written) -> None:
    table = written.run.read("voxels").to_pylist()
    mine = [row for row in table if "faces" in row["rois"]]
    about(page, "faces")
    said = panel(page)
    found = sum(row["q"] < 0.05 for row in mine)
    assert heading(page) == "faces" and f"{len(mine)} voxels, {found} with q < 0.05" in said
    rows = [row.text for row in page.find_elements(By.CSS_SELECTOR, "#panel .nouns tbody tr")]
    assert rows == ["man 60 % 40 % 0.50 0.001", f"{HOSTILE_NOUN} 20 % 40 % 0.10 < 1e-300"]
    assert "50 % of its captions name people (95 % interval over voxels 25 % to 75 %)" in said
    assert "Part 1 · 9 voxels · predicted 1.50 z, to other parts’ pictures −0.25 z" in said and "man 75 %, hat 50 %" in said
    assert "agree on the parts by 0.75 (adjusted Rand index" in said
    assert len(page.find_elements(By.CSS_SELECTOR, "#panel .part .thumbnail[role=img]")) == 5
    assert "Images made for faces" in said and page.find_elements(By.CSS_SELECTOR, "#panel img.made")
    assert not page.find_elements(By.CSS_SELECTOR, "#panel b, #panel i")
    assert page.find_element(By.ID, "live").get_attribute("textContent") == (
        f"faces: {said.splitlines()[2]}; it says man, {HOSTILE_NOUN}"
    )


def test_distributions_are_drawn_with_their_numbers_in_words(page: Chrome, written: Written) -> None:
    about(page, "faces")
    names = [one.get_attribute("aria-label") or "" for one in page.find_elements(By.CSS_SELECTOR, "#panel .histogram")]
    r2 = sorted(row["r2"] for row in written.run.read("voxels").to_pylist() if "faces" in row["rois"])
    assert [name.split(" of ")[0] for name in names] == ["Noise ceiling", "R²"]
    assert f"median {r2[round((len(r2) - 1) / 2)]:.2f}, middle half" in names[1]
    assert page.find_elements(By.CSS_SELECTOR, "#panel .histogram rect")


def test_the_filter_leads_to_a_region_and_back(page: Chrome) -> None:
    about(page, "food")
    press(page, "Show only this region")
    assert page.find_element(By.ID, "regions-said").text == "food" and heading(page) == "food"
    assert page.switch_to.active_element.text == "food", "the focus is not lost with the button"
    press(page, "Show all regions")
    assert page.find_element(By.ID, "regions-said").text == "all" and heading(page) == "food"
    page.find_element(By.CSS_SELECTOR, "#panel h2").send_keys(Keys.ESCAPE)
    assert heading(page) == "A voxel, or a region"
    chips = page.find_elements(By.CSS_SELECTOR, "#legend .chip")
    for place in range(1, len(chips)):
        page.find_elements(By.CSS_SELECTOR, "#legend .chip")[place].send_keys(Keys.ENTER)
        assert page.switch_to.active_element == page.find_elements(By.CSS_SELECTOR, "#legend .chip")[place]
    assert heading(page) == page.find_element(By.ID, "regions-said").text == "bodies"


def test_the_panel_follows_the_filter_of_regions_alone(page: Chrome) -> None:
    about(page, "food")
    press(page, "Show only this region")
    about(page, "faces")
    page.find_element(By.ID, "r2").send_keys(Keys.ARROW_RIGHT)
    assert page.find_element(By.ID, "r2-value").text == "0.00" and heading(page) == "faces"
    page.find_element(By.CSS_SELECTOR, "#panel h2").send_keys(Keys.ESCAPE)
    page.find_element(By.ID, "clear").click()
    chips = page.find_elements(By.CSS_SELECTOR, "#legend .chip")
    for place in range(len(chips) - 1):
        page.find_elements(By.CSS_SELECTOR, "#legend .chip")[place].send_keys(Keys.ENTER)
    assert page.find_element(By.ID, "regions-said").text == "no region"
    assert heading(page) == "A voxel, or a region", "voxels of no region are not those of a region without voxels"


def test_a_region_is_reached_from_its_voxels_and_shows_nouns_and_parts_on_the_cortex(page: Chrome, written: Written) -> None:
    rois = written.run.read("voxels", columns=["voxel_id", "rois"]).to_pylist()
    choose(page, next(row["voxel_id"] for row in rois if row["rois"] == ["faces"]))
    press(page, "faces")
    assert heading(page) == "faces" and page.switch_to.active_element.text == "faces"
    assert not page.find_elements(By.CSS_SELECTOR, "#overlay .ring"), "the voxel is no longer chosen"
    press(page, "man")
    assert "names “man”" in page.find_element(By.ID, "legend").text
    press(page, "Colour by its parts")
    assert "faces in 2 parts" in page.find_element(By.ID, "legend").text


def test_what_there_is_too_little_for_is_said(page: Chrome) -> None:
    names = [button.text for button in page.find_elements(By.CSS_SELECTOR, "#panel .regions button")]
    assert names == ["all voxels", "bodies", "faces", "food", "places", "words", EMPTY_REGION]
    press(page, EMPTY_REGION)
    assert "No voxel of this subject is in it." in panel(page) and "No voxel of this region counts" in panel(page)
    assert not page.find_elements(By.CSS_SELECTOR, "#panel i, #panel .histogram, #panel .acts")
    about(page, "food")
    assert "No voxel counts." in panel(page) and "Colour by its parts" not in panel(page)
    about(page, "words")
    assert "One voxel: these are its own captions' words." in panel(page)


def test_markup_in_names_is_text_and_no_significant_voxel_is_said(browser: Chrome, data: Any, tmp_path: Path) -> None:
    named = {**data["regions"][0], "name": HOSTILE}
    one = data["sets"][0]
    entries = [{**entry, "name": HOSTILE} if entry["region"] == 0 else entry for entry in one["about"]]
    changed = {**one, "about": entries, "scores": {**one["scores"], "q": [0.9] * VOXELS}}
    run = {**data["run"], "warnings": [f"fit: {HOSTILE}"]}
    file = saved({**data, "regions": [named, *data["regions"][1:]], "sets": [changed], "run": run}, tmp_path)
    with opened(browser, file) as page:
        cautions = page.find_element(By.ID, "cautions").text
        assert "2 cautions" in cautions and "No voxel predicts held-out images" in cautions and HOSTILE in cautions
        page.find_element(By.XPATH, "//*[@id='panel']//button[contains(., 'onerror')]").send_keys(Keys.ENTER)
        assert heading(page) == HOSTILE and "none with q < 0.05" in panel(page)
        assert page.execute_script("return window.hacked") is None
        assert not page.find_elements(By.CSS_SELECTOR, "#panel b, #legend b, #cautions b, #regions b")


def test_a_subject_without_surface_and_a_region_of_one_voxel(browser: Chrome, data: Any, tmp_path: Path) -> None:
    one = data["sets"][0]
    alone = next(row for row, rois in enumerate(one["rois"]) if rois == [1])
    rois = [[] if 1 in own and row != alone else own for row, own in enumerate(one["rois"])]
    changed = {**one, "geometry": None, "no_surface": "its data set has no surface", "rois": rois}
    with opened(browser, saved({**data, "sets": [changed]}, tmp_path)) as page:
        assert "its data set has no surface" in page.find_element(By.ID, "stage-note").text
        press(page, "faces")
        assert heading(page) == "faces" and panel(page).splitlines()[2].startswith("1 voxel, ")
        press(page, "Show only this region")
        press(page, "man")
        assert page.find_element(By.ID, "count").text == f"1 of {VOXELS} voxels"
        page.find_element(By.ID, "scroller").send_keys(Keys.HOME)
        assert heading(page) == f"Voxel {one['voxel'][alone]}"


@pytest.mark.parametrize("size", [(1024, 768), (800, 600), (420, 900)])
def test_a_region_fits_narrow_screens(page: Chrome, size: tuple[int, int]) -> None:
    page.set_window_size(*size)
    about(page, "faces")
    wide, room = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    stuck = page.execute_script("const one = document.getElementById('panel'); return one.scrollWidth > one.clientWidth")
    to_panel = page.find_element(By.ID, "to-panel")
    if size[0] < 900:
        to_panel.send_keys(Keys.ENTER)
        assert page.switch_to.active_element.text == "faces", "the way to a panel below the cortex"
    else:
        assert not to_panel.is_displayed()
    page.set_window_size(1440, 1100)
    assert wide <= room and not stuck


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_has_a_name(browser: Chrome, file: str, theme: str) -> None:
    scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    with opened(browser, file) as page:
        assert page.find_element(By.TAG_NAME, "html").get_attribute("data-theme") == theme
        page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.find_element(By.CSS_SELECTOR, "#legend .chip").send_keys(Keys.ENTER)
        about(page, "faces")
        assert page.execute_script(PALE) == [] and page.execute_script(NAMELESS) == []
        page.find_element(By.ID, "scroller").send_keys(Keys.HOME)
        assert heading(page).startswith("Voxel ")
        assert page.execute_script(PALE) == [] and page.execute_script(NAMELESS) == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
