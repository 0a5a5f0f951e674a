"""support: does a caption's every noun have pictures behind it? Nouns that the nearest bank images do not show are marked.

A noun's similarity to a voxel is the largest cosine of `a photo of a NOUN`, by the backbone's text tower, with one of the voxel's
nearest bank images: does any of them show it? It is held against a null: the same noun with the images of every voxel whose
caption does not name it.

    p = (1 + #{null >= similarity}) / (1 + #null),   supported = p <= support.level

A noun that no other voxel could be asked about (fewer than 1 / level of them) has no p and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.config import RunConfig
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.models.clip import make_backbone
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import WHOLE_BANK

PROMPT = "a photo of a {}"

SUPPORT = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("method", pa.string()),
        ("rank", pa.int32()),
        ("noun", pa.string()),
        ("similarity", pa.float32()),
        ("null_mean", pa.float32()),
        ("p", pa.float32()),
        ("supported", pa.bool_()),
    ]
)
"""One row per noun of a whole-bank caption. `supported` is null where there is no p."""


class Support:
    """The hallucination check of all captions of a run. Memory: captioned voxels * nouns * 4 bytes."""

    name = "support"
    version = 2
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "captions": ("subject", "backbone", "voxel_id", "partition", "method", "rank", "nouns"),
        "projections": ("subject", "backbone", "voxel_id", "partition", "nearest_ids"),
        "nearest_pictures": ("image_id", "embedding"),
    }

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._settings = config.support

    def fingerprint(self) -> Mapping[str, Any]:
        """The settings; pictures and captions are in what was read."""
        return self._settings.model_dump(mode="json")

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per caption and noun; see `SUPPORT`."""
        captions = tables["captions"].filter(pc.equal(tables["captions"]["partition"], WHOLE_BANK))
        backbones = sorted(set(captions["backbone"].to_pylist()))
        pieces = [SUPPORT.empty_table()]
        for name in backbones:
            network = make_backbone(next(one for one in self._config.backbones if one.name == name)).load(self._config.device)
            mine = captions.filter(pc.equal(captions["backbone"], name))
            nouns = sorted({noun for row in mine["nouns"].to_pylist() for noun in row or ()})
            text_WD = unit_and_norm(network.embed_texts([PROMPT.format(noun) for noun in nouns]))[0].cpu().numpy()
            for subject in sorted(set(mine["subject"].to_pylist())):
                own = mine.filter(pc.equal(mine["subject"], subject))
                voxels, similarity_VW = self._similarity(tables, subject, name, text_WD)
                rows = judge_nouns(own.to_pylist(), voxels, similarity_VW, nouns, self._settings.level)
                key = {"subject": subject, "backbone": name}
                pieces.append(pa.Table.from_pylist([{**key, **row} for row in rows], schema=SUPPORT))
        return pa.concat_tables(pieces)

    def _similarity(
        self, tables: Mapping[str, pa.Table], subject: str, backbone: str, text_WD: npt.NDArray[np.float32]
    ) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Captioned voxels, and how well the one of the nearest pictures of each that shows a noun best shows it, (V, W)."""
        rows = tables["projections"]
        rows = rows.filter(pc.and_(pc.equal(rows["subject"], subject), pc.equal(rows["backbone"], backbone)))
        rows = rows.filter(pc.equal(rows["partition"], WHOLE_BANK))
        pictures = tables["nearest_pictures"]
        unit_KD = unit_and_norm(torch.tensor(matrix(pictures["embedding"])))[0].numpy()
        place = {name: index for index, name in enumerate(pictures["image_id"].to_pylist())}
        voxels, best = [], [np.empty((0, len(text_WD)), np.float32)]
        for voxel, ids in zip(rows["voxel_id"].to_pylist(), rows["nearest_ids"].to_pylist(), strict=True):
            known = [place[one] for one in ids[: self._settings.pictures] if one in place]
            if known:
                voxels.append(voxel)
                best.append((unit_KD[known] @ text_WD.T).max(0, keepdims=True))
        return voxels, np.concatenate(best)


def judge_nouns(
    captions: list[dict[str, Any]], voxels: list[int], similarity_VW: npt.NDArray[np.float32], nouns: list[str], level: float
) -> list[dict[str, Any]]:
    """Hold every noun of every caption against the voxels that do not name it.

    Parameters
    ----------
    captions : list of dict
        Rows with voxel_id, method, rank, nouns.
    voxels, nouns : list
        What the rows and columns of `similarity_VW` stand for.
    level : float
        p up to which a noun is supported.
    """
    row_of, column_of = ({name: index for index, name in enumerate(names)} for names in (voxels, nouns))
    names_VW = np.zeros(similarity_VW.shape, bool)
    for caption in captions:
        if caption["voxel_id"] in row_of:
            for noun in caption["nouns"] or ():
                names_VW[row_of[caption["voxel_id"]], column_of[noun]] = True
    null_of = [np.sort(similarity_VW[~names_VW[:, column], column]) for column in range(len(nouns))]
    rows: list[dict[str, Any]] = []
    for caption in captions:
        if caption["voxel_id"] not in row_of:
            continue
        for noun in caption["nouns"] or ():
            value = float(similarity_VW[row_of[caption["voxel_id"]], column_of[noun]])
            null = null_of[column_of[noun]]
            row = {name: caption[name] for name in ("voxel_id", "method", "rank")} | {"noun": noun, "similarity": value}
            if len(null) + 1 >= 1 / level:
                p = (1 + len(null) - int(np.searchsorted(null, value))) / (1 + len(null))
                row |= {"null_mean": float(null.mean()), "p": p, "supported": p <= level}
            rows.append(row)
    return rows
