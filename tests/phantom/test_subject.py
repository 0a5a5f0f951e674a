from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from scuba_ray.datasets.geometry import HEMISPHERES, surface
from scuba_ray.errors import ConfigError
from scuba_ray.phantom import seeds
from scuba_ray.phantom.concepts import PAPER_ROIS, load_vocabulary
from scuba_ray.phantom.cortex import MOST_VOXELS, Patches, grow_patches
from scuba_ray.phantom.scenes import load_drawings, sample_scenes
from scuba_ray.phantom.sessions import REPEATS, ncsnr_of_ceiling, order_trials, scan
from scuba_ray.phantom.stimuli import concept_of_drawings, sample_stimuli
from scuba_ray.phantom.subject import (
    CLASS_SHARES,
    ROI_SHARES,
    VoxelTruth,
    choose_pairs,
    content,
    nuisances,
    signals,
    split_evenly,
    tune,
)

VOCABULARY = load_vocabulary()
NAMES = [concept.name for concept in VOCABULARY.concepts]
ROI_OF = {concept.name: concept.roi for concept in VOCABULARY.concepts}


@pytest.fixture(scope="module")
def patches() -> Patches:
    return grow_patches(split_evenly(2000, ROI_SHARES))


def planted(patches: Patches, seed: int) -> tuple[list[VoxelTruth], dict[str, str]]:
    generator = seeds.generator(seeds.SUBJECT, seed)
    pairs = choose_pairs(generator, VOCABULARY)
    return tune(generator, patches, VOCABULARY, pairs), pairs


def test_patches_have_their_sizes_their_vertices_and_their_places(patches: Patches) -> None:
    assert Counter(patches.roi_V) == split_evenly(2000, ROI_SHARES)
    assert len({(int(hemi), int(vertex)) for hemi, vertex in zip(patches.hemi_V, patches.vertex_V, strict=True)}) == 2000
    for number, hemi in enumerate(HEMISPHERES):
        here = patches.hemi_V == number
        np.testing.assert_array_equal(patches.xyz_V3[here], surface("pial", hemi)[0][patches.vertex_V[here]])
    roi = np.array(patches.roi_V)
    height, left = patches.xyz_V3[:, 2], patches.hemi_V == 0
    assert np.median(height[roi == "faces"]) < -5, "faces are on the underside"
    assert left[roi == "words"].mean() > 0.6, "words are on the left"


def test_patches_hang_together(patches: Patches) -> None:
    roi = np.array(patches.roi_V)
    for number, hemi in enumerate(HEMISPHERES):
        faces = surface("pial", hemi)[1]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        for name in ROI_SHARES:
            vertices = patches.vertex_V[(roi == name) & (patches.hemi_V == number)]
            inside = edges[np.isin(edges, vertices).all(1)]
            # a vertex without a neighbour in its own region would be an island
            assert np.isin(vertices, inside).mean() > 0.97


def test_too_many_voxels_are_refused() -> None:
    with pytest.raises(ConfigError, match=str(MOST_VOXELS)):
        grow_patches({"faces": MOST_VOXELS, "food": 1})


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_classes_concepts_and_ceilings(patches: Patches, seed: int) -> None:
    truths, pairs = planted(patches, seed)
    classes = Counter(truth.voxel_class for truth in truths)
    assert set(classes) == set(CLASS_SHARES) and classes["single"] >= 0.45 * len(truths)
    assert {ROI_OF[driver] for driver in pairs} == set(PAPER_ROIS)
    assert {ROI_OF[companion] for companion in pairs.values()} == {"objects"} and len(set(pairs.values())) == 5
    paired = {*pairs, *pairs.values()}
    for truth, roi in zip(truths, patches.roi_V, strict=True):
        assert truth.roi == roi and all(ROI_OF[name] == roi for name in truth.concepts)
        counts = {"single": 1, "double": 2, "confound": 1, "nuisance": 0, "null": 0}
        assert len(set(truth.concepts)) == counts.get(truth.voxel_class, sum(own == roi for own in ROI_OF.values()))
        if truth.voxel_class in {"single", "double"}:
            assert not paired & set(truth.concepts)
        assert truth.companion == (pairs[truth.concepts[0]] if truth.voxel_class == "confound" else None)
    ceilings = np.array([truth.noise_ceiling for truth in truths if truth.voxel_class != "null"])
    assert ceilings.min() < 0.02 and 0.78 < ceilings.max() <= 0.8
    assert all(truth.noise_ceiling == 0 for truth in truths if truth.voxel_class == "null")
    every = {truth.concepts[0] for truth in truths if truth.voxel_class == "single"}
    assert every == set(NAMES) - paired


def test_seeds_plant_different_subjects(patches: Patches) -> None:
    assert planted(patches, 1) == planted(patches, 1)
    assert planted(patches, 1)[0] != planted(patches, 2)[0]


def test_signals_are_content_and_layout(patches: Patches) -> None:
    concept_N = concept_of_drawings(load_drawings(), VOCABULARY)
    generator = seeds.generator(seeds.STIMULI, 31)
    scenes = sample_scenes(generator, sample_stimuli(generator, 800, concept_N, len(NAMES)))
    content_SC = content(scenes, concept_N, len(NAMES))
    light = torch.rand(2, 800, generator=generator)
    truths, _ = planted(patches, 4)
    signal_SV = signals(truths, content_SC, nuisances(scenes, *light), NAMES)
    for voxel in range(0, 2000, 37):
        truth, signal = truths[voxel], signal_SV[:, voxel].double()
        if truth.voxel_class == "null":
            assert (signal == 0).all()
            continue
        assert float(signal.mean()) == pytest.approx(0, abs=1e-5) and float(signal.var(correction=0)) == pytest.approx(
            1, abs=1e-4
        )
        columns = [NAMES.index(name) for name in truth.concepts]
        if truth.voxel_class == "nuisance":
            assert len(signal.unique()) > 700
            continue
        absent = (content_SC[:, columns] == 0).all(1)
        assert len(signal[absent].unique()) == 1, "nothing but its concepts moves the voxel"
        assert signal[absent][0] < signal[~absent].min()
        if truth.voxel_class in {"single", "confound"}:
            shown = content_SC[~absent, columns[0]]
            assert torch.equal(shown.argsort(), signal[~absent].argsort()), "larger drawings move it more"


def test_sessions_drift_and_ceilings_are_as_planted() -> None:
    generator = torch.Generator().manual_seed(0)
    ceilings = torch.tensor([0.0, 0.2, 0.5, 0.8])
    signal_SV = torch.randn(2000, 4, generator=generator)
    signal_SV[:, 0] = 0
    trials = order_trials(generator, 2000)
    assert torch.equal(torch.bincount(trials.stimulus_T), torch.full((2000,), REPEATS))
    assert int(trials.session_T[-1]) + 1 == 8
    X_TV = torch.cat(list(scan(generator, signal_SV, ceilings, trials)))
    means = torch.stack([X_TV[trials.session_T == session].mean(0) for session in range(8)])
    assert (means.std(0) > 1).all(), "baselines differ between sessions by more than the responses vary"
    Z_TV = torch.empty_like(X_TV)
    for session in range(8):
        here = trials.session_T == session
        Z_TV[here] = (X_TV[here] - X_TV[here].mean(0)) / X_TV[here].std(0)
    mean_SV = torch.zeros(2000, 4).index_add_(0, trials.stimulus_T, Z_TV) / REPEATS
    r2 = torch.stack([torch.corrcoef(torch.stack([mean_SV[:, v], signal_SV[:, v]]))[0, 1] ** 2 for v in range(1, 4)])
    torch.testing.assert_close(r2, ceilings[1:], atol=0.04, rtol=0)
    assert ncsnr_of_ceiling(torch.tensor(0.75)) == pytest.approx(1.0)
