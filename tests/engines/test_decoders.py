"""Pictures decoded in a pool of their own: the same shards, the same bad rows, the same errors."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.local import LocalEngine
from scuba_ray.protocols import Chunk, Engine, Receipt, Resources, StageOutput
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask
from tests.engines.samples import TABLE, Squares, complete, cut
from tests.stages.test_encode import CrashingBackbone, bank_stage
from tests.study import BANK, TinyStudy, assert_equal_tables

KEY = "tiny/pictures"
pytestmark = pytest.mark.parametrize("engine", ["ray"], indirect=True)
"""The session's Ray, started once for all tests of engines; the engines here join it."""


def faulty_stage(study: TinyStudy, bank: RunFolder, marks: Path) -> object:
    Image.new("RGB", (64, 64), (255, 0, 0)).save(study.folder / "pictures" / "b0007.png")
    (study.folder / "pictures" / "b0031.png").write_bytes(b"no picture")
    crashing = CrashingBackbone("tiny", f"local-dir:{study.folder / 'backbone'}", str(marks))
    return replace(bank_stage(study, bank), backbone=crashing, resources=Resources(cpus=0.5), preparation=Resources(cpus=0.5))


def embed(bank: RunFolder, engine: Engine, stage: object, chunks: list[Chunk]) -> list[Receipt]:
    with bank.lock():
        unit = bank.begin(step="bank", table="bank", key=KEY, fingerprint=fingerprint("bank"))  # type: ignore[arg-type]
        receipts = list(engine.map(StageTask(stage, unit), bank.missing(unit, chunks)))  # type: ignore[arg-type]
        bank.finish(unit, chunks)
    return receipts


@pytest.mark.parametrize("decoders", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_crashing_picture_costs_one_row_and_engines_agree(
    engine: Engine, own_study: TinyStudy, tmp_path: Path, decoders: int
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    local, spread = RunFolder(str(tmp_path / "local")), RunFolder(str(tmp_path / "ray"))
    chunks = cut(BANK, 25)
    embed(local, LocalEngine(EngineConfig(name="local")), faulty_stage(own_study, local, marks), chunks)
    config = EngineConfig(name="ray", max_workers=1, decoders=decoders, cpus_per_decoder=0.5)
    with RayEngine(config) as spreading:
        receipts = embed(spread, spreading, faulty_stage(own_study, spread, marks), chunks)
    assert sorted((one.chunk.index, one.rows, one.bad_rows) for one in receipts) == [
        (0, 24, 1),
        (1, 24, 1),
        (2, 25, 0),
        (3, 15, 0),
    ]
    assert_equal_tables(local, spread, ("bank",))
    assert local.quarantine().equals(spread.quarantine())
    assert {(row["key"], row["reason"]) for row in spread.quarantine().to_pylist()} == {
        ("image_id=b0007.png", "crashed the decoder (signal SIGSEGV)"),
        ("image_id=b0031.png", "not a readable picture: its bytes are of no known format"),
    }


class PreparedSquares(Squares):
    """Squares whose faults happen while rows are prepared, which another process does."""

    preparation = Resources(cpus=0.5)

    def prepare(self, rows: pa.Table) -> pa.Table:
        for number in rows["voxel_id"].to_pylist():
            self._fail(number)
        return rows.append_column("prepared by", pa.array([os.getpid()] * len(rows)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        assert os.getpid() not in rows["prepared by"].to_pylist()
        return StageOutput(rows.select(["voxel_id"]))


@pytest.fixture
def decoding(engine: Engine) -> RayEngine:
    return RayEngine(EngineConfig(name="ray", max_workers=1, retries=1, decoders=1, cpus_per_decoder=0.5))


def squares(tmp_path: Path, faults: dict[int, str]) -> PreparedSquares:
    (tmp_path / "calls").mkdir()
    return PreparedSquares(tmp_path / "calls", faults)


@pytest.mark.slow
def test_a_disk_that_was_away_and_a_lost_decoder_are_tried_again(decoding: RayEngine, run: RunFolder, tmp_path: Path) -> None:
    receipts = complete(run, decoding, squares(tmp_path, {12: "disk once", 22: "die once"}), cut())
    assert len(receipts) == 8
    assert run.read(TABLE)["voxel_id"].to_pylist() == list(range(40))


ERRORS = {
    "config": (ConfigError, "square.of must not be seven"),
    "memory": (WorkerError, "square failed on chunk 2 (rows 10 to 15): MemoryError: too large"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ERRORS)
def test_errors_while_preparing_keep_their_kind(decoding: RayEngine, run: RunFolder, tmp_path: Path, fault: str) -> None:
    kind, words = ERRORS[fault]
    with pytest.raises(kind) as caught:
        complete(run, decoding, squares(tmp_path, {12: fault}), cut())
    assert str(caught.value).startswith(words)


def test_decoders_that_leave_no_room_are_refused(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    wide = RayEngine(EngineConfig(name="ray", decoders=8))
    with pytest.raises(ConfigError, match=r"square needs 1 worker of .* beside 8 decoders of 0\.5 CPUs each.*engine\.decoders"):
        complete(run, wide, squares(tmp_path, {}), cut(400, 5))
