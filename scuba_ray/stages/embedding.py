"""Pictures through a network, in passes of fixed shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from scuba_ray.config import EncodeConfig
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.protocols import Backbone, BadRow
from scuba_ray.stages.reading import Pixels
from scuba_ray.tables.columns import numbers, vectors


class Refused(NamedTuple):
    """A picture that is not embedded: its row, what it counts as, the reason in words."""

    row: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Embedded:
    """What came of some pictures: of rows `keep_N` their embeddings, raw, as they are stored."""

    keep_N: npt.NDArray[np.int64]
    half_ND: npt.NDArray[np.float16]
    norm_N: npt.NDArray[np.float32]
    """L2 norm of the float32 embedding, before rounding."""
    refused: tuple[Refused, ...]

    def without(self, out: list[Refused]) -> Embedded:
        """Leave out some of the rows."""
        stays_N = ~np.isin(self.keep_N, [one.row for one in out])
        return Embedded(self.keep_N[stays_N], self.half_ND[stays_N], self.norm_N[stays_N], (*self.refused, *out))

    def columns(self) -> dict[str, pa.Array]:
        """`embedding` and `norm` of the rows kept."""
        return {"embedding": vectors(self.half_ND), "norm": numbers(self.norm_N)}

    def bad(self, rows: pa.Table, key: str) -> tuple[BadRow, ...]:
        """Rows for quarantine, named by the column `key` of the stage's input."""
        return tuple(BadRow(f"{key}={rows[key][one.row].as_py()}", one.reason) for one in self.refused)


def embed(network: Backbone, pictures: Iterator[Pixels | PictureError], settings: EncodeConfig, device: str) -> Embedded:
    """Embed the pictures there are.

    Every network pass has exactly `settings.batch` pictures, the last one padded: a picture's embedding then does not depend on
    how many others share its chunk. Embeddings stay on the device until the end, so that the next batch is put together while
    the network runs.
    """
    keep: list[int] = []
    refused: list[Refused] = []
    embedded: list[Tensor] = []
    waiting: list[Pixels] = []

    def flush() -> None:
        pixels_B3HW = torch.from_numpy(np.stack(waiting))
        if device != "cpu":
            pixels_B3HW = pixels_B3HW.pin_memory()  # the copy need not be waited for
        embedded.append(network_pass(network.normalise(pixels_B3HW), network, settings.batch, settings.precision))
        waiting.clear()

    for row, picture in enumerate(pictures):
        if isinstance(picture, PictureError):
            refused.append(Refused(row, picture.kind, str(picture)))
            continue
        keep.append(row)
        waiting.append(picture)
        if len(waiting) == settings.batch:
            flush()
    if waiting:
        flush()
    raw_ND = torch.cat(embedded).cpu().numpy() if embedded else np.empty((0, network.dim), np.float32)
    with np.errstate(over="ignore"):
        half_ND = raw_ND.astype(np.float16)
    all_N = Embedded(np.array(keep, np.int64), half_ND, np.linalg.norm(raw_ND, axis=1), tuple(refused))
    infinite_N = all_N.keep_N[~np.isfinite(half_ND).all(axis=1)]
    return all_N.without([Refused(row, "not finite", "its embedding is not finite") for row in infinite_N.tolist()])


def network_pass(pixels_B3HW: Tensor, network: Backbone, batch: int, precision: str) -> Tensor:
    """One network pass of fixed shape, `batch` pictures; raw embeddings (B, dim), float32, on the network's device.

    Parameters
    ----------
    pixels_B3HW : Tensor of shape (B, 3, H, W), float32
        Normalised, on the network's device, B <= batch.
    precision : str
        `float32`, or the type that the network's arithmetic is cast to where it bears it (autocast).
    """
    padding = pixels_B3HW.new_zeros((batch - len(pixels_B3HW), *pixels_B3HW.shape[1:]))
    device, low = pixels_B3HW.device.type, precision != "float32"
    with torch.inference_mode(), torch.autocast(device, getattr(torch, precision) if low else None, enabled=low):
        embedding_BD = network.embed_images(torch.cat([pixels_B3HW, padding]))
    return embedding_BD[: len(pixels_B3HW)].float()
