"""How one network sees a subject's pictures: which category they belong to, and what its encoding models predict of them.

A target's predicted response is the mean over its voxels, w . x/|x| + b. The mean of linear models is one linear model, so of a
target's voxels their mean weight and mean bias are all that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import EncodeConfig, ProbeConfig
from scuba_ray.core.probe import zero_shot
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.datasets.pictures import PictureError, decode_image
from scuba_ray.phantom.probe import prompts_of
from scuba_ray.protocols import Backbone
from scuba_ray.stages.embedding import Embedded, embed
from scuba_ray.stages.reading import Pixels
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder

SLICE = 8192
"""Voxels whose weights are read at once."""
_EMBEDDING = EncodeConfig(batch=32)
"""Of judged pictures: a target has tens of them, and the last batch is padded."""

Ids = npt.NDArray[np.int64]


def category_of(probe: ProbeConfig, target: str, rois: Sequence[str] = ()) -> str | None:
    """The category that a target belongs to: as `probe.category_of` says, or the one it is called like.

    A single voxel belongs where the first of its regions does that belongs anywhere. None if there is no such category.
    """
    categories = prompts_of(probe)
    for name in (target, *rois):
        category = probe.category_of.get(name, name)
        if category in categories:
            return category
    return None


@dataclass(frozen=True)
class MeanModels:
    """Of each target the mean encoding model of its fitted voxels; NaN where it has none."""

    voxels: tuple[Ids, ...]
    """Ids of the fitted voxels of each target."""
    direction_TD: Tensor
    """float64, in z-scores per unit of a normalised embedding."""
    bias_T: Tensor


def mean_models(run: RunFolder, key: str, voxels: Sequence[Ids], device: str) -> MeanModels:
    """Average the encoding models of some voxels for each target.

    Voxels without weights take no part (BrainDiVE's mean went over voxels that were zeroed too: METHOD section 5). A bias that is
    not known (weights fitted elsewhere) counts as 0: predictions then have no origin, differences between pictures hold.

    Parameters
    ----------
    run : RunFolder
    key : str
        Unit of the table `voxels`.
    voxels : sequence of arrays
        Ids of each target's voxels.
    device : str

    Returns
    -------
    MeanModels
        T * D * 8 bytes. Memory meanwhile: `SLICE` * D * 4 bytes.
    """
    total = run.rows("voxels", key)
    found: list[list[Ids]] = [[] for _ in voxels]
    dim: int = run.slice("voxels", key, 0, 1, columns=("weight",))["weight"].type.list_size
    sum_TD = np.zeros((len(voxels), dim + 1))
    for start in range(0, total, SLICE):
        rows = run.slice("voxels", key, start, min(start + SLICE, total), columns=("voxel_id", "weight", "bias"))
        rows = rows.filter(pc.is_valid(rows["weight"]))
        id_V, bias_V = rows["voxel_id"].to_numpy(), pc.fill_null(rows["bias"], 0.0).to_numpy()
        model_VD = np.column_stack([matrix(rows["weight"]), bias_V])
        for target, ids in enumerate(voxels):
            mine_N = np.flatnonzero(np.isin(id_V, ids))
            sum_TD[target] += model_VD[mine_N].sum(axis=0, dtype=np.float64)
            found[target].append(id_V[mine_N])
    fitted = tuple(np.concatenate(mine) for mine in found)
    with np.errstate(invalid="ignore"):
        mean_TD = torch.from_numpy(sum_TD / np.array([[len(ids)] for ids in fitted])).to(device)
    return MeanModels(fitted, mean_TD[:, :-1], mean_TD[:, -1])


@dataclass(frozen=True)
class View:
    """One network, loaded, with its models of the targets. Memory: S * D * 4 bytes, and S * D * 8 while it predicts."""

    network: Backbone
    device: str
    models: MeanModels | None
    """None where its encoding models were not fitted for this subject."""
    natural: tuple[pa.Array, Tensor]
    """Ids and unit embeddings (S, D) of the subject's own stimuli; none of a subject without a data set."""
    categories: tuple[str, ...]
    prompt_PD: Tensor
    category_P: Tensor

    def embed(self, pngs: Sequence[bytes]) -> Embedded:
        """Embed pictures as the stimuli were; one that is damaged is refused with the reason."""
        return embed(self.network, self._pixels(pngs), _EMBEDDING, self.device)

    def _pixels(self, pngs: Sequence[bytes]) -> Iterator[Pixels | PictureError]:
        for png in pngs:
            try:
                yield self.network.preprocessing(decode_image(png))
            except PictureError as error:
                yield error

    def predict(self, unit_ND: Tensor, target: int) -> npt.NDArray[np.float64] | None:
        """Mean predicted response of a target's voxels, (N,); None without encoding models, or if it has none of its voxels."""
        if self.models is None or not len(self.models.voxels[target]):
            return None
        value_N = unit_ND.double() @ self.models.direction_TD[target] + self.models.bias_T[target]
        return value_N.cpu().numpy()

    def classify(self, unit_ND: Tensor) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
        """Category of each picture by the best prompt and by the mean over prompts, (N,) of str."""
        names = np.array(self.categories, dtype=object)
        best_N, mean_N = zero_shot(unit_ND, self.prompt_PD, self.category_P)
        return names[best_N.cpu().numpy()], names[mean_N.cpu().numpy()]


def open_view(network: Backbone, models: MeanModels | None, natural: pa.Table | None, device: str, probe: ProbeConfig) -> View:
    """Load a network and have it read the probe's prompts; `natural` are rows of the table `embeddings` in its space."""
    network = network.load(device)
    prompts = prompts_of(probe)
    texts = [text for of_category in prompts.values() for text in of_category]
    category_P = torch.tensor([index for index, of_category in enumerate(prompts.values()) for _ in of_category])
    ids, raw_SD = pa.array([], pa.string()), np.empty((0, network.dim), np.float16)
    if natural is not None:
        ids, raw_SD = natural["stimulus_id"].combine_chunks(), matrix(natural["embedding"])
    return View(
        network=network,
        device=device,
        models=models,
        natural=(ids, unit_and_norm(torch.tensor(raw_SD).to(device))[0]),
        categories=tuple(prompts),
        prompt_PD=unit_and_norm(network.embed_texts(texts))[0].to(device),
        category_P=category_P.to(device),
    )
