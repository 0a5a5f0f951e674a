"""bands: what an image embedding explains beyond a second feature set, voxel by voxel (variance partitioning).

The second set is the low-level baseline (size, luminance, contrast, spatial frequencies) or the embedding of the picture's
caption by the same backbone. The fit is banded ridge (`core.banded`) on the training images, whatever `fit.method` says; scores
are of the test images. A voxel that the baseline explains is flagged:

    explained_by_low_level = the baseline predicts the voxel (q <= .05 and R2 > 0)
                             and the embedding adds nothing to it (p of its unique variance > .05)
                             or next to nothing (unique variance < 1/5 of the joint R2)

Such a voxel's caption says what correlates with size, luminance, contrast or frequencies, not what drives the voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.config import FitConfig, SubjectConfig
from scuba_ray.core.banded import BAND_WEIGHTS, Bands, Partition, banded_ridge, partition_variance, prepare_bands
from scuba_ray.core.ridge import fold_of_images
from scuba_ray.datasets import make_dataset
from scuba_ray.errors import DataError
from scuba_ray.protocols import LOW_LEVEL, Chunk, Resources, StageOutput, SubjectDataset
from scuba_ray.stages.features import FeatureSpace, TwoSpaces
from scuba_ray.tables.columns import numbers, table_of
from scuba_ray.tables.responses import read_responses
from scuba_ray.tables.schemas import BANDS, SIGNIFICANT

NEXT_TO_NOTHING = 0.2
"""Share of the joint R2 below which unique variance counts as next to nothing, however significant."""


@dataclass(frozen=True, kw_only=True)
class PartitionVariance:
    """Banded fits of one subject's voxels: one backbone's image embedding against one other feature set."""

    subject: SubjectConfig
    backbone: str
    second: str
    """What the second set is: `low-level` or `caption`."""
    spaces: tuple[FeatureSpace, FeatureSpace]
    settings: FitConfig
    seed: int
    resources: Resources
    device: str = "cpu"

    name = "bands"
    version = 1
    table = "bands"
    input_columns = ("voxel_id", "column")

    @property
    def input_name(self) -> str:
        return f"voxels of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        names = {"alpha_log10", "alphas", "folds", "permutations", "permutation_block"}
        rule = {"significant": SIGNIFICANT, "next_to_nothing": NEXT_TO_NOTHING, "weights": BAND_WEIGHTS}
        return {**self.settings.model_dump(mode="json", include=names), **rule, "second": self.second, "seed": self.seed}

    def setup(self) -> None:
        _ = self._bands, self._two.test

    # ------------------------------------------------------------------------------------------ per worker, once

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _two(self) -> TwoSpaces:
        return TwoSpaces(*self.spaces, self._dataset)

    @cached_property
    def _bands(self) -> Bands:
        first, second = self._two.training
        if len(first.rows_S) < self.settings.folds:
            raise DataError(
                f"subject {self.subject.name} has {len(first.rows_S)} training images with both image embedding and "
                f"{self.second} features; fit.folds = {self.settings.folds} wants as many or more"
            )
        return prepare_bands(first.X_SD, second.X_SD, fold_of_images(len(first.rows_S), self.settings.folds, self.seed))

    @cached_property
    def _q_of_baseline(self) -> dict[int, float | None]:
        """The baseline's q by voxel, as its own fit has it; none against captions."""
        if self.second != LOW_LEVEL:
            return {}
        space = self.spaces[1]
        voxels = space.run.read("voxels", key=space.key, columns=["voxel_id", "q"])
        return dict(zip(voxels["voxel_id"].to_pylist(), voxels["q"].to_pylist(), strict=True))

    # ------------------------------------------------------------------------------------------ per block of voxels

    def read(self, chunk: Chunk) -> pa.Table:
        voxels = self._dataset.voxels().select(["voxel_id"]).slice(chunk.start, chunk.stop - chunk.start)
        return voxels.append_column("column", pa.array(np.arange(chunk.start, chunk.stop)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        columns = rows["column"].to_numpy()
        start = int(columns.min())
        prepared = read_responses(self.spaces[0].run, self.subject.name, start, int(columns.max()) + 1)
        mine = columns - start
        Y_SV = torch.tensor(prepared.Y_SV[:, mine], device=self.device)
        usable = np.array([prepared.status_V[voxel] == "ok" for voxel in mine])
        first, (first_test, second_test) = self._two.training[0], self._two.test
        low, high = self.settings.alpha_log10
        alphas_A = torch.logspace(low, high, self.settings.alphas, dtype=torch.float64)
        fit = banded_ridge(self._bands, first.X_SD.shape[1], Y_SV[first.rows_S], alphas_A)
        scores = {field.name: np.full(len(mine), np.nan, np.float32) for field in fields(Partition)}
        if len(first_test.rows_S):
            how = {"permutations": self.settings.permutations, "seed": self.seed, "block": self.settings.permutation_block}
            found = partition_variance(fit, first_test.X_SD, second_test.X_SD, Y_SV[first_test.rows_S], **how)
            scores |= {name: value.cpu().numpy() for name in scores if (value := getattr(found, name)) is not None}
        columns = {
            "subject": self.subject.name,
            "backbone": self.backbone,
            "voxel_id": rows["voxel_id"],
            "bands": self.second,
            **{name: numbers(score, usable) for name, score in scores.items()},
            "weight_first": numbers(fit.weight_V.cpu().numpy(), usable),
            "alpha": numbers(fit.alpha_V.cpu().numpy(), usable),
            "explained_by_low_level": self._explained(rows["voxel_id"].to_pylist(), scores, usable),
        }
        return StageOutput(table_of(BANDS, columns))

    def _explained(
        self, voxel_ids: list[int], scores: Mapping[str, npt.NDArray[np.float32]], usable: npt.NDArray[np.bool_]
    ) -> pa.Array:
        """The flag, by the rule above; null where the baseline has no q, and against captions."""
        q_V = np.array([self._q_of_baseline.get(voxel) for voxel in voxel_ids], np.float64)
        predicted_V = (q_V <= SIGNIFICANT) & (scores["r2_second"] > 0)
        # NaN where the joint model is the baseline alone: the embedding adds nothing
        adds_V = scores["p_unique_first"] <= SIGNIFICANT
        much_V = scores["unique_first"] >= NEXT_TO_NOTHING * scores["r2_joint"]
        return pa.array(predicted_V & ~(adds_V & much_V), mask=~usable | np.isnan(q_V))
