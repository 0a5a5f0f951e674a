"""LaVCa and concepts in the world of words, step by step as a run has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ConceptsConfig, EngineConfig, LavcaConfig
from scuba_ray.local import LocalEngine
from scuba_ray.models.language import make_language_model
from scuba_ray.protocols import Captioner, Resources
from scuba_ray.stages.concepts import Concepts
from scuba_ray.stages.describe import DescribeByCaptioner
from scuba_ray.stages.lavca import Lavca
from scuba_ray.stages.nearest_pictures import NearestPictures
from scuba_ray.tables.progress import Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from tests.stages.pictured import DIM, KEY, NAME, SUBJECT, WordBackbone, WordCaptioner

ONE = Resources()


def steps_of(folder: Path) -> Steps:
    return Steps(RunFolder(str(folder)), lambda: LocalEngine(EngineConfig(name="local")), about={})


def nearest(steps: Steps, bank: BankFolder, *, pictures: int = 12, chunk: int = 2, keys: tuple[str, ...] = (KEY,)) -> Result:
    stage = NearestPictures(backbone=NAME, dim=DIM, keys=keys, pictures=pictures, run=steps.run, bank=bank, resources=ONE)
    return steps.complete(stage, key=NAME, rows=len(bank.shards), chunk=chunk, inputs=["projections"])


def describe(steps: Steps, pictures: Result, *, chunk: int = 7) -> Result:
    stage = DescribeByCaptioner(
        backbone=NAME, captioner=WordCaptioner(), decoding={"beams": 1}, model="captioner", run=steps.run, resources=ONE
    )
    return steps.complete(stage, key=f"{NAME}/captioner", rows=pictures.rows, chunk=chunk, inputs=[pictures.fingerprint])


def lavca(steps: Steps, described: Result, settings: dict[str, Any]) -> Result:
    config = LavcaConfig.model_validate({"pictures": 12, "beta": 20, **settings})
    stage = Lavca(
        subject=SUBJECT,
        backbone=WordBackbone(),  # type: ignore[arg-type]
        language=make_language_model(config, steps.run.location),
        descriptions=described.key,
        run=steps.run,
        settings=config,
        resources=ONE,
    )
    rows = steps.run.rows("projections", KEY)
    return steps.complete(stage, key=f"{KEY}/lavca", rows=rows, chunk=config.chunk, inputs=[described.fingerprint])


def concepts(steps: Steps, pictures: Result, settings: dict[str, Any], captioner: Captioner | None = None) -> Result:
    config = ConceptsConfig.model_validate({"pictures": 12, **settings})
    stage = Concepts(
        subject=SUBJECT,
        backbone=WordBackbone(),  # type: ignore[arg-type]
        captioner=captioner or WordCaptioner(),
        decoding={"beams": 1},
        seed=0,
        run=steps.run,
        settings=config,
        resources=ONE,
    )
    rows = steps.run.rows("projections", KEY)
    return steps.complete(stage, key=f"{KEY}/concepts", rows=rows, chunk=config.chunk, inputs=[pictures.fingerprint])
