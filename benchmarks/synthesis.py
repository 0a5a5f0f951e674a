"""Do made pictures show what a region answers to? Phantoms of several seeds, pictures of every region, judged by others.

    python benchmarks/synthesis.py --seeds 2 --first 301 --out benchmarks/results/synthesis.json

Each seed is another subject, run as the demo is: pictures from captions (`brainscuba`) and by gradient (`braindive`) for all
regions. The judge is a network that had no part in making them, with an encoding model of its own. Reported for each region and
method: the share of pictures it puts into the region's category (chance is .2) with Wilson's 95 % interval, the mean response
that it predicts against that of all natural pictures, and seconds per picture; `natural-top-100` are the subject's own hundred
most driving stimuli. Seconds are of one process and `--threads` threads. Runs lie in a temporary folder, or in `--keep FOLDER`,
where a second call resumes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import _report

settings = _report.arguments(
    __doc__,
    **{"seeds": 2, "first": 301, "voxels": 2000, "images": 3000, "bank": 20_000, "model": "phantom:diffusion", "steps": 25},
    **{"samples": 8, "gradient_samples": 4, "keep": ""},
)

import torch  # noqa: E402  (after the thread count is set)

from scuba_ray.analyses.synthesis import ALL, wilson  # noqa: E402
from scuba_ray.config import RunConfig, make_config  # noqa: E402
from scuba_ray.phantom.make import make_phantom  # noqa: E402
from scuba_ray.pipeline import run  # noqa: E402

CHANCE = 0.2
SHOWN = (
    *("target", "method", "images", "classified", "low", "high", "classified_mean", "classified_own"),
    *("predicted_independent", "natural_predicted_independent", "percentile_independent", "seconds", "batch"),
)


def config_of(out: Path, data: Path, seed: int) -> RunConfig:
    """The demo's study, with nothing but captions and pictures."""
    synthesize: dict[str, Any] = {
        "diffusion": {"model": settings.model, "steps": settings.steps},
        "targets": ["rois"],
        "images": settings.samples,
        "judge": "judge",
        "probe": {"prompts": "phantom"},
    }
    if settings.gradient_samples:
        synthesize["gradient"] = {"images": settings.gradient_samples}
    return make_config(
        {
            "name": "phantom",
            "out": str(out),
            "seed": seed,
            "engine": {"name": "local", "threads": settings.threads},
            "subjects": [{"name": "phantom", "path": str(data)}],
            "backbones": [{"name": "clip", "model": "phantom:clip"}, {"name": "judge", "model": "phantom:judge"}],
            "fit": {"low_level": False, "bands": []},
            "bank": {"images": f"{data}/bank"},
            "caption": {"model": "phantom:captioner"},
            "rerank": None,
            "score": None,
            "synthesize": synthesize,
            "analyses": ["synthesis"],
        }
    )


def run_seed(root: Path, seed: int) -> list[dict[str, Any]]:
    """One subject, from its pictures to the figures of what was made for its regions."""
    out = root / str(seed)
    data = make_phantom(out / "phantom", seed=seed, voxels=settings.voxels, images=settings.images, bank=settings.bank)
    table = run(config_of(out, data, seed)).read("analyses/synthesis")
    return [{name: row[name] for name in SHOWN} for row in table.to_pylist()]


def overall(runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Each method over all seeds: its share with an interval over all pictures, and in how many regions it beats natural ones."""
    figures = {}
    for method in dict.fromkeys(row["method"] for rows in runs.values() for row in rows):
        mine = [row for rows in runs.values() for row in rows if row["method"] == method and row["target"] != ALL]
        of_category = [row for row in mine if row["classified"] is not None]
        count = sum(row["images"] for row in of_category)
        hits = round(sum(row["images"] * row["classified"] for row in of_category))
        above = [row["predicted_independent"] > row["natural_predicted_independent"] for row in of_category]
        seconds = [row["seconds"] for row in mine if row["seconds"] is not None]
        figures[method] = {
            "classified": hits / count,
            "interval": wilson(hits, count),
            "images": count,
            "regions_above_natural_mean": sum(above),
            "regions": len(above),
            "seconds_per_image": median(seconds) if seconds else None,
        }
    return figures


def main() -> None:
    """Run all seeds and report."""
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(settings.keep or scratch)
        runs = {seed: run_seed(root, seed) for seed in range(settings.first, settings.first + settings.seeds)}
    # where models and runs lie is nobody's business
    settings.keep, settings.model = "", Path(settings.model).name
    _report.report(settings, {}, chance=CHANCE, overall=overall(runs), runs=runs)


if __name__ == "__main__":
    main()
