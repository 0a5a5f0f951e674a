"""fit: a linear encoding model for every voxel, and what it is worth on images it has not seen (METHOD section 2).

Features are embeddings divided by their norms; those of the low-level baseline are standardised. Weights come from the training
images alone (`_train`), scores from the test images alone (`_score`); nothing else passes between the two than weights and bias
(and the training images' mean and deviation). Images without an embedding take no part (`stages/features.py`).

`sgd` is the published optimiser: training images are encoded anew every epoch, jittered (`stages/jittered.py`), for all of them
and for their halves alike; scores are of the clean embeddings. Without `fit.jitter`, and for the baseline, it reads the cached
embeddings instead. Only a fit that jitters loads a network.

A voxel whose status is not `ok` has no weight and no score: null, so that no mean can count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from scuba_ray.config import EncodeConfig, FitConfig, SubjectConfig
from scuba_ray.core.ridge import Gram, RidgeFit, fold_of_images, prepare_gram, ridge
from scuba_ray.core.sgd import SgdFit, sgd
from scuba_ray.core.statistics import normalised_r2, pearson, permutation_p, r2, split_half_cosine
from scuba_ray.datasets import make_dataset
from scuba_ray.errors import DataError
from scuba_ray.protocols import Backbone, Chunk, Resources, Scaling, StageOutput, SubjectDataset
from scuba_ray.stages.features import FeatureSpace, Images
from scuba_ray.stages.jittered import JitteredFeatures, jitters
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.responses import Prepared, read_responses
from scuba_ray.tables.schemas import fits_schema
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True)
class _Weights:
    """What the training images say of a block of voxels. A method without penalty has no alpha."""

    weights_VD: npt.NDArray[np.float32]
    bias_V: npt.NDArray[np.float32]
    alpha_V: npt.NDArray[np.float32] | None
    alpha_at_edge_V: npt.NDArray[np.bool_] | None
    split_half_V: npt.NDArray[np.float32]
    """Cosine of the weights of two halves of the training images, each fitted on its own."""


@dataclass(frozen=True)
class _Scores:
    """What the test images say of a block of voxels; NaN where there is nothing to say."""

    r2_V: npt.NDArray[np.float32]
    r_V: npt.NDArray[np.float32]
    p_V: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Encoding models of one subject's voxels under one backbone."""

    subject: SubjectConfig
    backbone: str
    dim: int
    run: RunFolder
    settings: FitConfig
    seed: int
    resources: Resources
    device: str = "cpu"
    scaling: Scaling = "unit"
    """The backbone's own; its fingerprint stands for it among the inputs."""
    network: Backbone | None = None
    """The backbone itself, where the fit jitters; and how pictures are read then:"""
    encode: EncodeConfig = field(default_factory=EncodeConfig)

    name = "fit"
    version = 1
    table = "fits"
    input_columns = ("voxel_id", "column")

    @property
    def input_name(self) -> str:
        return f"voxels of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        """All settings but the chunk, those of the other method left out."""
        others = {"ridge": {"epochs", "batch", "learning_rate", "weight_decay"}, "sgd": {"alpha_log10", "alphas", "folds"}}
        others_of_fit = {"chunk", "low_level", "bands", "jitter", *others[self.settings.method]}
        jitter = {"jitter": jitters(self.settings, self.scaling)} if self.settings.method == "sgd" else {}
        return {**self.settings.model_dump(mode="json", exclude=others_of_fit), **jitter, "seed": self.seed}

    def setup(self) -> None:
        _ = self._grams, self._test, self._jittered

    # ------------------------------------------------------------------------------------------ per worker, once

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @property
    def _space(self) -> FeatureSpace:
        return FeatureSpace(self.run, f"{self.subject.name}/{self.backbone}", self.scaling, self.device)

    @cached_property
    def _training(self) -> Images:
        images = self._space.training(self._dataset)
        wanted = 2 * self.settings.folds
        if len(images.rows_S) < wanted:
            raise DataError(
                f"subject {self.subject.name} has {len(images.rows_S)} training images with an embedding; fit.folds = "
                f"{self.settings.folds} on two halves wants {wanted} or more"
            )
        return images

    @cached_property
    def _test(self) -> Images:
        return self._space.test(self._dataset)

    @cached_property
    def _halves(self) -> tuple[Tensor, Tensor]:
        """Row numbers of two halves of the training images, drawn at random."""
        half_S = fold_of_images(len(self._training.rows_S), 2, self.seed + 1)
        return (half_S == 0).nonzero()[:, 0], (half_S == 1).nonzero()[:, 0]

    @cached_property
    def _grams(self) -> tuple[Gram, ...]:
        """Gram matrices of all training images and of each half; none for sgd."""
        if self.settings.method == "sgd":
            return ()
        X_SD, folds = self._training.X_SD, self.settings.folds
        parts = [X_SD, *(X_SD[half] for half in self._halves)]
        return tuple(prepare_gram(part, fold_of_images(len(part), folds, self.seed)) for part in parts)

    @cached_property
    def _jittered(self) -> JitteredFeatures | None:
        """The training images' features epoch by epoch; none where they are the same in all."""
        if not jitters(self.settings, self.scaling):
            return None
        assert self.network is not None, "a fit that jitters is given its network"
        return JitteredFeatures(
            self.network.load(self.device),
            self._dataset,
            self._training.rows_S,
            settings=self.settings,
            encode=self.encode,
            seed=self.seed,
        )

    # ------------------------------------------------------------------------------------------ per block of voxels

    def read(self, chunk: Chunk) -> pa.Table:
        voxels = self._dataset.voxels().slice(chunk.start, chunk.stop - chunk.start)
        return voxels.append_column("column", pa.array(np.arange(chunk.start, chunk.stop)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        columns = rows["column"].to_numpy()
        start = int(columns.min())
        prepared = read_responses(self.run, self.subject.name, start, int(columns.max()) + 1)
        mine = columns - start
        Y_SV = torch.tensor(prepared.Y_SV[:, mine], device=self.device)
        weights = self._train(Y_SV[self._training.rows_S])
        scores = self._score(weights, Y_SV[self._test.rows_S])
        return StageOutput(self._table(rows, weights, scores, prepared, mine))

    def _train(self, Y_SV: Tensor) -> _Weights:
        """Fit weights to responses to the training images, all of them and each half."""
        fit = self._fit(slice(None), Y_SV, 0)
        one, two = (self._fit(half, Y_SV, part).weights_DV for part, half in enumerate(self._halves, 1))
        return _Weights(
            weights_VD=fit.weights_DV.T.cpu().numpy(),
            bias_V=fit.bias_V.cpu().numpy(),
            alpha_V=fit.alpha_V.cpu().numpy() if isinstance(fit, RidgeFit) else None,
            alpha_at_edge_V=fit.alpha_at_edge_V.cpu().numpy() if isinstance(fit, RidgeFit) else None,
            split_half_V=split_half_cosine(one, two).cpu().numpy(),
        )

    def _fit(self, images: slice | Tensor, Y_SV: Tensor, part: int) -> RidgeFit | SgdFit:
        """One fit: of all training images (`part` 0) or of a half of them (1, 2)."""
        settings, X_SD, jittered = self.settings, self._training.X_SD[images], self._jittered
        if settings.method == "sgd":
            return sgd(
                (lambda epoch: X_SD) if jittered is None else (lambda epoch: jittered(epoch)[images].to(self.device)),
                Y_SV[images],
                seed=self.seed,
                epochs=settings.epochs,
                batch=settings.batch,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
            )
        low, high = settings.alpha_log10
        return ridge(self._grams[part], X_SD, Y_SV[images], torch.logspace(low, high, settings.alphas, dtype=torch.float64))

    def _score(self, weights: _Weights, Y_SV: Tensor) -> _Scores:
        """Judge weights by responses to the test images; NaN throughout where there are none."""
        nothing_V = np.full(Y_SV.shape[1], np.nan, np.float32)
        if len(Y_SV) == 0:
            return _Scores(nothing_V, nothing_V, nothing_V)
        weights_DV, bias_V = (torch.tensor(one, device=self.device) for one in (weights.weights_VD.T, weights.bias_V))
        P_SV = self._test.X_SD @ weights_DV + bias_V
        settings = self.settings
        p_V = nothing_V
        if settings.permutations:
            how = {"permutations": settings.permutations, "seed": self.seed, "block": settings.permutation_block}
            p_V = permutation_p(Y_SV, P_SV, **how).cpu().numpy()
        return _Scores(r2(Y_SV, P_SV).cpu().numpy(), pearson(Y_SV, P_SV).cpu().numpy(), p_V)

    def _table(
        self, rows: pa.Table, weights: _Weights, scores: _Scores, prepared: Prepared, mine: npt.NDArray[np.int64]
    ) -> pa.Table:
        status = [prepared.status_V[voxel] for voxel in mine]
        usable = np.array([one == "ok" for one in status])
        ceiling_V = prepared.noise_ceiling_V[mine]
        normalised_V = normalised_r2(torch.tensor(scores.r2_V), torch.tensor(ceiling_V), self.settings.ceiling_floor).numpy()
        columns = {
            **{name: rows[name] for name in ("voxel_id", "hemi", "vertex", "i", "j", "k", "xyz", "rois")},
            "subject": self.subject.name,
            "backbone": self.backbone,
            "weight": vectors(weights.weights_VD, usable),
            "bias": numbers(weights.bias_V, usable),
            "alpha": None if weights.alpha_V is None else numbers(weights.alpha_V, usable),
            "alpha_at_edge": None if weights.alpha_at_edge_V is None else pa.array(weights.alpha_at_edge_V, mask=~usable),
            "r2": numbers(scores.r2_V, usable),
            "r": numbers(scores.r_V, usable),
            "noise_ceiling": numbers(ceiling_V, usable),
            "r2_normalised": numbers(normalised_V, usable),
            "p": numbers(scores.p_V, usable),
            "split_half": numbers(weights.split_half_V, usable),
            "status": status,
            "bad_trials": prepared.bad_trials_V[mine],
        }
        return table_of(fits_schema(self.dim), columns)
