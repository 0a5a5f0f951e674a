"""Do the rows of several concepts name both concepts of a two-concept voxel? Beside the single caption, and beside chance.

    scuba demo --out runs/seed-11 --engine local --voxels 400 --images 1200 --bank 6000 --seed 11
    python benchmarks/concepts.py --runs runs/seed-11,runs/seed-23 --out benchmarks/results/concepts.json

Reads finished phantom runs. `concepts` is what the step writes. Two controls have as many sentences per voxel: `random` divides
the same pictures at random into parts of the same sizes, `beams` takes as many beams of the single caption. Several sentences
name more than one does: what clusters add is their lead on these two, and `precision` (the share of the concepts named that
were planted) is what several sentences cost. Voxels with a noise ceiling of .3 or more; intervals are bootstraps over voxels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(__doc__, threads=1, runs="", captioner="phantom:captioner", seed=0)

import numpy as np  # noqa: E402  (after the thread count is set)
import pyarrow.compute as pc  # noqa: E402
import torch  # noqa: E402

from scuba_ray.config import CaptionConfig, ConceptsConfig  # noqa: E402
from scuba_ray.core.clusters import find_clusters, project_clusters  # noqa: E402
from scuba_ray.models.clipcap import make_captioner  # noqa: E402
from scuba_ray.phantom.truth import read_truth  # noqa: E402
from scuba_ray.tables.columns import matrix  # noqa: E402
from scuba_ray.tables.schemas import WHOLE_BANK  # noqa: E402
from scuba_ray.tables.store import RunFolder  # noqa: E402

CEILING, DRAWS = 0.3, 2000
CLASSES = ("single", "double", "confound")
CONFIG = ConceptsConfig()


def judge(folder: str) -> dict[str, Any]:
    """Figures of one run."""
    run = RunFolder(folder)
    truth, vocabulary = read_truth(Path(folder) / "phantom")
    key = run.keys("projections")[0]
    voxels = run.read("voxels", key=key, columns=["voxel_id", "noise_ceiling"]).to_pylist()
    reliable = {row["voxel_id"] for row in voxels if (row["noise_ceiling"] or 0) >= CEILING}
    planted = {row["voxel_id"]: row for row in truth.to_pylist() if row["voxel_class"] in CLASSES and row["voxel_id"] in reliable}
    rows = run.read("projections", key=key)
    rows = rows.filter(pc.equal(rows["partition"], WHOLE_BANK)).to_pylist()
    said = sentences(run, [row for row in rows if row["voxel_id"] in planted])
    named = {
        method: {voxel: set[str]().union(*map(vocabulary.named, texts)) for voxel, texts in of_voxel.items()}
        for method, of_voxel in said.items()
    }
    return {
        kind: figures(named, said, {voxel: set(row["concepts"]) for voxel, row in planted.items() if row["voxel_class"] == kind})
        for kind in CLASSES
    }


def sentences(run: RunFolder, rows: list[dict[str, Any]]) -> dict[str, dict[int, list[str]]]:
    """What each method says of each voxel."""
    captioner = make_captioner(CaptionConfig(model=settings.captioner)).load("cpu")
    bank = run.read("bank", columns=["image_id", "embedding"])
    place = {image: index for index, image in enumerate(bank["image_id"].to_pylist())}
    raw_KD = torch.tensor(matrix(bank["embedding"])).float()
    embedding_VND = raw_KD[torch.tensor([[place[image] for image in row["nearest_ids"][: CONFIG.pictures]] for row in rows])]
    cos_VN = torch.tensor([row["nearest_cos"][: CONFIG.pictures] for row in rows])
    unit_VND = torch.nn.functional.normalize(embedding_VND, dim=2)
    everything = torch.ones(cos_VN.shape, dtype=torch.bool)
    found = find_clusters(unit_VND, everything, largest=CONFIG.largest, threshold=CONFIG.threshold, seed=settings.seed)
    shuffle_VN = torch.rand(cos_VN.shape, generator=torch.Generator().manual_seed(settings.seed)).argsort(dim=1)
    labels = {"concepts": found.label_VN, "random": found.label_VN.gather(1, shuffle_VN)}
    single = captioner.captions(torch.tensor([row["embedding"] for row in rows]))
    said = {"single": {row["voxel_id"]: [beams[0].text] for row, beams in zip(rows, single, strict=True)}}
    counts = found.count_V.tolist()
    said["beams"] = {
        row["voxel_id"]: [beam.text for beam in beams[:k]] for row, beams, k in zip(rows, single, counts, strict=True)
    }
    for method, label_VN in labels.items():
        embedding_VkD, share_Vk = project_clusters(embedding_VND, cos_VN, label_VN, beta=CONFIG.beta, clusters=CONFIG.largest)
        there = (share_Vk > 0).nonzero()
        texts = [beams[0].text for beams in captioner.captions(embedding_VkD[there[:, 0], there[:, 1]])]
        said[method] = {row["voxel_id"]: [] for row in rows}
        for voxel, text in zip(there[:, 0].tolist(), texts, strict=True):
            said[method][rows[voxel]["voxel_id"]].append(text)
    return said


def figures(
    named: dict[str, dict[int, set[str]]], said: dict[str, dict[int, list[str]]], planted: dict[int, set[str]]
) -> dict[str, Any]:
    """Rates over the voxels of one class, and what `concepts` has more of than the others, voxel by voxel."""
    whole = {method: np.array([planted[v] <= of_voxel[v] for v in planted], float) for method, of_voxel in named.items()}
    random = np.random.default_rng(settings.seed)
    draw = random.integers(0, len(planted), (DRAWS, len(planted)))
    return {
        "voxels": len(planted),
        **{
            method: {
                "all_named": round(float(whole[method].mean()), 3),
                "precision": round(
                    float(np.mean([len(planted[v] & of_voxel[v]) / max(len(of_voxel[v]), 1) for v in planted])), 3
                ),
                "sentences": round(float(np.mean([len(said[method][v]) for v in planted])), 2),
            }
            for method, of_voxel in named.items()
        },
        **{
            f"concepts_minus_{method}": [
                round(float(value), 3)
                for value in (
                    (whole["concepts"] - hit).mean(),
                    *np.quantile((whole["concepts"] - hit)[draw].mean(1), (0.025, 0.975)),
                )
            ]
            for method, hit in whole.items()
            if method != "concepts"
        },
    }


if __name__ == "__main__":
    folders = [folder for folder in settings.runs.split(",") if folder]
    results = {Path(folder).name: judge(folder) for folder in folders}
    settings.runs = ",".join(results)  # where they lie is nobody's business
    _report.report(settings, {}, runs=results)
