"""A subject's images in one feature space, as a fit reads them: scaled, training and test images apart.

Scaling knows the training images alone. Images without an embedding (quarantined by `encode`) take no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import Scaling, SubjectDataset
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True)
class Images:
    """Some of a subject's images: their rows in `dataset.stimuli()` and their scaled features."""

    rows_S: npt.NDArray[np.int64]
    X_SD: Tensor


@dataclass(frozen=True)
class FeatureSpace:
    """One unit of the table `embeddings` and how it is scaled."""

    run: RunFolder
    key: str
    """The unit, `subject/backbone`."""
    scaling: Scaling
    device: str = "cpu"

    def training(self, dataset: SubjectDataset) -> Images:
        """The training images; embeddings of test images are never looked at."""
        rows_S, raw_SD = self._read(dataset, "train")
        return Images(rows_S, self._scaled(raw_SD, raw_SD))

    def test(self, dataset: SubjectDataset) -> Images:
        """The test images, by the training images' mean and deviation where features are standardised."""
        rows_S, raw_SD = self._read(dataset, "test")
        training_SD = raw_SD if self.scaling == "unit" else self._read(dataset, "train")[1]
        return Images(rows_S, self._scaled(raw_SD, training_SD))

    def _read(self, dataset: SubjectDataset, split: str) -> tuple[npt.NDArray[np.int64], Tensor]:
        table = self.run.read("embeddings", key=self.key)
        table = table.filter(pc.equal(table["split"], split))
        stimuli = dataset.stimuli()["stimulus_id"].combine_chunks()
        rows_S = pc.index_in(table["stimulus_id"], value_set=stimuli).to_numpy().astype(np.int64)
        return rows_S, torch.tensor(matrix(table["embedding"])).to(self.device)

    def _scaled(self, raw_SD: Tensor, training_SD: Tensor) -> Tensor:
        if self.scaling == "unit":
            return unit_and_norm(raw_SD)[0]
        training_SD = training_SD.double()
        deviation_D = training_SD.std(0, correction=0)
        # a feature that does not vary says nothing: it is 0, not noise blown up
        varies_D = deviation_D > 1e-6 * training_SD.abs().amax(0).clamp(min=1e-30)
        scaled_SD = (raw_SD.double() - training_SD.mean(0)) / torch.where(varies_D, deviation_D, 1.0)
        return torch.where(varies_D, scaled_SD, 0.0).float()


@dataclass(frozen=True)
class TwoSpaces:
    """The same images in two feature spaces: those that have features in both."""

    first: FeatureSpace
    second: FeatureSpace
    dataset: SubjectDataset

    @cached_property
    def training(self) -> tuple[Images, Images]:
        """The training images, in the order of `dataset.stimuli()`."""
        return _common(self.first.training(self.dataset), self.second.training(self.dataset))

    @cached_property
    def test(self) -> tuple[Images, Images]:
        """The test images, in the order of `dataset.stimuli()`."""
        return _common(self.first.test(self.dataset), self.second.test(self.dataset))


def _common(one: Images, two: Images) -> tuple[Images, Images]:
    rows_S, mine, theirs = np.intersect1d(one.rows_S, two.rows_S, assume_unique=True, return_indices=True)
    return Images(rows_S, one.X_SD[torch.from_numpy(mine)]), Images(rows_S, two.X_SD[torch.from_numpy(theirs)])
