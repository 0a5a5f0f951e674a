"""A simulated subject: which voxel likes what, and the noiseless response of every voxel to every scene.

Responses come from a scene's *content and layout* only: which concepts its drawings belong to and how large they are. No network
takes part, so a method that recovers the tuning has not been handed it. Classes of voxels:

    single     one concept, and no other concept comes with it more often than by chance
    double     two concepts of its region
    broad      every concept of its region
    confound   a driver concept whose scenes often show a companion concept too; the companion alone leaves the voxel cold
    nuisance   size, luminance and contrast of the picture, never content
    null       nothing at all
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scuba_ray.phantom.concepts import PAPER_ROIS, ROIS, Vocabulary
from scuba_ray.phantom.cortex import Patches
from scuba_ray.phantom.scenes import Scenes

ROI_SHARES = dict(zip(ROIS, (0.18, 0.18, 0.18, 0.18, 0.18, 0.10), strict=True))
CLASS_SHARES = {"single": 0.50, "double": 0.12, "broad": 0.10, "confound": 0.10, "nuisance": 0.06, "null": 0.12}
"""Shares of a region's voxels. `objects` has no confound voxels: its concepts are the other regions' companions."""
NUISANCES = ("size", "luminance", "contrast")
BEST_CEILING = 0.8
"""True noise ceilings of test responses averaged over their repeats are uniform between 0 and this."""
_WANDER = 0.1


@dataclass(frozen=True)
class VoxelTruth:
    """What one voxel was made to respond to. `weights` go with `concepts`, or with `NUISANCES` for a nuisance voxel."""

    roi: str
    voxel_class: str
    concepts: tuple[str, ...]
    weights: tuple[float, ...]
    companion: str | None
    noise_ceiling: float


def split_evenly(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole numbers in the proportion of `shares` that add up to `total` (largest remainders)."""
    scale = total / sum(shares.values())
    counts = {name: int(share * scale) for name, share in shares.items()}
    rest = sorted(shares, key=lambda name: counts[name] - shares[name] * scale)[: total - sum(counts.values())]
    return {name: count + (name in rest) for name, count in counts.items()}


def choose_pairs(generator: torch.Generator, vocabulary: Vocabulary) -> dict[str, str]:
    """One driver concept for each of the paper's regions and its companion among the objects: {driver: companion}."""
    members = {roi: [concept.name for concept in vocabulary.concepts if concept.roi == roi] for roi in ROIS}
    companions = [members["objects"][index] for index in torch.randperm(len(members["objects"]), generator=generator)]
    drivers = [members[roi][int(torch.randint(len(members[roi]), (), generator=generator))] for roi in PAPER_ROIS]
    return dict(zip(drivers, companions, strict=False))


def tune(generator: torch.Generator, patches: Patches, vocabulary: Vocabulary, pairs: dict[str, str]) -> list[VoxelTruth]:
    """Give every voxel a class, concepts, weights and a noise ceiling.

    Within a region, voxels of one concept lie in a band from back to front, with some wandering, as in a map.
    """
    depth_V = torch.from_numpy(patches.xyz_V3[:, 1])
    truths: list[VoxelTruth | None] = [None] * len(patches.roi_V)
    for roi in ROIS:
        voxels = torch.tensor([voxel for voxel, own in enumerate(patches.roi_V) if own == roi], dtype=torch.long)
        voxels = voxels[depth_V[voxels].argsort(stable=True)]
        members = [concept.name for concept in vocabulary.concepts if concept.roi == roi]
        alone = [name for name in members if name not in pairs and name not in pairs.values()]
        alone = [alone[index] for index in torch.randperm(len(alone), generator=generator)]
        driver = next((name for name in members if name in pairs), None)
        shares = CLASS_SHARES if driver else {name: share for name, share in CLASS_SHARES.items() if name != "confound"}
        classes = [name for name, count in split_evenly(len(voxels), shares).items() for _ in range(count)]
        shuffled = torch.randperm(len(voxels), generator=generator).tolist()
        for rank, voxel in enumerate(voxels.tolist()):
            voxel_class = classes[shuffled[rank]]
            band = rank / len(voxels) + _WANDER * (2 * _uniform(generator) - 1)
            first = alone[min(max(int(band * len(alone)), 0), len(alone) - 1)]
            other = alone[(alone.index(first) + 1 + int(_uniform(generator) * (len(alone) - 1))) % len(alone)]
            concepts = {"single": (first,), "double": (first, other), "broad": tuple(members), "confound": (driver or "",)}
            own = concepts.get(voxel_class, ())
            truths[voxel] = VoxelTruth(
                roi=roi,
                voxel_class=voxel_class,
                concepts=own,
                weights=_weights(generator, voxel_class, len(own)),
                companion=pairs[own[0]] if voxel_class == "confound" else None,
                noise_ceiling=0.0 if voxel_class == "null" else BEST_CEILING * _uniform(generator),
            )
    return [truth for truth in truths if truth is not None]


def _weights(generator: torch.Generator, voxel_class: str, concepts: int) -> tuple[float, ...]:
    if voxel_class == "nuisance":
        return tuple(2 * _uniform(generator) - 1 for _ in NUISANCES)
    if concepts <= 1:
        return (1.0,) * concepts
    return tuple(0.7 + 0.6 * _uniform(generator) for _ in range(concepts))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def content(scenes: Scenes, concept_N: torch.Tensor, concepts: int) -> torch.Tensor:
    """How large each concept is in each scene, (S, C) float64: the summed sides of its drawings, 0 where there is none."""
    here = scenes.drawing_BO >= 0
    concept_BO = torch.where(here, concept_N[scenes.drawing_BO.clamp(min=0)], -1)
    size_SC = torch.zeros(len(scenes), concepts + 1, dtype=torch.float64)
    # the column after the last collects what belongs to no concept
    column_BO = torch.where(concept_BO >= 0, concept_BO, concepts)
    size_SC.scatter_add_(1, column_BO, torch.where(here, scenes.size_BO, 0.0).double())
    return size_SC[:, :concepts]


def nuisances(scenes: Scenes, luminance_S: torch.Tensor, contrast_S: torch.Tensor) -> torch.Tensor:
    """Share covered by drawings, luminance and contrast of each picture, z-scored over the scenes, (S, 3) float64."""
    here = scenes.drawing_BO >= 0
    size_S = torch.where(here, scenes.size_BO**2, 0.0).sum(1)
    X_S3 = torch.stack([size_S, luminance_S, contrast_S], dim=1).double()
    return (X_S3 - X_S3.mean(0)) / X_S3.std(0, correction=0)


def signals(truths: list[VoxelTruth], content_SC: torch.Tensor, nuisance_S3: torch.Tensor, names: list[str]) -> torch.Tensor:
    """Noiseless responses, (S, V) float32, mean 0 and variance 1 over the stimuli; 0 for null voxels."""
    index = {name: column for column, name in enumerate(names)}
    features_SF = torch.cat([content_SC, nuisance_S3], dim=1)
    W_FV = torch.zeros(features_SF.shape[1], len(truths), dtype=torch.float64)
    for voxel, truth in enumerate(truths):
        columns = [index[name] for name in truth.concepts] or [len(names) + term for term in range(len(truth.weights))]
        W_FV[columns, voxel] = torch.tensor(truth.weights, dtype=torch.float64)
    Y_SV = features_SF @ W_FV
    Y_SV -= Y_SV.mean(0)
    deviation_V = Y_SV.std(0, correction=0)
    return torch.where(deviation_V > 0, Y_SV / deviation_V.clamp(min=1e-12), 0.0).float()
