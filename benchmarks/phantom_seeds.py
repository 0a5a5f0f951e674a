"""How do you know the captions are right? The phantom over several seeds: recovery, controls, false discoveries, power.

    python benchmarks/phantom_seeds.py --seeds 5 --first 101 --out benchmarks/results/phantom_seeds.json

Each seed is another subject: other tuning, other stimuli, another bank, another noise. One more run has its responses permuted
over stimuli and must fall to the shuffled controls. Runs are in process (`--engine local`), `--threads` at a time, in a temporary
folder (or `--keep FOLDER`, where a second call resumes).
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(__doc__, seeds=5, first=101, voxels=2000, images=3000, bank=20_000, keep="")

import numpy as np  # noqa: E402  (after the thread count is set)
from scipy.stats import kstest  # noqa: E402

CEILING, LEVEL = 0.3, 0.05
CAPTIONED = ("single", "double", "broad", "confound")


def run_seed(folder: str, seed: int, permuted: bool, sizes: dict[str, int]) -> dict[str, Any]:
    """One subject, from its pictures to its figures."""
    import torch

    from scuba_ray.analyses.recovery_summary import summarise
    from scuba_ray.demo import TABLE, demo_config
    from scuba_ray.phantom.make import make_phantom
    from scuba_ray.pipeline import run

    torch.set_num_threads(1)
    data = Path(folder) / "phantom"
    make_phantom(data, seed=seed, permuted=permuted, **sizes)
    finished = run(demo_config(folder, str(data), engine="local", seed=seed))
    recovery = finished.read(TABLE)
    rates = [row for row in summarise(recovery).to_pylist() if row["voxel_class"] in CAPTIONED]
    comparison = [row for row in finished.read("analyses/comparison").to_pylist() if row["roi"] == "all voxels"]
    about = {"recovery": rates, "significance": significance(finished, recovery), "comparison": comparison}
    support = [row for row in finished.read("analyses/support").to_pylist() if row["supported"] is not None]
    about["unsupported_nouns"] = {
        method: float(np.mean([not row["supported"] for row in support if (row["method"], row["rank"]) == (method, 0)]))
        for method in sorted({row["method"] for row in support})
    }
    return {"seed": seed, "permuted": permuted, **about}


def significance(finished: Any, recovery: Any) -> dict[str, Any]:
    """Discoveries at q < .05: how many are voxels of pure noise, and how many of the voxels with something to find are found."""
    from scuba_ray.tables.ways import METHOD

    rows = [row for row in recovery.to_pylist() if row["method"] == METHOD]
    kind = {row["voxel_id"]: row["voxel_class"] for row in rows}
    captioned = f"phantom/{recovery['backbone'][0].as_py()}"  # the low-level baseline has voxels of its own
    voxels = finished.read("voxels", key=captioned, columns=["voxel_id", "p", "q", "noise_ceiling"]).to_pylist()
    found = [row for row in voxels if row["q"] is not None and row["q"] < LEVEL]
    false = sum(kind.get(row["voxel_id"]) == "null" for row in found)
    there = [row for row in voxels if kind.get(row["voxel_id"]) in CAPTIONED and (row["noise_ceiling"] or 0) >= CEILING]
    null_p = [row["p"] for row in voxels if kind.get(row["voxel_id"]) == "null" and row["p"] is not None]
    return {
        "discoveries": len(found),
        "false_discoveries": false,
        "false_discovery_proportion": false / max(1, len(found)),
        "power": sum(row["q"] < LEVEL for row in there) / max(1, len(there)),
        "power_voxels": len(there),
        "null_p": null_p,
    }


def overall(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with its standard error; p of the noise voxels of all seeds against uniform."""
    real = [run for run in runs if not run["permuted"]]
    singles = [{row["method"]: row for row in run["recovery"] if row["voxel_class"] == "single"} for run in real]
    proportion = np.array([run["significance"]["false_discovery_proportion"] for run in real])
    power = np.array([run["significance"]["power"] for run in real])
    null_p = np.concatenate([run["significance"].pop("null_p") for run in runs])
    judged = [{row["method"]: row for row in run["comparison"] if row["judge"] == "judge"} for run in real]
    doubles = [row for run in real for row in run["recovery"] if (row["voxel_class"], row["method"]) == ("double", "brainscuba")]
    spread = proportion.std(ddof=1) / len(real) ** 0.5 if len(real) > 1 else float("nan")
    return {
        "single_recovery_by_seed": [one["brainscuba"]["rate"] for one in singles],
        "single_gain_over_within_roi_lower_bound_by_seed": [one["brainscuba"]["gain_low"] for one in singles],
        "independent_judge": {
            method: {
                "heldout_r_by_seed": [one[method]["heldout_r"] for one in judged],
                "lower_bound_of_gain_over_within_roi_by_seed": [one[method]["low_minus_within_roi"] for one in judged],
                "lower_bound_of_gain_over_most_frequent_by_seed": [one[method]["low_minus_most_frequent"] for one in judged],
                "interval_of_gain_over_plain_by_seed": [
                    (one[method]["low_minus_plain"], one[method]["high_minus_plain"]) for one in judged
                ],
            }
            for method in sorted({method for one in judged for method in one})
        },
        "double_voxels_both_named_by_seed": {
            "one_caption": [row["both"] for row in doubles],
            "captions_per_concept": [row["both_concepts"] for row in doubles],
        },
        "false_discovery_proportion": {"mean": proportion.mean(), "standard_error": spread},
        "power": {"mean": power.mean(), "lowest": power.min()},
        "null_p_uniform": {"voxels": len(null_p), "ks_p": float(kstest(null_p, "uniform").pvalue)},
    }


def main() -> None:
    """Run all seeds and the permuted one, and report."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(settings.keep or scratch)
        jobs = [(settings.first + n, False) for n in range(settings.seeds)] + [(settings.first + settings.seeds, True)]
        sizes = {"voxels": settings.voxels, "images": settings.images, "bank": settings.bank}
        with ProcessPoolExecutor(settings.threads, mp_context=get_context("spawn")) as pool:
            futures = [
                pool.submit(run_seed, str(root / f"{seed}{'p' * permuted}"), seed, permuted, sizes) for seed, permuted in jobs
            ]
            runs = [future.result() for future in futures]
    results = overall(runs)
    _report.report(settings, {}, overall=results, runs=runs)


if __name__ == "__main__":
    main()
