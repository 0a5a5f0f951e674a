"""The page as a file: whole, self-contained, safe against what captions may hold, and its numbers those of the tables."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.errors import DataError
from scuba_ray.report import page
from scuba_ray.report.explorer import gather, write_report
from scuba_ray.tables.store import RunFolder
from tests.report.synthetic import HOSTILE, Written, write_run

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """Collects attributes and the text of script and style elements; a tag that does not close its own fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def text(written: Written) -> str:
    location = write_report(written.run, written.config)
    assert location == f"{written.run.location}/report/index.html"
    return Path(location).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(text: str) -> Any:
    return embedded(text)


def embedded(text: str) -> Any:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_page_is_whole_and_points_nowhere_outside(text: str) -> None:
    whole = Page(text)
    places = [value for _, name, value in whole.attributes if name in {"src", "href", "action", "srcset", "data"}]
    assert places and all(value.startswith(("#", "data:")) for value in places)
    own = "".join(whole.texts["style"]) + whole.texts["script"][-1]
    outside = re.findall(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s'"]*""", own)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}, "an XML namespace is a name, nothing else may be named"
    assert not re.search(r"@import|\burl\((?!\$\{sheetLinks)|\bfetch\((?!SERVICE,)|XMLHttpRequest|import\(", own)
    (policy,) = [value for tag, name, value in whole.attributes if (tag, name) == ("meta", "content") and "default-src" in value]
    assert "default-src 'none'" in policy and "connect-src" not in policy, "the query box may ask where a service allows it only"
    assert not [name for tag, name, _ in whole.attributes if tag == "html" and name == "data-service"]


def test_captions_cannot_end_the_element_they_are_in(text: str, data: Any) -> None:
    assert HOSTILE not in text and "<img" not in text
    assert text.count("</script>") == 2
    one = data["sets"][0]
    assert data["texts"][one["caption"][one["voxel"].index(100)]] == HOSTILE


def test_title_is_escaped(written: Written) -> None:
    config = written.config.model_copy(update={"name": "<script>alert(1)</script>"})
    text = Path(write_report(written.run, config)).read_text(encoding="utf-8")
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


def test_numbers_are_those_of_the_tables(written: Written, data: Any) -> None:
    (one,) = data["sets"]
    voxels = written.run.read("voxels")
    assert one["voxel"] == voxels["voxel_id"].to_pylist()
    assert one["vertex"] == voxels["vertex"].to_pylist() and one["hemi"] == voxels["hemi"].to_pylist()
    for score in ("r2", "noise_ceiling", "q", "split_half"):
        np.testing.assert_allclose(one["scores"][score], voxels[score].to_numpy(), rtol=6e-4)
    names = [region["name"] for region in data["regions"]]
    assert [[names[roi] for roi in rois] for rois in one["rois"]] == voxels["rois"].to_pylist()
    headline = {entry["label"]: entry["value"] for entry in one["overview"]}
    assert headline["voxels"] == 60 and headline["regions"] == 5
    assert headline["median R²"] == pytest.approx(np.median(voxels["r2"].to_numpy()), rel=1e-3)
    assert headline["q < 0.05"] == pytest.approx(np.mean(voxels["q"].to_numpy() < 0.05))


def test_captions_by_partition(written: Written, data: Any) -> None:
    (one,) = data["sets"]
    rows = written.run.read("captions").to_pylist()
    truth = {(row["voxel_id"], row["partition"]): row["caption"] for row in rows}
    assert [entry["partition"] for entry in one["captions"]] == [-1, 0, 1, 2, 3, 4]
    for entry in one["captions"]:
        found = [data["texts"][index] for index in entry["text"]]
        assert found == [truth[voxel, entry["partition"]] for voxel in one["voxel"]]
    assert one["caption"] == one["captions"][0]["text"]


def test_captions_of_other_methods_and_of_concepts(evidenced: Written) -> None:
    data = gather(evidenced.run, evidenced.config)
    (one,) = data["sets"]
    row = one["voxel"].index(102)
    assert data["texts"][one["caption"][row]].endswith("(102)"), "a voxel is known by its caption, not by a concept's"
    entries = [entry for entry in one["captions"] if entry["partition"] < 0]
    said = [(entry["method"], data["texts"][entry["text"][row]], entry.get("share", [None] * 20)[row]) for entry in entries]
    assert said[0][0] == "brainscuba" and set(said[1:]) == {
        ("brainscuba, per concept", "a dog", 0.75),
        ("brainscuba, per concept", "a boat", 0.25),
        ("lavca", "A photo of dog and fog.", None),
    }
    assert all(entry["text"][row + 1] == -1 for entry in entries[1:]), "other voxels have none"


def test_nearest_images_and_n_eff(written: Written, data: Any) -> None:
    (one,) = data["sets"]
    whole = [row for row in written.run.read("projections").to_pylist() if row["partition"] == -1]
    for row, truth in enumerate(whole):
        assert [data["images"][image] for image in one["nearest"][6 * row : 6 * row + 6]] == truth["nearest_ids"][:6]
    np.testing.assert_allclose(one["projections"][0]["n_eff"], [row["n_eff"] for row in whole], rtol=6e-4)
    assert [part["partition"] for part in one["projections"]] == [-1, 0, 1, 2, 3, 4]


def test_every_nearest_image_has_its_thumbnail(data: Any) -> None:
    thumbnails = data["thumbnails"]
    used = set(data["sets"][0]["nearest"])
    assert set(map(int, thumbnails["place"])) == used and len(set(thumbnails["place"].values())) == len(used)
    assert len(thumbnails["sheets"]) == 1 and thumbnails["unreadable"] == 0


def test_recovery_rates(written: Written, data: Any) -> None:
    def mine(row: Any) -> bool:
        return row["method"] == "brainscuba" and row["voxel_class"] == "confound"

    table = written.run.read("analyses/recovery").to_pylist()
    wanted = [row["hit"] for row in table if mine(row) and row["noise_ceiling"] >= 0.3]
    (rate,) = [row for row in data["recovery"]["rows"] if mine(row)]
    assert rate["voxels"] == len(wanted) and rate["rate"] == pytest.approx(np.mean(wanted), rel=1e-3)
    assert rate["companion"] == 1 and rate["low"] <= rate["rate"] <= rate["high"]
    assert {row["voxel_class"] for row in data["recovery"]["rows"]} == {"single", "double", "broad", "confound"}
    assert data["sets"][0]["planted"]["concept"][0] == "mammals"


def test_two_subjects_share_a_surface(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12, subjects=("subj01", "subj02"))
    data = gather(written.run, written.config)
    assert [one["subject"] for one in data["sets"]] == ["subj01", "subj02"]
    assert [one["geometry"] for one in data["sets"]] == [0, 0] and len(data["geometries"]) == 1


def test_without_surface_the_reason_is_said(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12, geometry=None)
    (one,) = gather(written.run, written.config)["sets"]
    assert one["geometry"] is None and one["no_surface"] == "its data set has no surface"
    (tmp_path / "subj01" / "dataset.json").unlink()
    (one,) = gather(written.run, written.config)["sets"]
    assert one["geometry"] is None and "cannot be opened" in one["no_surface"]


def test_without_bank_pictures_the_reason_is_said(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12)
    (tmp_path / "bank").rename(tmp_path / "elsewhere")
    assert "no folder of pictures" in gather(written.run, written.config)["thumbnails"]["none"]


def test_pictures_of_the_bank_can_be_hidden_or_left_out_by_a_list(written: Written, tmp_path: Path) -> None:
    def thumbnails(**settings: str) -> Any:
        report = written.config.report.model_copy(update=settings)
        return gather(written.run, written.config.model_copy(update={"report": report}))

    everything = thumbnails()
    first = next(iter(everything["thumbnails"]["place"]))
    assert "hidden" in thumbnails(bank="hide")["thumbnails"]["none"]
    (tmp_path / "ids.txt").write_text(f"\n {everything['images'][int(first)]} \nsomething else\n")
    kept = thumbnails(leave_out=str(tmp_path / "ids.txt"))["thumbnails"]["place"]
    assert set(kept) == set(everything["thumbnails"]["place"]) - {first}
    assert "not a readable list" in thumbnails(leave_out=str(tmp_path / "nothing.txt"))["thumbnails"]["none"]


def test_run_without_captions_is_a_data_error(tmp_path: Path, written: Written) -> None:
    with pytest.raises(DataError, match="captions"):
        write_report(RunFolder(str(tmp_path / "empty")), written.config)


def test_page_of_2000_voxels_is_small(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=2000)
    assert Path(write_report(written.run, written.config)).stat().st_size < 4e6


def test_another_template_is_another_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = page.digest()
    assets = Path(page.__file__).parent / "assets"
    shutil.copytree(assets, tmp_path / "assets")
    monkeypatch.setattr(page, "files", lambda package: tmp_path)
    assert page.digest() == before
    (tmp_path / "assets" / "panel.js").write_text("// nothing")
    assert page.digest() != before
