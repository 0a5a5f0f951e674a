"""Do the captions per concept name both concepts of a two-concept voxel? Beside the single caption, and beside chance.

    scuba demo --out runs/seed-301 --engine local --voxels 550 --images 3000 --bank 10000 --seed 301
    python benchmarks/concepts.py --runs runs/seed-301,runs/seed-302,runs/seed-303 --out benchmarks/results/concepts.json

Reads finished phantom runs. `concepts` divides a voxel's nearest pictures as the step does and writes a sentence per cluster;
`single` writes one for the voxel. Two controls have as many sentences per voxel as `concepts`: `random` divides the same pictures
at random into parts of the same sizes, `beams` takes as many sentences of the single caption's beams. All are there twice: by
`logprob` the sentence is the captioner's favourite, by `drive` the one the voxel's weights predict the largest response to (so
`concepts_by_drive` is what the step writes, `single_by_logprob` the plain caption, `single_by_drive` one re-ranked).

Several sentences name more than one does: what clusters add is their lead on the controls, and `precision` (the share of the
concepts named that were planted) is what several sentences cost. Voxels with a noise ceiling of .3 or more. Every figure is
followed by its 95 % interval, a bootstrap over voxels. `leads` are what `concepts_by_drive` has more of than each other one,
voxel by voxel; `overall` takes the voxels of all runs together; `wanted` holds the bounds that two-concept voxels are asked to
reach against what was reached (the figure itself, not its interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(__doc__, threads=1, runs="", captioner="phantom:captioner", backbone="phantom:clip", seed=0)

import numpy as np  # noqa: E402  (after the thread count is set)
import numpy.typing as npt  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import torch  # noqa: E402

from scuba_ray.config import BackboneConfig, CaptionConfig, ConceptsConfig  # noqa: E402
from scuba_ray.core.clusters import find_clusters, project_clusters  # noqa: E402
from scuba_ray.models.clip import make_backbone  # noqa: E402
from scuba_ray.models.clipcap import make_captioner  # noqa: E402
from scuba_ray.phantom.truth import read_truth  # noqa: E402
from scuba_ray.protocols import CaptionBeam  # noqa: E402
from scuba_ray.stages.ranking import rank_by_drive  # noqa: E402
from scuba_ray.tables.columns import matrix  # noqa: E402
from scuba_ray.tables.schemas import WHOLE_BANK  # noqa: E402
from scuba_ray.tables.store import RunFolder  # noqa: E402

CEILING, DRAWS = 0.3, 10_000
CLASSES = ("single", "double", "confound")
OURS, PLAIN = "concepts_by_drive", "single_by_logprob"
NAMED, LEAD = 0.5, 0.25
"""Wanted: both concepts named in so many two-concept voxels, and so much more than by the single caption."""
CONFIG = ConceptsConfig()

Said = list[list[str]]
"""Of each voxel its sentences."""
Judged = dict[str, dict[str, npt.NDArray[np.float64]]]
"""Of each method, voxel by voxel: whether all planted concepts are named, precision, number of sentences."""


def judge(folder: str) -> dict[str, Judged]:
    """What each method names in one run, for each class of voxels."""
    run = RunFolder(folder)
    truth, vocabulary = read_truth(Path(folder) / "phantom")
    key = run.keys("projections")[0]
    voxels = {row["voxel_id"]: row for row in run.read("voxels", key=key).to_pylist()}
    planted = {row["voxel_id"]: row for row in truth.to_pylist() if row["voxel_class"] in CLASSES}
    rows = run.read("projections", key=key)
    rows = [
        row
        for row in rows.filter(pc.equal(rows["partition"], WHOLE_BANK)).to_pylist()
        if row["voxel_id"] in planted and (voxels[row["voxel_id"]]["noise_ceiling"] or 0) >= CEILING
    ]
    weight_VD = torch.tensor([voxels[row["voxel_id"]]["weight"] for row in rows])
    said = sentences(run, rows, weight_VD)
    found: dict[str, Judged] = {}
    for kind in CLASSES:
        places = [place for place, row in enumerate(rows) if planted[row["voxel_id"]]["voxel_class"] == kind]
        wanted = [set(planted[rows[place]["voxel_id"]]["concepts"]) for place in places]
        found[kind] = {}
        for method, of_voxel in said.items():
            named = [set[str]().union(*map(vocabulary.named, of_voxel[place])) for place in places]
            found[kind][method] = {
                "all_named": np.array([want <= got for want, got in zip(wanted, named, strict=True)], float),
                "precision": np.array([len(want & got) / max(len(got), 1) for want, got in zip(wanted, named, strict=True)]),
                "sentences": np.array([len(of_voxel[place]) for place in places], float),
            }
    return found


def sentences(run: RunFolder, rows: list[dict[str, Any]], weight_VD: torch.Tensor) -> dict[str, Said]:
    """What each method says of each voxel."""
    captioner = make_captioner(CaptionConfig(model=settings.captioner)).load("cpu")
    tower = make_backbone(BackboneConfig(name="captioned", model=settings.backbone)).load("cpu")
    embedding_VND, cos_VN = nearest(run, rows)
    everything = torch.ones(cos_VN.shape, dtype=torch.bool)
    unit_VND = torch.nn.functional.normalize(embedding_VND, dim=2)
    seed = run.read_run_json()["config"]["seed"]
    found = find_clusters(unit_VND, everything, largest=CONFIG.largest, threshold=CONFIG.threshold, seed=seed)
    shuffle_VN = torch.rand(cos_VN.shape, generator=torch.Generator().manual_seed(settings.seed)).argsort(dim=1)
    said: dict[str, Said] = {}

    def say(name: str, beams: Sequence[Sequence[CaptionBeam]], place: Sequence[int], most: Sequence[int]) -> None:
        """Of each list of beams, which is for the voxel at `place`, the first `most` sentences by either choice."""
        ranked = rank_by_drive(tower, weight_VD[list(place)], [{beam.text for beam in one} for one in beams], "cpu")
        choices = {
            "logprob": [[beam.text for beam in one] for one in beams],
            "drive": [[text for _, text in one] for one in ranked],
        }
        for choice, lists in choices.items():
            of_voxel = said.setdefault(f"{name}_by_{choice}", [[] for _ in rows])
            for voxel, texts, count in zip(place, lists, most, strict=True):
                of_voxel[voxel] += texts[:count]

    for name, label_VN in {"concepts": found.label_VN, "random": found.label_VN.gather(1, shuffle_VN)}.items():
        embedding_VkD, share_Vk = project_clusters(embedding_VND, cos_VN, label_VN, beta=CONFIG.beta, clusters=CONFIG.largest)
        voxel_R, cluster_R = (share_Vk > 0).nonzero().T
        say(name, captioner.captions(embedding_VkD[voxel_R, cluster_R]), voxel_R.tolist(), [1] * len(voxel_R))
    single = captioner.captions(torch.tensor([row["embedding"] for row in rows]))
    say("single", single, range(len(rows)), [1] * len(rows))
    say("beams", single, range(len(rows)), found.count_V.tolist())
    return said


def nearest(run: RunFolder, rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw embeddings (V, N, D) and cosines (V, N) of each voxel's nearest pictures."""
    bank = run.read("bank", columns=["image_id", "embedding"])
    place = {image: index for index, image in enumerate(bank["image_id"].to_pylist())}
    raw_KD = torch.tensor(matrix(bank["embedding"])).float()
    index_VN = torch.tensor([[place[image] for image in row["nearest_ids"][: CONFIG.pictures]] for row in rows])
    return raw_KD[index_VN], torch.tensor([row["nearest_cos"][: CONFIG.pictures] for row in rows])


def figures(judged: Judged) -> dict[str, Any]:
    """Means over the voxels of one class with their intervals, and what the step's captions have more of than the others."""
    voxels = len(judged[OURS]["all_named"])
    draw = np.random.default_rng(settings.seed).integers(0, voxels, (DRAWS, voxels))

    def mean(values: npt.NDArray[np.float64]) -> list[float]:
        return [round(float(value), 3) for value in (values.mean(), *np.quantile(values[draw].mean(1), (0.025, 0.975)))]

    return {
        "voxels": voxels,
        "methods": {method: {name: mean(values) for name, values in of.items()} for method, of in sorted(judged.items())},
        "leads": {
            method: {name: mean(judged[OURS][name] - of[name]) for name in ("all_named", "precision")}
            for method, of in sorted(judged.items())
            if method != OURS
        },
    }


def wanted(double: dict[str, Any]) -> dict[str, Any]:
    """The bounds on two-concept voxels, and whether they were reached."""
    named, lead = double["methods"][OURS]["all_named"], double["leads"][PLAIN]["all_named"]
    return {
        "both_named": {"wanted": NAMED, "got": named, "met": named[0] >= NAMED},
        "more_than_single": {"wanted": LEAD, "got": lead, "met": lead[0] >= LEAD},
    }


def report_of(found: dict[str, Judged]) -> dict[str, Any]:
    """Figures of all classes, and the bounds."""
    results = {kind: figures(found[kind]) for kind in CLASSES}
    return {"wanted": wanted(results["double"]), **results}


if __name__ == "__main__":
    folders = [folder for folder in settings.runs.split(",") if folder]
    runs = {Path(folder).name: judge(folder) for folder in folders}
    together: dict[str, Judged] = {
        kind: {
            method: {name: np.concatenate([run[kind][method][name] for run in runs.values()]) for name in of}
            for method, of in next(iter(runs.values()))[kind].items()
        }
        for kind in CLASSES
    }
    settings.runs = ",".join(runs)  # where they lie is nobody's business
    _report.report(settings, {}, runs={name: report_of(found) for name, found in runs.items()}, overall=report_of(together))
