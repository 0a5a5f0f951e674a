"""Terminal tables: the rows asked for, in order, in every format."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner, Result

from scuba_ray.cli import app
from scuba_ray.errors import ConfigError
from scuba_ray.report import show
from scuba_ray.report.image_table import image_table
from scuba_ray.report.render import render
from scuba_ray.tables.columns import matrix
from tests.report.synthetic import DIM, HOSTILE, Written


def test_voxel_table_is_sorted_by_r2(written: Written) -> None:
    table = show.voxel_table(written.run, limit=10)
    assert table.column_names == ["subject", "backbone", "voxel_id", "roi", "noise_ceiling", "r2", "caption"]
    r2 = written.run.read("voxels")["r2"].to_numpy()
    np.testing.assert_array_equal(table["r2"].to_numpy(), np.sort(r2)[::-1][:10])


def test_voxel_table_of_a_region(written: Written) -> None:
    table = show.voxel_table(written.run, roi="food")
    rois = written.run.read("voxels")["rois"].to_pylist()
    assert table.num_rows == sum("food" in names for names in rois) > 0
    assert set(table["roi"].to_pylist()) == {"food"}
    with pytest.raises(ConfigError, match="bodies, faces, food, places, words"):
        show.voxel_table(written.run, roi="V1")


def test_voxel_details_has_every_caption_and_score(written: Written) -> None:
    table = show.voxel_details(written.run, 101)
    items = dict(zip(table["item"].to_pylist(), table["value"].to_pylist(), strict=True))
    captions = [row for row in written.run.read("captions").to_pylist() if row["voxel_id"] == 101]
    assert len(captions) == 6
    assert items["caption, whole bank, brainscuba"] == f"{captions[0]['caption']} (log-probability -0.5)"
    assert items["r2"] == "0.25" and items["nearest 1, whole bank"].endswith("(0.5)")
    with pytest.raises(ConfigError, match=r"no voxel 7; it has 60 voxels, ids 100 to 159"):
        show.voxel_details(written.run, 7)


def test_voxel_details_of_concepts_and_of_nouns_without_support(evidenced: Written) -> None:
    table = show.voxel_details(evidenced.run, 102)
    items = dict(zip(table["item"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert items["caption, whole bank, brainscuba"].endswith(" (102) (log-probability -0.5)"), "the caption is not a concept's"
    assert items["caption, whole bank, brainscuba, concept 1"] == "a dog (0.75 of the mass; log-probability -0.25)"
    assert items["caption, whole bank, brainscuba, concept 2"].endswith(
        "(0.25 of the mass; log-probability -0.25; unsupported: boat)"
    )
    assert items["caption, whole bank, lavca"] == "A photo of dog and fog. (unsupported: fog)"


def test_query_ranks_voxels_that_predict_by_cosine_of_weights(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    text_D = torch.linspace(-1, 1, DIM)

    class Words:
        def load(self, device: str) -> Words:
            return self

        def embed_texts(self, texts: list[str]) -> torch.Tensor:
            return text_D[None] * len(texts[0])

    monkeypatch.setattr("scuba_ray.models.clip.make_backbone", lambda config: Words())
    table = show.query(written.run, written.config, "a plate of food")
    voxels = written.run.read("voxels")
    weights_VD = matrix(voxels["weight"]).astype(np.float64)
    cosine_V = weights_VD @ text_D.numpy() / np.linalg.norm(weights_VD, axis=1) / np.linalg.norm(text_D.numpy())
    predicts_V = voxels["q"].to_numpy() < 0.05
    assert 0 < predicts_V.sum() < len(predicts_V)
    expected = np.concatenate([np.sort(cosine_V[predicts_V])[::-1], np.sort(cosine_V[~predicts_V])[::-1]])
    np.testing.assert_allclose(table["cosine"].to_numpy(), expected, atol=1e-5)
    assert table["voxel_id"][0].as_py() == 100 + int(np.where(predicts_V, cosine_V, -2).argmax())
    with pytest.raises(ConfigError, match="empty"):
        show.query(written.run, written.config, "  ")


def test_query_skips_voxels_without_weights() -> None:
    weights = pa.array([[1.0, 0.0], None, [0.0, 0.0], [0.0, 2.0]], pa.list_(pa.float32(), 2))
    found = show._cosines(pa.chunked_array([weights]), np.array([1.0, 1.0], np.float32)).to_pylist()
    assert found == [pytest.approx(0.5**0.5), None, None, pytest.approx(0.5**0.5)]


@pytest.mark.parametrize("width", [60, 100, 160])
def test_table_fits_the_width(written: Written, width: int) -> None:
    text = render(show.voxel_table(written.run), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "subject subj01, backbone tiny" in text and "R²" in text
    narrow = "".join(render(show.voxel_table(written.run, roi="places"), width=width).split())
    assert "voxel" in narrow and "ceiling" in narrow


def test_json_and_csv_keep_everything(written: Written) -> None:
    table = show.voxel_table(written.run)
    assert json.loads(render(table, "json")) == table.to_pylist()
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [int(row["voxel_id"]) for row in rows] == table["voxel_id"].to_pylist()
    assert HOSTILE in {row["caption"] for row in rows}


def test_markup_in_a_caption_is_not_interpreted() -> None:
    table = pa.table({"voxel_id": [1], "caption": ["[red]a sign[/red] <b>"]})
    assert "[red]a sign[/red] <b>" in render(table, width=80)


def test_images_of_a_region_or_voxel_are_listed_best_first(imaged: Written) -> None:
    table = image_table(imaged.run, roi="food")
    assert set(table["target"].to_pylist()) == {"food"} and table.num_rows == 3 * 9, "stimuli are no images that were made"
    rows = table.to_pylist()
    assert [row["rank"] for row in rows] == 3 * list(range(9)) and rows[0]["method"] == "braindive"
    best = next(row for row in rows if row["method"] == "brainscuba")
    assert (best["prompt"], best["predicted"], best["predicted_independent"]) == ("A photo of a cat", 3.75, 2.0)
    assert best["category"] == "food"
    assert image_table(imaged.run, voxel=110, limit=2)["rank"].to_pylist() == [0, 1]
    assert image_table(imaged.run).num_rows == 8 * 9
    for form in ("table", "json", "csv"):
        assert HOSTILE[:20] in render(image_table(imaged.run, voxel=110), form, width=160).replace('""', '"').replace('\\"', '"')


def test_images_that_are_not_there_are_said_to_be_missing(imaged: Written, written: Written) -> None:
    with pytest.raises(
        ConfigError, match="no images for words; it made some for food / <i>on</i> a table, faces, food, voxel 110"
    ):
        image_table(imaged.run, roi="words")
    with pytest.raises(ConfigError, match="no images for voxel 7"):
        image_table(imaged.run, voxel=7)
    with pytest.raises(ConfigError, match="no images; add the setting `synthesize`"):
        image_table(written.run)


def test_voxel_details_name_its_images(imaged: Written, written: Written) -> None:
    rows = show.voxel_details(imaged.run, 110).to_pylist()
    items = {row["item"]: row["value"] for row in rows}
    assert items["image 1, brainscuba"] == (
        "a caption of voxel 110 (predicted 3.75 z; independently 2 z; percentile 88; seen as food)"
    )
    assert HOSTILE in items["image 7, brainscuba"] and "image 10, brainscuba" not in items
    assert not [row for row in show.voxel_details(imaged.run, 111).to_pylist() if row["item"].startswith("image ")]
    assert not [row for row in show.voxel_details(written.run, 110).to_pylist() if row["item"].startswith("image ")]


def test_the_command_line_lists_images_of_a_target_only(imaged: Written) -> None:
    def scuba(*options: str) -> Result:
        return CliRunner().invoke(app, ["show", imaged.run.location, "--images", *options])

    listed = json.loads(scuba("--roi", "faces", "--limit", "4", "--format", "json").stdout)
    assert listed == image_table(imaged.run, roi="faces", limit=4).to_pylist()
    assert scuba("--voxel", "110", "--format", "csv").stdout.count("brainscuba") == 9
    assert scuba("--query", "a dog").exit_code == 2 and scuba("--compare").exit_code == 2
    assert isinstance(scuba("--roi", "words").exception, SystemExit)
