"""Images on the page: every target with its best, within the budget, stimuli once and only where they may be shown."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.report import explorer
from scuba_ray.report.explorer import gather, write_report
from scuba_ray.report.image_payload import SIDE, ImagePayload, figures
from scuba_ray.report.synthesised import by_target
from tests.report.images import QUERY, VOXEL
from tests.report.synthetic import HOSTILE, Written
from tests.report.test_explorer import Page, embedded


@pytest.fixture(scope="module")
def text(imaged: Written) -> str:
    return Path(write_report(imaged.run, imaged.config)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(text: str) -> Any:
    return embedded(text)


def test_parts_know_their_region(parted: Written) -> None:
    (one,) = gather(parted.run, parted.config, images_made=by_target(parted.run, parted.config))["sets"]
    regions = {target["name"]: target["roi"] for target in one["targets"] if target["kind"] in {"roi", "part"}}
    assert regions == dict.fromkeys(("faces", "faces part 1", "faces part 2"), "faces")
    assert {row["target"] for row in one["synthesis"]} >= set(regions)


def test_targets_of_a_set_have_their_best_images(data: Any) -> None:
    (one,) = data["sets"]
    assert [(target["kind"], target["name"], target["voxel"]) for target in one["targets"]] == [
        ("roi", "faces", None), ("roi", "food", None), ("voxel", f"voxel {VOXEL}", VOXEL), ("query", QUERY, None),
    ]  # fmt: skip
    faces = one["targets"][0]
    assert faces["voxels"] == 2 and faces["category"] == "faces" and faces["natural"] == [-0.0625, 0.03125]
    best = faces["methods"][0]["images"][0]
    assert (best["noun"], best["predicted"], best["predicted_independent"]) == ("cat", 3.75, 2.0)
    assert best["percentile"] == 88 and best["seen"] == "food"
    assert [method["method"] for method in faces["methods"]] == ["brainscuba", "lavca", "braindive", "natural-top-100"]
    assert faces["methods"][1]["images"][0]["predicted_independent"] is None
    assert faces["sheet"] == "subj01-faces.png" and one["targets"][2]["sheet"] is None


def test_pictures_are_kept_once_and_right(imaged: Written, data: Any) -> None:
    pictures = data["synthesis"]["pictures"]
    targets = data["sets"][0]["targets"]
    natural = [image["picture"] for target in targets for image in target["methods"][-1]["images"]]
    assert natural == natural[:3] * 4 and data["synthesis"]["left_out"] == 0
    made = [image["picture"] for target in targets for method in target["methods"][:-1] for image in method["images"]]
    assert len(set(made)) == len(made) == len(pictures) - 3
    for target, packed in zip(by_target(imaged.run, imaged.config), targets, strict=True):
        for row, method in zip(target.rows, packed["methods"], strict=True):
            found = Image.open(io.BytesIO(base64.b64decode(pictures[method["images"][1]["picture"]])))
            assert found.size == (SIDE, SIDE)
            wanted = row.best[1]["picture"].resize((8, 8), Image.Resampling.BOX)
            np.testing.assert_allclose(
                np.asarray(found.convert("RGB").resize((8, 8), Image.Resampling.BOX)).astype(int),
                np.asarray(wanted).astype(int),
                atol=24,
            )


def test_a_small_budget_leaves_every_method_its_best(imaged: Written) -> None:
    payload = ImagePayload()
    for target in by_target(imaged.run, imaged.config):
        payload.add(target)
    whole = payload.pack(10**7)
    some = payload.pack(sum(map(len, whole["pictures"])) // 3)
    assert 0 < some["left_out"] < len(whole["pictures"]) and sum(len(one or "") for one in some["pictures"]) <= 10**7
    firsts = [method["images"][0]["picture"] for target in payload.targets["subj01", "tiny"] for method in target["methods"]]
    assert all(some["pictures"][number] for number in firsts)
    assert payload.pack(0)["left_out"] == len(whole["pictures"])


def test_without_stimuli_none_of_their_pictures_is_on_page_or_sheet(imaged: Written) -> None:
    hidden = imaged.config.model_copy(update={"report": imaged.config.report.model_copy(update={"stimuli": False})})
    data = gather(imaged.run, hidden, images_made=by_target(imaged.run, hidden))
    assert data["synthesis"]["stimuli"] is False
    for target in data["sets"][0]["targets"]:
        assert {(image["picture"], image["absent"]) for image in target["methods"][-1]["images"]} == {(None, "not shown")}
        assert target["methods"][-1]["images"][0]["predicted"] == 0.75, "the numbers stay"
    assert len(data["synthesis"]["pictures"]) == 8 * (2 * 3 + 2)


def test_prompts_cannot_end_the_element_they_are_in(text: str, data: Any) -> None:
    Page(text)
    assert HOSTILE not in text and QUERY not in text and "<img" not in text and text.count("</script>") == 2
    voxel = data["sets"][0]["targets"][2]
    assert HOSTILE in {image["prompt"] for image in voxel["methods"][0]["images"]}


def test_page_and_sheets_of_a_run(imaged: Written, text: str) -> None:
    folder = Path(imaged.run.location) / "report" / "sheets"
    assert len(text) < 4e6
    assert {path.name for path in folder.iterdir()} == {
        "subj01-faces.png", "subj01-food.png", "subj01-query-food_i_on_i_a_table-62847e70.png",
    }  # fmt: skip


def test_figures_of_the_analysis_lead_with_all_regions(imaged: Written, data: Any) -> None:
    rows = data["sets"][0]["synthesis"]
    assert list(dict.fromkeys(row["target"] for row in rows)) == ["all regions", "faces", "food", QUERY]
    assert [row["method"] for row in rows[:4]] == ["brainscuba", "lavca", "braindive", "natural-top-100"]
    assert rows[0]["images"] == 18 and rows[0]["classified"] == 0.5 and rows[0]["low"] < 0.5 < rows[0]["high"]
    assert rows[2]["seconds"] == 1.5 and rows[3]["seconds"] is None
    assert figures(imaged.run.read("analyses/synthesis"), "subj02", "tiny") == []


def test_a_run_without_images_says_nothing_of_them(written: Written) -> None:
    data = embedded(Path(write_report(written.run, written.config)).read_text(encoding="utf-8"))
    assert data["synthesis"] is None and data["sets"][0]["targets"] == [] and data["sets"][0]["synthesis"] == []
    assert not (Path(written.run.location) / "report" / "sheets").exists()


def test_budget_holds_on_the_page(imaged: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "IMAGE_BYTES", 20_000)
    data = gather(imaged.run, imaged.config, images_made=by_target(imaged.run, imaged.config))
    assert 10_000 < sum(len(one or "") for one in data["synthesis"]["pictures"]) <= 20_000


def test_the_command_line_leaves_stimuli_out_when_asked(imaged: Written) -> None:
    page = Path(imaged.run.location) / "report" / "index.html"
    for options, shown in ((["--no-stimuli"], False), ([], True)):
        done = CliRunner().invoke(app, ["report", imaged.run.location, *options])
        assert (done.exit_code, done.stdout) == (0, f"{page}\n")
        assert embedded(page.read_text(encoding="utf-8"))["synthesis"]["stimuli"] is shown
