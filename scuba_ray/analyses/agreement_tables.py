"""From a run's tables, text tower and data sets to the arrays that `agreement` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.analyses.agreement_measures import Floats, Sayings, unit
from scuba_ray.config import RunConfig, SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.models.clip import make_backbone
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.responses import read_responses
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder

TEXTS = 256
"""Captions per pass of the text tower."""
VOXELS = 256
"""Voxels whose responses are read together: stimuli * VOXELS * 4 bytes, and a part of the table."""


def sayings(tables: Mapping[str, pa.Table], config: RunConfig, backbone: str) -> tuple[list[str], int, dict[str, Sayings]]:
    """Names of all regions, number of words, and what each captioned subject says; tables are of `backbone` alone."""
    captions, voxels = tables["captions"], tables["voxels"]
    rois = sorted({roi for names in voxels["rois"].to_pylist() for roi in names or ()})
    nouns = sorted({noun for names in captions["nouns"].to_pylist() for noun in names or ()})
    word_of = {noun: number for number, noun in enumerate(nouns)}
    texts, text_CD = _texts(captions, config, backbone)
    text_of = {text: number for number, text in enumerate(texts)}
    said = {}
    for subject in dict.fromkeys(captions["subject"].to_pylist()):
        mine = {name: table.filter(pc.equal(table["subject"], subject)) for name, table in tables.items()}
        ids = mine["captions"]["voxel_id"]
        whole = mine["projections"].filter(pc.equal(mine["projections"]["partition"], WHOLE_BANK))
        embedded = whole["embedding"].take(pc.index_in(ids, whole["voxel_id"].combine_chunks()))
        names = mine["voxels"]["rois"].take(pc.index_in(ids, mine["voxels"]["voxel_id"].combine_chunks())).to_pylist()
        spoken = [(voxel, word_of[noun]) for voxel, words in enumerate(mine["captions"]["nouns"].to_pylist()) for noun in words]
        flat_N2 = np.array(spoken, np.int64).reshape(-1, 2)
        said[subject] = Sayings(
            member_RV=np.array([[roi in (mine_ or ()) for mine_ in names] for roi in rois], bool).reshape(len(rois), len(ids)),
            word_voxel_N=flat_N2[:, 0],
            word_N=flat_N2[:, 1],
            unit_VD=unit(matrix(embedded)).astype(np.float32),
            text_VD=text_CD[[text_of[text] for text in mine["captions"]["caption"].to_pylist()]],
        )
    return rois, len(nouns), said


def _texts(captions: pa.Table, config: RunConfig, backbone: str) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Each caption once, and their unit embeddings (C, D)."""
    texts = sorted(set(captions["caption"].to_pylist()))
    (settings,) = (one for one in config.backbones if one.name == backbone)
    network = make_backbone(settings).load(config.device)
    with torch.inference_mode():
        parts = [network.embed_texts(texts[start : start + TEXTS]).cpu() for start in range(0, len(texts), TEXTS)]
    return texts, unit(torch.cat(parts).float().numpy()).astype(np.float32)


def measured_responses(
    tables: Mapping[str, pa.Table], config: RunConfig, rois: Sequence[str]
) -> dict[str, tuple[Floats, Floats]]:
    """Of subjects with embedded test images: unit embeddings (S, D), mean responses of the captioned voxels of regions (R, S)."""
    measured = {}
    for subject in (one for one in config.subjects if one.weights is None):
        seen = tables["embeddings"].filter(
            pc.and_(pc.equal(tables["embeddings"]["subject"], subject.name), pc.equal(tables["embeddings"]["split"], "test"))
        )
        if len(seen):
            X_SD = unit(matrix(seen["embedding"]).astype(np.float64))
            ids = tables["captions"].filter(pc.equal(tables["captions"]["subject"], subject.name))["voxel_id"]
            measured[subject.name] = X_SD, _means(RunFolder(config.out), subject, seen["stimulus_id"], ids, rois)
    return measured


def _means(
    run: RunFolder, subject: SubjectConfig, stimuli: pa.ChunkedArray, voxel_ids: pa.ChunkedArray, rois: Sequence[str]
) -> Floats:
    """Mean prepared response of each region's voxels to some stimuli, (R, S); zeros where a region has no voxel."""
    dataset = make_dataset(subject)
    rows_S = pc.index_in(stimuli, dataset.stimuli()["stimulus_id"].combine_chunks()).to_numpy()
    voxels = dataset.voxels()
    captioned_V = pc.is_in(voxels["voxel_id"], voxel_ids.combine_chunks()).to_numpy()
    member_RV = np.array([[roi in names for names in voxels["rois"].to_pylist()] for roi in rois], bool)
    member_RV = member_RV.reshape(len(rois), len(voxels)) & captioned_V
    total_RS = np.zeros((len(rois), len(rows_S)))
    for start in range(0, len(voxels), VOXELS):
        block_RV = member_RV[:, start : start + VOXELS]
        if block_RV.any():
            Y_SV = read_responses(run, subject.name, start, start + block_RV.shape[1]).Y_SV[rows_S]
            total_RS += block_RV.astype(np.float64) @ Y_SV.T
    means_RS: Floats = total_RS / np.maximum(member_RV.sum(1, keepdims=True), 1)
    return means_RS
