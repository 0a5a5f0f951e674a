"""Captioner: projected embeddings to sentences, with the settings the run was captioned with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from scuba_ray.config import RunConfig
from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import DataError
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.protocols import CaptionBeam
from scuba_ray.serve.opening import device_of, directions
from scuba_ray.serve.replica import Outcome, Replica, gathered

Asked = tuple[npt.NDArray[np.float32], str]
"""An embedding, and the name its captions are drawn by."""


class Captioner(Replica):
    """One replica: the captioner on its device."""

    def __init__(self, settings: ServeConfig, config: RunConfig) -> None:
        """Load the captioner. Raises ConfigError if it cannot be had, or there is no such device."""
        super().__init__(settings.captioner, settings.threads, self._write)
        device = device_of(settings, config, settings.captioner, "captioner")
        self._captioner = make_captioner(config.caption).load(device)

    async def captions(self, embedding_VD: npt.NDArray[np.float32], keys: list[str] | None = None) -> list[list[CaptionBeam]]:
        """For each raw embedding its beams (or samples), best first.

        Parameters
        ----------
        embedding_VD : array of shape (V, D), float32
        keys : list of str, optional
            Names of the rows, for captions that are drawn: the run's are `subject/backbone/voxel/partition`. Without them an
            embedding is its own name.

        Raises
        ------
        DataError
            If embeddings have another length than the captioner reads, are zero or not finite, or keys are not one for each.
        """
        embedding_VD = directions("embeddings", embedding_VD, self._captioner.dim)
        names = [row.tobytes().hex() for row in embedding_VD] if keys is None else keys
        if len(names) != len(embedding_VD):
            raise DataError(f"{len(embedding_VD)} embeddings need as many keys, got {len(names)}")
        return await self.ask(self._write, list(zip(embedding_VD, names, strict=True)))

    @gathered
    async def _write(self, calls: list[list[Asked]]) -> list[Outcome[list[CaptionBeam]]]:
        return await self.compute(self._captions, calls)

    def _captions(self, asked: list[Asked]) -> list[list[CaptionBeam]]:
        embedding_VD = torch.from_numpy(np.stack([embedding_D for embedding_D, _ in asked]))
        return self._captioner.captions(embedding_VD, [name for _, name in asked])
