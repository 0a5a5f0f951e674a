"""Pictures for the README: a finished demo's page in Chromium, its figures and a contact sheet, in docs/gallery.

    make demo
    PYTHONPATH=. .venv/bin/python docs/gallery.py runs/demo

Needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

import pyarrow.compute as pc
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD
from tests.browser.chromium import chromium, opened, settle
from tests.browser.test_explorer import choose

PLACE = Path(__file__).parent / "gallery"
WIDEST, QUALITY = 1400, 82
FIGURES = ("nouns", "clusters", "comparison")
SHEET = "phantom-food"


def keep(png: bytes, name: str, *, height: int | None = None) -> None:
    """Write a picture as WebP, no wider than `WIDEST` and cut off below `height`."""
    picture = Image.open(BytesIO(png)).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, height or picture.height)))
    picture.thumbnail((WIDEST, WIDEST * 4))
    picture.save(PLACE / f"{name}.webp", quality=QUALITY, method=6)


def clearest(run: RunFolder, roi: str) -> int:
    """The region's best predicted voxel that has a caption."""
    captions = run.read("captions")
    plain = pc.and_(pc.equal(captions["method"], METHOD), pc.equal(captions["partition"], WHOLE_BANK))
    captioned = set(captions.filter(plain)["voxel_id"].to_pylist())
    key = f"{captions['subject'][0]}/{captions['backbone'][0]}"
    voxels = run.read("voxels", key=key, columns=["voxel_id", "rois", "r2"]).to_pylist()
    return max((row["r2"], row["voxel_id"]) for row in voxels if roi in (row["rois"] or ()) and row["voxel_id"] in captioned)[1]


def shot(page: Chrome, name: str, *, height: int) -> None:
    """Keep what the window shows of the top of the page."""
    page.execute_script("window.scrollTo(0, 0)")
    settle(page)
    keep(page.get_screenshot_as_png(), name, height=height)


def main() -> None:
    """Take all pictures of the run that is named."""
    if len(sys.argv) != 2:
        sys.exit("which run? python docs/gallery.py runs/demo")
    run = RunFolder(sys.argv[1])
    PLACE.mkdir(exist_ok=True)
    file = str(Path(run.location) / "report" / "index.html")
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), size=(1440, 1200)) as browser:
        with opened(browser, file) as page:
            choose(page, clearest(run, "food"))
            page.find_element(By.ID, "clear").click()
            shot(page, "explorer", height=1000)
        with opened(browser, file) as page:
            page.find_element(By.CSS_SELECTOR, 'button.about[title="What bodies is about"]').click()
            shot(page, "region", height=1000)
    for name in FIGURES:
        keep((Path(run.location) / "analyses" / name / "_figure.png").read_bytes(), name)
    keep((Path(run.location) / "report" / "sheets" / f"{SHEET}.png").read_bytes(), "sheet")


if __name__ == "__main__":
    main()
