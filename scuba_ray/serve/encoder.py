"""Encoder: pictures and texts to raw embeddings of the captioned backbone.

Pictures of strangers are decoded in processes of their own (`datasets.decoder`), several at a time, before their embedding is
asked for: one that takes long or crashes its decoder keeps nobody else waiting. Networks pass over a fixed number of pictures or
texts, the last pass padded, so that an embedding does not depend on what else was asked at the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from scuba_ray.config import RunConfig
from scuba_ray.config.serve import ServeConfig
from scuba_ray.datasets.decoder import Decoder
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.errors import DataError
from scuba_ray.serve.opening import captioned_backbone, device_of
from scuba_ray.serve.replica import Outcome, Replica, gathered
from scuba_ray.stages.embedding import network_pass

Vector = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PASS = 8
"""Pictures or texts of one network pass. One alone costs as many, so there are few."""
_DECODERS = 2
"""Decoder processes at least: beside one that is busy with a bad picture there is another one."""


class Encoder(Replica):
    """One replica: the backbone on its device, and decoder processes."""

    def __init__(self, settings: ServeConfig, config: RunConfig) -> None:
        """Load the backbone. Raises ConfigError if it cannot be had, or there is no such device."""
        super().__init__(settings.encoder, settings.threads, self._embed_pictures, self._embed_texts)
        device = device_of(settings, config, settings.encoder, "encoder")
        network = captioned_backbone(config)
        children = max(_DECODERS, settings.threads)
        self._decoder = Decoder(
            network.preprocessing,
            max_pixels=settings.limits.pixels,
            seconds=settings.limits.decode_seconds,
            children=children,
        )
        self._readers = ThreadPoolExecutor(children, thread_name_prefix="decoder")
        self._ends.callback(self._decoder.close)
        self._ends.callback(self._readers.shutdown, wait=False, cancel_futures=True)
        # of pieces that hold decoded pictures: batch of them at most, of batch pictures each
        self._room = asyncio.Semaphore(settings.encoder.batch)
        self._precision = config.encode.precision
        self._network = network.load(device)

    async def images(self, pictures: list[bytes]) -> list[Vector | str]:
        """For each picture's bytes its raw embedding (D,), or in words why it has none."""
        cut = range(0, len(pictures), self._most)
        pieces = await asyncio.gather(*(self._piece(pictures[start : start + self._most]) for start in cut))
        return [one for piece in pieces for one in piece]

    async def texts(self, texts: list[str]) -> Vector:
        """Raw embeddings (B, D) of texts; (0, D) of none. Raises DataError if one is no valid Unicode."""
        for row, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise DataError(f"text {row} is no valid Unicode: {error.reason}") from error
        found = await self.ask(self._embed_texts, texts)
        return np.stack(found) if found else np.empty((0, self._network.dim), np.float32)

    async def _piece(self, pictures: Sequence[bytes]) -> list[Vector | str]:
        async with self._room:
            decode = asyncio.get_running_loop().run_in_executor
            decoded = await asyncio.gather(*(decode(self._readers, self._decoded, data) for data in pictures))
            embedded = iter(await self.ask(self._embed_pictures, [one for one in decoded if not isinstance(one, str)]))
        return [one if isinstance(one, str) else next(embedded) for one in decoded]

    def _decoded(self, data: bytes) -> Pixels | str:
        try:
            return self._decoder(data)
        except (PictureError, MemoryError) as error:
            return str(error)

    @gathered
    async def _embed_pictures(self, calls: list[list[Pixels]]) -> list[Outcome[Vector | str]]:
        return await self.compute(self._of_pictures, calls)

    @gathered
    async def _embed_texts(self, calls: list[list[str]]) -> list[Outcome[Vector]]:
        return await self.compute(self._of_texts, calls)

    def _of_pictures(self, pictures: list[Pixels]) -> list[Vector | str]:
        found: list[Vector | str] = []
        for start in range(0, len(pictures), PASS):
            pixels_B3HW = self._network.normalise(torch.from_numpy(np.stack(pictures[start : start + PASS])))
            embedding_BD = network_pass(pixels_B3HW, self._network, PASS, self._precision).cpu().numpy()
            found += [row if np.isfinite(row).all() else "its embedding is not finite" for row in embedding_BD]
        return found

    def _of_texts(self, texts: list[str]) -> list[Vector]:
        found: list[Vector] = []
        for start in range(0, len(texts), PASS):
            mine = texts[start : start + PASS]
            embedding_BD = self._network.embed_texts(mine + [""] * (PASS - len(mine)))
            found += list(embedding_BD[: len(mine)].float().cpu().numpy())
        return found
