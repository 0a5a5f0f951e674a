"""Pictures become raw embeddings, once each and in order; what cannot be read is named and left out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from scuba_ray.bank.shards import partition_of
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.stages.encode import EncodeBank, EncodeStimuli
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import bank_schema, embeddings_schema
from tests.study import BANK, STIMULI, TinyStudy


def stimuli_stage(study: TinyStudy, **changes: object) -> EncodeStimuli:
    config = study.config(**changes)
    backbone = make_backbone(config.backbones[0])
    return EncodeStimuli(subject=config.subjects[0], backbone=backbone, settings=config.encode, resources=Resources())


def bank_stage(study: TinyStudy, **changes: object) -> EncodeBank:
    config = study.config(**changes)
    assert config.bank.images is not None
    backbone = make_backbone(config.backbones[0])
    return EncodeBank(
        images=config.bank.images, source="folder", backbone=backbone, settings=config.encode, resources=Resources()
    )


def run(stage: EncodeStimuli | EncodeBank, start: int, stop: int) -> StageOutput:
    stage.setup()
    return stage(stage.read(Chunk(0, start, stop)))


def test_embeddings_are_what_the_network_says_picture_by_picture(study: TinyStudy) -> None:
    output = run(stimuli_stage(study), 3, 9)
    assert output.table.schema.equals(embeddings_schema(24))
    assert output.table["stimulus_id"].to_pylist() == [f"s{index:04d}" for index in range(3, 9)]
    assert not output.bad
    network = make_backbone(study.config().backbones[0]).load("cpu")
    pictures = [Image.open(study.folder / "subject" / "images" / f"s{index:04d}.png") for index in range(3, 9)]
    raw_BD = torch.cat([network.embed_images(network.preprocess(picture)[None]) for picture in pictures]).numpy()
    np.testing.assert_allclose(matrix(output.table["embedding"]), raw_BD, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(output.table["norm"].to_numpy(), np.linalg.norm(raw_BD, axis=1), rtol=1e-5)
    assert np.abs(output.table["norm"].to_numpy() - 1).min() > 0.1, "raw, not normalised"


@pytest.mark.parametrize("cuts", [[0, 60], [0, 1, 2, 30, 60], [0, 17, 34, 51, 60]])
def test_a_result_does_not_depend_on_how_rows_were_cut(study: TinyStudy, cuts: list[int]) -> None:
    stage = stimuli_stage(study)
    whole = run(stage, 0, STIMULI).table
    pieces = [run(stage, start, stop).table for start, stop in pairwise(cuts)]
    assert pa.concat_tables(pieces).equals(whole)


def test_bank_shards_are_sorted_and_name_their_backbone(study: TinyStudy) -> None:
    output = run(bank_stage(study), 0, BANK)
    table = output.table
    assert table.schema.equals(bank_schema(24))
    assert table.schema.metadata[b"backbone"] == b"tiny"
    order = list(zip(table["partition"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert len(set(table["image_id"].to_pylist())) == BANK
    assert all(partition == partition_of(image) for partition, image in order)


def test_unreadable_pictures_are_named_and_never_embedded(own_study: TinyStudy) -> None:
    pictures = own_study.folder / "pictures"
    (pictures / "b0003.png").write_bytes(b"")
    (pictures / "b0004.png").write_bytes(b"not a picture")
    whole = (pictures / "b0005.png").read_bytes()
    (pictures / "b0005.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (300, 300)).save(pictures / "b0006.png")
    healthy = run(bank_stage(own_study), 10, 20).table
    output = run(bank_stage(own_study, encode__max_pixels=10_000), 0, 20)
    assert [bad.key for bad in output.bad] == [f"image_id=b000{index}.png" for index in (3, 4, 5, 6)]
    words = [bad.reason for bad in output.bad]
    assert "empty" in words[0] and "known format" in words[1] and "readable" in words[2] and "max_pixels" in words[3]
    assert not any("0x" in reason for reason in words), "a reason is the same every time"
    assert output.table.num_rows == 16
    again = output.table.filter(pa.compute.is_in(output.table["image_id"], healthy["image_id"].combine_chunks()))
    assert again.equals(healthy), "bad pictures beside it do not change a picture's embedding"


def test_nothing_readable_gives_a_table_without_rows(own_study: TinyStudy) -> None:
    for index in range(5):
        (own_study.folder / "pictures" / f"b{index:04d}.png").write_bytes(b"")
    output = run(bank_stage(own_study), 0, 5)
    assert output.table.schema.equals(bank_schema(24)) and output.table.num_rows == 0 and len(output.bad) == 5


def test_fingerprint_knows_the_model_and_not_the_batch(study: TinyStudy) -> None:
    plain = stimuli_stage(study).fingerprint()
    assert stimuli_stage(study, encode={"batch": 3, "chunk": 4}).fingerprint() == plain
    assert stimuli_stage(study, encode={"max_pixels": 10}).fingerprint() != plain
