"""Nearest pictures in words: by the captioner on their embeddings, or by a model that sees them; what is gone is quarantined."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from scuba_ray.config import DescribeConfig
from scuba_ray.models.image_to_text import ImageToText
from scuba_ray.protocols import Resources
from scuba_ray.stages.describe import DescribeByModel, describer_name
from scuba_ray.tables.schemas import DESCRIPTIONS
from tests.models.image_to_text import write_joined
from tests.stages.lavca_steps import describe, nearest, steps_of
from tests.stages.pictured import NAME, write_world


def test_the_captioner_says_what_a_picture_shows(tmp_path: Path) -> None:
    bank = write_world(tmp_path, voxels=["dog", "tree cloud"])
    steps = steps_of(tmp_path)
    pictures = nearest(steps, bank)
    described = describe(steps, pictures)
    found = steps.run.read("descriptions", key=described.key)
    assert found.schema.equals(DESCRIPTIONS) and len(found) == pictures.rows
    for row in found.to_pylist():
        shown = set(row["image_id"].split()[1:])
        assert set(row["nouns"]) == shown and row["model"] == "captioner"
        assert all(word in row["caption"] for word in shown)


def by_model(folder: Path, model: Path, pictures: Path) -> DescribeByModel:
    settings = DescribeConfig(model=str(model), images=str(pictures), batch=3, max_tokens=8)
    return DescribeByModel(
        backbone=NAME,
        describer=ImageToText(settings),
        settings=settings,
        max_pixels=10_000,
        model=describer_name(settings, "captioner"),
        run=steps_of(folder).run,
        resources=Resources(),
    )


def test_a_model_sees_the_pictures_and_those_that_are_gone_are_quarantined(tmp_path: Path) -> None:
    bank = write_world(tmp_path, voxels=["dog"], nearest=8)
    steps = steps_of(tmp_path)
    pictures = nearest(steps, bank)
    folder = tmp_path / "pictures"
    folder.mkdir()
    ids = steps.run.read("nearest_pictures", columns=["image_id"])["image_id"].to_pylist()
    for index, one in enumerate(ids[:-3]):
        Image.new("RGB", (40, 30), ("red", "blue")[index % 2]).save(folder / f"{one}.png")
    (folder / f"{ids[-3]}.png").write_bytes(b"no picture")
    Image.new("RGB", (200, 200)).save(folder / f"{ids[-2]}.png")
    stage = by_model(tmp_path, write_joined(tmp_path / "vit-gpt2"), folder)
    assert stage.model == "vit-gpt2"
    done = steps.complete(stage, key=f"{NAME}/{stage.model}", rows=pictures.rows, chunk=5, inputs=[pictures.fingerprint])
    found = steps.run.read("descriptions", key=done.key)
    assert found["image_id"].to_pylist() == ids[:-3]
    assert found["caption"].to_pylist() == [f"a picture of {('red', 'blue')[index % 2]}" for index in range(len(ids) - 3)]
    bad = steps.run.quarantine()
    assert pc.all(pc.equal(bad["step"], "describe")).as_py() and bad["unit"].unique().to_pylist() == [f"{NAME}/vit-gpt2"]
    assert bad["key"].to_pylist() == [f"image_id={one}" for one in ids[-3:]]
    reasons = bad["reason"].to_pylist()
    assert "not a readable picture" in reasons[0] and "200 x 200" in reasons[1] and "cannot be read" in reasons[2]


def test_a_bank_that_does_not_say_where_its_pictures_are(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    stage = by_model(tmp_path, write_joined(tmp_path / "model"), tmp_path / "pictures")
    output = stage(pa.table({"image_id": ["one"], "uri": pa.array([None], pa.string())}))
    assert len(output.table) == 0 and "does not say where" in output.bad[0].reason


@pytest.mark.parametrize(("model", "name"), [(None, "phantom:captioner"), ("Salesforce/blip", "Salesforce/blip")])
def test_names_of_describers(model: str | None, name: str) -> None:
    assert describer_name(DescribeConfig(model=model), "phantom:captioner") == name
