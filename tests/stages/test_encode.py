"""Pictures become raw embeddings, once each and in order; what cannot be read is named and left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from scuba_ray.bank.shards import partition_of
from scuba_ray.models.clip import OpenClipBackbone, make_backbone
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.stages.encode import EncodeBank, EncodeStimuli
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import PICTURES, bank_schema, embeddings_schema
from scuba_ray.tables.store import RunFolder
from tests.datasets.faulty import FaultyThen
from tests.study import BANK, STIMULI, TEST, TinyStudy


class CrashingBackbone(OpenClipBackbone):
    """The tiny backbone, with a decoder that crashes on red and hangs on green."""

    def __init__(self, name: str, model: str, marks: str) -> None:
        super().__init__(name, model)
        self.preprocessing = FaultyThen(marks, self.preprocessing)  # type: ignore[assignment]


def stimuli_stage(study: TinyStudy, **changes: object) -> EncodeStimuli:
    config = study.config(**changes)
    backbone = make_backbone(config.backbones[0])
    return EncodeStimuli(subject=config.subjects[0], backbone=backbone, settings=config.encode, resources=Resources())


def admit(study: TinyStudy, bank: RunFolder) -> None:
    """Write the table `admitted` as a build does: every picture there is."""
    names = sorted(path.name for path in (study.folder / "pictures").iterdir())
    columns = {"collection": ["pictures"] * len(names), "image_id": names, "uri": names}
    whole = [Chunk(0, 0, len(names))]
    with bank.lock():
        unit = bank.begin(step="admit", table="admitted", key="pictures", fingerprint="0" * 16)
        unit.write(whole[0], table_of(PICTURES, columns))
        bank.finish(unit, whole)


def bank_stage(study: TinyStudy, bank: RunFolder, changes: Mapping[str, Any] | None = None, **about: Any) -> EncodeBank:
    config = study.config(**(changes or {}))
    if "admitted" not in [path.name for path in Path(bank.location).glob("*")]:
        admit(study, bank)
    images: dict[str, Any] = {"collection": "pictures", "images": config.bank.images, "source": "folder"}
    backbone = make_backbone(config.backbones[0])
    return EncodeBank(run=bank, backbone=backbone, settings=config.encode, resources=Resources(), **images, **about)


@pytest.fixture
def bank(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "bank"))


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


def test_bank_shards_are_sorted_and_name_their_backbone(study: TinyStudy, bank: RunFolder) -> None:
    output = run(bank_stage(study, bank), 0, BANK)
    table = output.table
    assert table.schema.equals(bank_schema(24))
    assert table.schema.metadata[b"backbone"] == b"tiny"
    assert set(table["source"].to_pylist()) == {"pictures"}
    order = list(zip(table["partition"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert len(set(table["image_id"].to_pylist())) == BANK
    assert all(partition == partition_of(image) for partition, image in order)


def test_unreadable_pictures_are_named_and_never_embedded(own_study: TinyStudy, bank: RunFolder) -> None:
    pictures = own_study.folder / "pictures"
    (pictures / "b0003.png").write_bytes(b"")
    (pictures / "b0004.png").write_bytes(b"not a picture")
    whole = (pictures / "b0005.png").read_bytes()
    (pictures / "b0005.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (300, 300)).save(pictures / "b0006.png")
    healthy = run(bank_stage(own_study, bank), 10, 20).table
    output = run(bank_stage(own_study, bank, {"encode__max_pixels": 10_000}), 0, 20)
    assert [bad.key for bad in output.bad] == [f"image_id=b000{index}.png" for index in (3, 4, 5, 6)]
    words = [bad.reason for bad in output.bad]
    assert "empty" in words[0] and "known format" in words[1] and "readable" in words[2] and "max_pixels" in words[3]
    assert not any("0x" in reason for reason in words), "a reason is the same every time"
    assert output.table.num_rows == 16
    again = output.table.filter(pa.compute.is_in(output.table["image_id"], healthy["image_id"].combine_chunks()))
    assert again.equals(healthy), "bad pictures beside it do not change a picture's embedding"
    norm_N = output.table["norm"].to_numpy().astype(float)
    assert json.loads(output.table.schema.metadata[b"statistics"]) == {
        "pictures": 20,
        "rows": 16,
        "bad": {"too large": 1, "unreadable": 3},
        "norm_mean": pytest.approx(norm_N.mean(), rel=1e-4),
        "norm_sd": pytest.approx(norm_N.std(), rel=1e-4),
        "partitions": np.bincount(output.table["partition"].to_numpy(), minlength=5).tolist(),
        "precision": "float32",
    }


def test_nothing_readable_gives_a_table_without_rows(own_study: TinyStudy, bank: RunFolder) -> None:
    for index in range(5):
        (own_study.folder / "pictures" / f"b{index:04d}.png").write_bytes(b"")
    stage = bank_stage(own_study, bank)
    stage.setup()
    rows = stage.read(Chunk(0, 0, 5))
    for output in (stage(rows), stage(stage.prepare(rows))):
        assert output.table.schema.equals(bank_schema(24)) and output.table.num_rows == 0 and len(output.bad) == 5
        assert json.loads(output.table.schema.metadata[b"statistics"])["norm_mean"] is None


def test_prepared_rows_give_what_rows_of_uris_give(own_study: TinyStudy, bank: RunFolder) -> None:
    pictures = own_study.folder / "pictures"
    (pictures / "b0003.png").write_bytes(b"not a picture")
    stage = bank_stage(own_study, bank)
    rows = stage.read(Chunk(0, 0, 40))
    table = stage.prepare(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    travelled = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert "_network" not in vars(stage), "preparing loads no network"
    stage.setup()
    plain, ready = stage(rows), stage(travelled)
    assert plain.table.equals(ready.table, check_metadata=True) and plain.bad == ready.bad and len(ready.bad) == 1
    some = pa.array([0, 3, 5, 20])
    assert stage(travelled.take(some)).table.equals(stage(rows.take(some)).table)
    assert stage(travelled.slice(7, 9)).table.equals(stage(rows.slice(7, 9)).table), "halving a chunk cuts prepared rows"


def test_pictures_like_test_images_are_left_out_by_name(own_study: TinyStudy, bank: RunFolder) -> None:
    for name, of in (("b0004.png", "s0002.png"), ("b0008.png", f"s{TEST + 1:04d}.png")):
        copyfile(own_study.folder / "subject" / "images" / of, own_study.folder / "pictures" / name)
    stimuli, whole = stimuli_stage(own_study), [Chunk(0, 0, STIMULI)]
    with bank.lock():
        unit = bank.begin(step="encode", table="embeddings", key="subj01/tiny", fingerprint="0" * 16)
        unit.write(whole[0], run(stimuli, 0, STIMULI).table)
        bank.finish(unit, whole)
    output = run(bank_stage(own_study, bank, test=("subj01/tiny",), similar=0.99999), 0, BANK)
    assert [(bad.key, bad.reason) for bad in output.bad] == [
        ("image_id=b0004.png", "similar to test image s0002 (cosine 1.00)")
    ], "a training image may stay"
    assert json.loads(output.table.schema.metadata[b"statistics"])["bad"] == {"similar to a test image": 1}
    assert "b0004.png" not in output.table["image_id"].to_pylist() and output.table.num_rows == BANK - 1
    assert not run(bank_stage(own_study, bank, test=("subj01/tiny",)), 0, BANK).bad


def test_half_precision_changes_embeddings_slightly_and_the_fingerprint(study: TinyStudy, bank: RunFolder) -> None:
    plain = bank_stage(study, bank)
    low = replace(plain, settings=plain.settings.model_copy(update={"precision": "bfloat16"}))
    assert plain.fingerprint() != low.fingerprint() and "precision" not in plain.fingerprint()
    exact_ND, rough_ND = (matrix(run(stage, 0, 20).table["embedding"]).astype(float) for stage in (plain, low))
    cosine_N = (exact_ND * rough_ND).sum(1) / np.linalg.norm(exact_ND, axis=1) / np.linalg.norm(rough_ND, axis=1)
    assert not np.array_equal(exact_ND, rough_ND) and cosine_N.min() > 0.999


def test_a_picture_that_crashes_the_decoder_costs_its_row(own_study: TinyStudy, bank: RunFolder, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (255, 0, 0)).save(own_study.folder / "pictures" / "b0007.png")
    Image.new("RGB", (64, 64), (0, 255, 0)).save(own_study.folder / "pictures" / "b0009.png")
    stage = bank_stage(own_study, bank, {"encode__decode_seconds": 4})
    crashing = CrashingBackbone("tiny", f"local-dir:{own_study.folder / 'backbone'}", str(tmp_path))
    output, plain = run(replace(stage, backbone=crashing), 0, 20), run(stage, 0, 20)
    assert [(bad.key, bad.reason.split(" (")[0]) for bad in output.bad] == [
        ("image_id=b0007.png", "crashed the decoder"),
        ("image_id=b0009.png", "took longer than 4 s to decode"),
    ]
    assert json.loads(output.table.schema.metadata[b"statistics"])["bad"] == {"crashed": 1, "too slow": 1}
    rest = pc.invert(pc.is_in(plain.table["image_id"], pa.array(["b0007.png", "b0009.png"])))
    assert output.table.equals(plain.table.filter(rest))


def test_fingerprint_knows_the_model_and_not_the_batch(study: TinyStudy) -> None:
    plain = stimuli_stage(study).fingerprint()
    assert stimuli_stage(study, encode={"batch": 3, "chunk": 4}).fingerprint() == plain
    assert stimuli_stage(study, encode={"max_pixels": 10}).fingerprint() != plain
