"""Everything a phantom's folder holds, from its spec: scenes, pictures, tuning, responses, tables and the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scuba_ray.datasets.arrays import VERSION
from scuba_ray.datasets.checks import VOXELS
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.phantom import seeds
from scuba_ray.phantom.concepts import load_vocabulary
from scuba_ray.phantom.cortex import Patches, grow_patches
from scuba_ray.phantom.pictures import Progress, write_pictures
from scuba_ray.phantom.scenes import Drawings, Scenes, load_drawings, name_captions, sample_drawings, sample_scenes
from scuba_ray.phantom.sessions import REPEATS, Trials, order_trials, scan
from scuba_ray.phantom.spec import PhantomSpec
from scuba_ray.phantom.stimuli import concept_of_drawings, sample_stimuli
from scuba_ray.phantom.subject import ROI_SHARES, choose_pairs, content, nuisances, signals, split_evenly, tune
from scuba_ray.phantom.truth import write_truth

TEST_SHARE = 10
"""One stimulus in this many is a test stimulus."""


@dataclass(frozen=True)
class Stimuli:
    """A subject's scenes, the shared test ones first, and the names of their pictures."""

    scenes: Scenes
    ids: list[str]
    tests: int


def stimuli_of(spec: PhantomSpec, concept_N: torch.Tensor, concepts: int, pairs: list[tuple[int, int]]) -> Stimuli:
    """Draw a subject's scenes: the test ones are everybody's and know no pairs, the training ones are the seed's own."""
    tests = spec.images // TEST_SHARE
    parts = []
    for generator, count, together in (
        (seeds.generator(seeds.SHARED), tests, []),
        (seeds.generator(seeds.STIMULI, spec.seed), spec.images - tests, pairs),
    ):
        parts.append(sample_scenes(generator, sample_stimuli(generator, count, concept_N, concepts, together)))
    shared, own = parts
    scenes = Scenes(*(torch.cat([getattr(shared, field.name), getattr(own, field.name)]) for field in fields(Scenes)))
    ids = [f"shared-{index:04d}" for index in range(tests)]
    return Stimuli(scenes, ids + [f"seed{spec.seed}-{index:05d}" for index in range(spec.images - tests)], tests)


def bank_of(spec: PhantomSpec, drawings: Drawings) -> Scenes:
    """Draw the bank's scenes: drawings uniformly, so concepts are as frequent as they have drawings."""
    generator = seeds.generator(seeds.BANK, spec.seed)
    return sample_scenes(generator, sample_drawings(generator, spec.bank, drawings))


def write_folder(folder: Path, spec: PhantomSpec, progress: Progress) -> None:
    """Write all files of a phantom into an empty folder."""
    drawings, vocabulary = load_drawings(), load_vocabulary()
    names = [concept.name for concept in vocabulary.concepts]
    concept_N = concept_of_drawings(drawings, vocabulary)
    subject = seeds.generator(seeds.SUBJECT, spec.seed)
    pairs = choose_pairs(subject, vocabulary)
    places = [(names.index(driver), names.index(companion)) for driver, companion in pairs.items()]
    stimuli = stimuli_of(spec, concept_N, len(names), places)
    total = spec.images + spec.bank
    uris = [f"{name}.png" for name in stimuli.ids]
    light = write_pictures(folder / "images", uris, stimuli.scenes, drawings, lambda done: progress(done, total))
    uris = [f"{index // 1000:03d}/{index:05d}.png" for index in range(spec.bank)]
    write_pictures(folder / "bank", uris, bank_of(spec, drawings), drawings, lambda done: progress(spec.images + done, total))

    patches = grow_patches(split_evenly(spec.voxels, ROI_SHARES))
    truths = tune(subject, patches, vocabulary, pairs)
    content_SC = content(stimuli.scenes, concept_N, len(names))
    signal_SV = signals(truths, content_SC, nuisances(stimuli.scenes, *light), names)
    scanner = seeds.generator(seeds.RESPONSES, spec.seed)
    if spec.permuted:
        signal_SV = signal_SV[_permutation(scanner, spec.images, stimuli.tests)]
    trials = order_trials(scanner, spec.images)
    ceiling_V = torch.tensor([truth.noise_ceiling for truth in truths], dtype=torch.float32)
    shape = (spec.images * REPEATS, spec.voxels)
    _write_responses(folder / "responses.npy", scan(scanner, signal_SV, ceiling_V, trials), shape)
    _write_tables(folder, stimuli, name_captions(stimuli.scenes, drawings), trials, patches)
    write_truth(folder, truths, vocabulary)
    description = {"layout": "arrays", "version": VERSION, "subject": f"phantom{spec.seed}", "geometry": "fsaverage5"}
    text = json.dumps({**description, "phantom": spec.identity()}, indent=1)
    (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")


def _permutation(generator: torch.Generator, images: int, tests: int) -> torch.Tensor:
    """Other stimuli for each stimulus, within test and training stimuli apart."""
    training = torch.randperm(images - tests, generator=generator) + tests
    return torch.cat([torch.randperm(tests, generator=generator), training])


def _write_responses(path: Path, runs: Iterable[torch.Tensor], shape: tuple[int, int]) -> None:
    responses = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    row = 0
    for run in runs:
        responses[row : row + len(run)] = run.numpy()
        row += len(run)
    responses.flush()


def _write_tables(folder: Path, stimuli: Stimuli, captions: list[str], trials: Trials, patches: Patches) -> None:
    ids, tests = stimuli.ids, stimuli.tests
    splits = ["test"] * tests + ["train"] * (len(ids) - tests)
    uris = [f"{name}.png" for name in ids]
    table = pa.table({"stimulus_id": ids, "uri": uris, "split": splits, "caption": captions})
    pq.write_table(table, folder / "stimuli.parquet")
    shown = [ids[index] for index in trials.stimulus_T.tolist()]
    session_T = pa.array(trials.session_T.numpy(), pa.int32())
    pq.write_table(
        pa.table({"trial": np.arange(len(shown)), "stimulus_id": shown, "session": session_T}), folder / "trials.parquet"
    )
    count = len(patches.roi_V)
    columns: dict[str, object] = {field.name: pa.nulls(count, field.type) for field in VOXELS}
    columns |= {
        "voxel_id": np.arange(count),
        "hemi": [HEMISPHERES[hemi] for hemi in patches.hemi_V],
        "vertex": pa.array(patches.vertex_V, pa.int32()),
        "xyz": pa.FixedSizeListArray.from_arrays(patches.xyz_V3.ravel(), 3),
        "rois": [[roi] for roi in patches.roi_V],
    }
    pq.write_table(pa.table(columns, schema=VOXELS), folder / "voxels.parquet")
