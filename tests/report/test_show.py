"""Terminal tables: the rows asked for, in order, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner, Result

from scuba_ray.cli import app
from scuba_ray.errors import ConfigError
from scuba_ray.report import show
from scuba_ray.report.compare import SPARE, comparison_table, for_people
from scuba_ray.report.image_table import image_table
from scuba_ray.report.render import render
from scuba_ray.tables.columns import matrix
from tests.report.analysed import control_text, write_evidence
from tests.report.images import QUERY
from tests.report.synthetic import DIM, HOSTILE, Written, write_run


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


def test_voxels_whose_caption_names_a_noun(written: Written) -> None:
    hats = show.voxel_table(written.run, noun="hats")
    assert {caption.split(" (")[0] for caption in hats["caption"].to_pylist()} == {"a smiling man in a hat"}
    everyone = show.voxel_table(written.run)["caption"].to_pylist()
    assert hats.num_rows == sum("hat (" in caption for caption in everyone) > 0
    faces = show.voxel_table(written.run, noun="man", roi="faces", limit=2)
    assert faces.num_rows == 2 and set(faces["roi"].to_pylist()) == {"faces"}
    with pytest.raises(ConfigError, match=r"no caption in this run names 'hut'; the nearest of \d+ nouns: hat, "):
        show.voxel_table(written.run, noun="huts")
    with pytest.raises(ConfigError, match="no caption in ROI 'food' names 'man'; nouns: pasta, plate"):
        show.voxel_table(written.run, noun="man", roi="food")


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


def test_voxel_details_hold_captions_against_controls(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=20)
    write_evidence(written)
    items = [(row["item"], row["value"]) for row in show.voxel_details(written.run, 115).to_pylist() if "held-out" in row["item"]]
    assert items == [
        ("held-out r, brainscuba", "0.150 by own, 0.050 by judge"),
        ("held-out r, control most-frequent", f"“{control_text(115, 'most-frequent')}”: -0.350 by own, -0.450 by judge"),
        ("held-out r, control shuffled", f"“{control_text(115, 'shuffled')}”: -0.350 by own, -0.450 by judge"),
    ]
    (silent, *_) = [row for row in show.voxel_details(written.run, 110).to_pylist() if "held-out" in row["item"]]
    assert silent["value"] == "not known"


def test_voxel_details_say_what_analyses_found(analysed: Written) -> None:
    rows = show.voxel_details(analysed.run, 105).to_pylist()
    items = {row["item"]: row["value"] for row in rows}
    assert items["person share"] == "0.6 of 5 captions name people"
    assert items["selectivity, caption_agreement"] == "0.25 (share of nouns)" and "selectivity, n_eff" not in items
    assert items["part of faces"] == "2 of 2 (cosine with its mean 0.75; it says woman, hat)"
    assert items["embedding map"] == "#FF8000 (pca fitted on subj01)"
    others = [row["item"] for row in show.voxel_details(analysed.run, 106).to_pylist()]
    assert not [item for item in others if item.startswith(("person", "selectivity", "part of", "embedding map"))]


class Words:
    """A text tower that answers with one direction, longer for a longer text."""

    text_D = torch.linspace(-1, 1, DIM)

    def load(self, device: str) -> Words:
        return self

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        return self.text_D[None] * len(texts[0])


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scuba_ray.models.clip.make_backbone", lambda config: Words())


@pytest.mark.usefixtures("words")
def test_query_ranks_voxels_that_predict_by_cosine_of_weights(written: Written) -> None:
    text_D = Words.text_D
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


@pytest.mark.usefixtures("words")
def test_a_query_is_asked_of_a_region_and_of_captions_with_a_noun(written: Written) -> None:
    everyone = show.query(written.run, written.config, "a plate of food").to_pylist()
    faces = [row for row in everyone if row["roi"] == "faces"]
    assert show.query(written.run, written.config, "a plate of food", roi="faces").to_pylist() == faces, "the same order"
    hats = [row for row in faces if "hat (" in row["caption"]]
    asked = ["show", written.run.location, "--query", "a plate of food", "--roi", "faces", "--noun", "hats", "--format", "json"]
    assert 0 < len(hats) < len(faces) and json.loads(CliRunner().invoke(app, [*asked, "--limit", "2"]).stdout) == hats[:2]
    with pytest.raises(ConfigError, match="no voxel of this run is in ROI 'V1'; regions: bodies, faces, food, places, words"):
        show.query(written.run, written.config, "food", roi="V1")
    with pytest.raises(ConfigError, match="no caption in ROI 'food' names 'man'; nouns: "):
        show.query(written.run, written.config, "food", roi="food", noun="man")


@pytest.mark.usefixtures("words")
def test_no_table_is_wider_than_80_columns(evidenced: Written) -> None:
    for options in (["--query", "food"], ["--query", "food", "--roi", "faces"], ["--voxel", "102"], ["--roi", "faces"], []):
        result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["show", evidenced.run.location, *options])
        assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 80


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


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_word_of_a_comparison_is_broken(evidenced: Written, width: int) -> None:
    table = for_people(comparison_table(evidenced.run))
    lines = render(table, width=width, spare=SPARE).splitlines()
    assert max(map(len, lines)) <= width
    words = set(" ".join(lines).split())
    assert any(
        set(pieces) <= words for pieces in (["shuffled-within-roi"], ["shuffled-", "within-roi"], ["shuffled-", "within-", "roi"])
    )
    assert {"independent", "lavca", "0.125", "[-0.250,", "0.500]", "frequent"} <= words
    assert ("unsupported" in words) or "(too narrow for unsupported" in " ".join(lines)


def test_columns_that_do_not_fit_are_named_and_a_sentence_gives_way_last() -> None:
    table = pa.table({"name": ["aaaaaaaaaa"], "spare": ["bbbbbbbbbb"], "caption": ["c" * 30 + " dd"]})
    assert "spare" in render(table, width=60, spare=("spare",)) and "too narrow" not in render(table, width=60, spare=("spare",))
    narrow = render(table, width=40, spare=("spare",))
    assert (
        "bbbb" not in narrow
        and "aaaaaaaaaa" in narrow
        and "(too narrow for spare: --format csv has all)" in narrow.replace("\n", " ")
    )
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.replace(" ", "").replace("\n", "").count("c") >= 30, "an address is broken where it must be, not cut off"


@pytest.mark.parametrize("options", [(), ("--roi", "faces"), ("--noun", "man"), ("--voxel", "102"), ("--compare",)])
def test_every_table_comes_as_json_and_as_csv(evidenced: Written, options: tuple[str, ...]) -> None:
    def printed(form: str) -> str:
        result = CliRunner().invoke(app, ["show", evidenced.run.location, *options, "--format", form])
        assert result.exit_code == 0, result.output
        return result.stdout

    records, rows = json.loads(printed("json")), list(csv.DictReader(io.StringIO(printed("csv"))))
    assert len(records) == len(rows) > 0 and list(records[0]) == list(rows[0])


def test_choices_that_contradict_each_other_are_refused(written: Written) -> None:
    for options in (
        ["--noun", "man", "--voxel", "101"], ["--query", "man", "--voxel", "101"], ["--roi", "faces", "--voxel", "101"],
        ["--noun", "man", "--compare"], ["--query", "man", "--compare"], ["--noun", "man", "--images"],
    ):  # fmt: skip
        assert CliRunner().invoke(app, ["show", written.run.location, *options]).exit_code == 2


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


def test_images_of_a_region_are_followed_by_those_of_its_parts(parted: Written) -> None:
    def targets(roi: str | None) -> list[str]:
        return list(dict.fromkeys(image_table(parted.run, roi=roi)["target"].to_pylist()))

    assert targets("faces") == ["faces", "faces part 1", "faces part 2"] and targets("faces part 2") == ["faces part 2"]
    assert targets(None) == [QUERY, "faces", "faces part 1", "faces part 2", "voxel 110"]


def test_images_that_are_not_there_are_said_to_be_missing(imaged: Written, written: Written) -> None:
    with pytest.raises(ConfigError, match="no images for words; targets: faces, food, food / <i>on</i> a table, voxel 110"):
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
