"""Do the analyses find what was planted? Nouns, people and parts of regions, on phantoms of unseen seeds.

    python benchmarks/analyses.py --seeds 3 --first 401 --out benchmarks/results/analyses.json

Each seed is another subject, taken from pictures to captions and analyses in process, `--threads` at a time, in a temporary
folder (or `--keep FOLDER`, where a second call resumes). Counted on each:

nouns
    Of the ten that rank first in a region, how many belong to it: `listed`, the word stands in the name of a drawing of one of
    the region's concepts; `drawn`, it does so in a larger share of the region's drawings than of all drawings. The same after
    permuting voxels over regions.
person
    A region's share of captions that name people, against the share of its concepts' drawings whose names do: Spearman's rank
    correlation.
clusters
    Adjusted Rand index of the parts of each region (number of parts chosen by the analysis) with the planted concepts of its
    one-concept voxels; and of a region planted in two parts: for each region and each pair of its concepts, all their significant
    one-concept voxels and nothing else are divided in two. Both over voxels whose ceiling is .3 or more.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(__doc__, seeds=3, first=401, voxels=1000, images=3000, bank=10_000, keep="")

import numpy as np  # noqa: E402  (after the thread count is set)

CEILING, LEVEL, TOP = 0.3, 0.05, 10
ANALYSES = ["recovery", "nouns", "person", "clusters"]


def run_seed(folder: str, seed: int, sizes: dict[str, int]) -> dict[str, Any]:
    """One subject, from its pictures to its figures."""
    import torch

    from scuba_ray.config import make_config
    from scuba_ray.phantom.make import make_phantom
    from scuba_ray.pipeline import run

    torch.set_num_threads(1)
    data = Path(folder) / "phantom"
    make_phantom(data, seed=seed, **sizes)
    config = {
        "name": "phantom",
        "out": folder,
        "seed": seed,
        "engine": {"name": "local"},
        "subjects": [{"name": "phantom", "path": str(data)}],
        "backbones": [{"name": "clip", "model": "phantom:clip"}],
        "bank": {"source": "folder", "images": str(data / "bank")},
        "caption": {"model": "phantom:captioner"},
        "analyses": ANALYSES,
    }
    finished = run(make_config(config))
    return {"seed": seed, "nouns": nouns(finished), "person": people(finished), "clusters": parts(finished, data)}


def nouns(finished: Any) -> dict[str, dict[str, dict[str, float]]]:
    """By rule, then as measured or permuted: precision at ten of each region."""
    from scuba_ray.phantom.concepts import ROIS, load_vocabulary, words

    vocabulary = load_vocabulary()
    names = {roi: [name for one in vocabulary.concepts if one.roi == roi for name in one.drawings] for roi in ROIS}
    everything = [*itertools.chain(*names.values()), *vocabulary.others]

    def counts(texts: list[str]) -> Counter[str]:
        return Counter(word for text in texts for word in set(words(text)))

    total = counts(everything)
    drawn = {
        roi: {word for word, count in counts(own).items() if count / len(own) > total[word] / len(everything)}
        for roi, own in names.items()
    }
    listed = {roi: set(counts(own)) for roi, own in names.items()}
    rows = [row for row in finished.read("analyses/nouns").to_pylist() if row["rank"] and row["rank"] <= TOP]
    return {
        rule: {
            kind: {
                roi: float(
                    np.mean(
                        [
                            any(word in accepted[roi] for word in words(row["noun"]))
                            for row in rows
                            if (row["roi"], row["permuted"]) == (roi, permuted)
                        ]
                    )
                )
                for roi in ROIS
            }
            for kind, permuted in (("measured", False), ("permuted", True))
        }
        for rule, accepted in (("drawn", drawn), ("listed", listed))
    }


def people(finished: Any) -> dict[str, Any]:
    """Share of captions and of planted drawings that name people, by region, and how alike the two rank the regions."""
    from scipy.stats import spearmanr

    from scuba_ray.models.people import PEOPLE
    from scuba_ray.phantom.concepts import ROIS, load_vocabulary, words

    vocabulary = load_vocabulary()
    planted = {
        roi: float(
            np.mean(
                [
                    any(word in PEOPLE for word in words(name))
                    for one in vocabulary.concepts
                    if one.roi == roi
                    for name in one.drawings
                ]
            )
        )
        for roi in ROIS
    }
    rows = {row["roi"]: row for row in finished.read("analyses/person").to_pylist() if row["level"] == "roi"}
    found = {roi: rows[roi]["person_share"] for roi in ROIS}
    return {
        "planted": planted,
        "found": found,
        "interval": {roi: (rows[roi]["low"], rows[roi]["high"]) for roi in ROIS},
        "spearman": float(spearmanr([planted[roi] for roi in ROIS], [found[roi] for roi in ROIS]).statistic),
    }


def parts(finished: Any, data: Path) -> dict[str, Any]:
    """How well parts are the planted concepts: as the analysis divided, and of regions planted in two parts."""
    import pyarrow.parquet as pq
    import torch

    from scuba_ray.core.parts import adjusted_rand, divide
    from scuba_ray.tables.columns import matrix

    truth = {row["voxel_id"]: row for row in pq.read_table(data / "truth.parquet").to_pylist()}
    voxels = finished.read("voxels", key="phantom/clip", columns=["voxel_id", "noise_ceiling", "q", "weight"])
    unit_VD = torch.nn.functional.normalize(torch.as_tensor(np.array(matrix(voxels["weight"]))), dim=1)
    place = {voxel: row for row, voxel in enumerate(voxels["voxel_id"].to_pylist())}
    clear = {
        voxel for voxel, ceiling in zip(place, voxels["noise_ceiling"].to_pylist(), strict=True) if (ceiling or 0) >= CEILING
    }
    found = {voxel for voxel, q in zip(place, voxels["q"].to_pylist(), strict=True) if q is not None and q < LEVEL}
    single = {voxel: row["concept"] for voxel, row in truth.items() if row["voxel_class"] == "single"}

    def against(label: dict[int, int]) -> float:
        kept = sorted(voxel for voxel in label if voxel in clear and voxel in single)
        names = sorted({single[voxel] for voxel in kept})
        planted_N = torch.tensor([names.index(single[voxel]) for voxel in kept])
        return float(adjusted_rand(torch.tensor([label[voxel] for voxel in kept]), planted_N))

    rows = [row for row in finished.read("analyses/clusters").to_pylist() if row["level"] == "voxel"]
    chosen, two = {}, {}
    for roi in sorted({row["roi"] for row in rows}):
        label = {row["voxel_id"]: row["part"] for row in rows if row["roi"] == roi}
        concepts = sorted({single[voxel] for voxel in label if voxel in single})
        chosen[roi] = {
            "parts": max(label.values()) + 1,
            "concepts": len(concepts),
            "adjusted_rand": against(label),
            "voxels": len(clear & single.keys() & label.keys()),
        }
        for pair in itertools.combinations(concepts, 2):
            inside = sorted(voxel for voxel in found if single.get(voxel) in pair and voxel in label)
            label_N, _ = divide(unit_VD[[place[voxel] for voxel in inside]], 2, 0)
            two[" | ".join(pair)] = against(dict(zip(inside, label_N.tolist(), strict=True)))
    return {"chosen": chosen, "two_parts": two}


def overall(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over regions, and the lowest."""
    two = [value for run in runs for value in run["clusters"]["two_parts"].values()]
    return {
        "nouns_precision_at_10": {
            rule: {
                kind: [float(np.mean([*run["nouns"][rule][kind].values()])) for run in runs] for kind in ("measured", "permuted")
            }
            for rule in ("drawn", "listed")
        },
        "lowest_region": {
            rule: [min(run["nouns"][rule]["measured"].items(), key=lambda item: item[1]) for run in runs]
            for rule in ("drawn", "listed")
        },
        "person_spearman": [run["person"]["spearman"] for run in runs],
        "clusters_adjusted_rand_by_region": [
            {roi: round(row["adjusted_rand"], 3) for roi, row in run["clusters"]["chosen"].items()} for run in runs
        ],
        "two_part_regions": {
            "planted": len(two),
            "mean": float(np.mean(two)),
            "lowest": min(two),
            "at_least_.8": float(np.mean(np.array(two) >= 0.8)),
        },
    }


def main() -> None:
    """Run all seeds and report."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(settings.keep or scratch)
        sizes = {"voxels": settings.voxels, "images": settings.images, "bank": settings.bank}
        with ProcessPoolExecutor(settings.threads, mp_context=get_context("spawn")) as pool:
            futures = [
                pool.submit(run_seed, str(root / str(seed)), seed, sizes)
                for seed in range(settings.first, settings.first + settings.seeds)
            ]
            runs = [future.result() for future in futures]
    _report.report(settings, {}, overall=overall(runs), runs=runs)


if __name__ == "__main__":
    main()
