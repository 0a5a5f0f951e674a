"""A bank larger than it is comfortable to hold, on a small machine: a million images streamed past 512 voxels.

The bank (about 1 GB of shards) is written to a temporary folder and removed. A process of its own projects, from shards to the
table's rows in memory; its peak RSS is all it ever took, with Python, torch and pyarrow. Bare products are the two matrix
products of the same tiles, timed on `sample` images that stay in memory and scaled up, before and after. Seconds of CPU (with
those of the thread that reads ahead) are given beside seconds, since they say the same on a busy machine.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any

import _report

settings = _report.arguments(__doc__, voxels=512, images=1_000_000, dim=512, tile=8192, beta=150.0, sample=100_000)

import numpy as np  # noqa: E402  (after the thread count is set)
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from _bank import directions, stage_at, write_bank  # noqa: E402

from scuba_ray.core.tree import Forest  # noqa: E402
from scuba_ray.stages.project import SEGMENT  # noqa: E402
from scuba_ray.tables.columns import vectors  # noqa: E402

Clocks = npt.NDArray[np.float64]
"""Seconds on the wall, and of CPU."""


def project(folder: str) -> dict[str, Any]:
    """Everything a run does for a chunk of voxels but writing the part."""
    torch.set_num_threads(settings.threads)
    stage, directions_VD = stage_at(folder, settings), directions(settings)
    rows = {
        "voxel_id": np.arange(len(directions_VD)),
        "status": ["ok"] * len(directions_VD),
        "weight": vectors(directions_VD.numpy()),
    }
    began, forest, question = _clocks(), Forest(stage.merge), stage.question(pa.table(rows))
    for node, state in stage.hold(0, stage.segments).answer([question])[0].items():
        forest.add(node, state)
    table = stage.finish(question, forest.fold()).table
    seconds = _clocks() - began
    return {"seconds": seconds, "rows": table.num_rows, "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _clocks() -> Clocks:
    return np.array([time.perf_counter(), time.process_time()])


def bare(_: str) -> Clocks:
    """Seconds that the two products of all tiles take: a segment's share of a partition each."""
    torch.set_num_threads(settings.threads)
    directions_VD, images = directions(settings), min(settings.sample, settings.images)
    tile = min(settings.tile, SEGMENT // 5)
    unit_KD = torch.nn.functional.normalize(torch.randn(images, settings.dim), dim=1)
    buffer_N, total_VD = torch.empty(len(directions_VD) * tile), torch.zeros_like(directions_VD)
    seconds = []
    for _round in range(3):
        began = _clocks()
        for unit_ND in unit_KD.split(tile):
            scores_VN = buffer_N[: len(directions_VD) * len(unit_ND)].view(len(directions_VD), len(unit_ND))
            torch.mm(directions_VD, unit_ND.T, out=scores_VN)
            total_VD.addmm_(scores_VN, unit_ND)
        seconds.append(_clocks() - began)
    fastest: Clocks = np.min(seconds, axis=0) * settings.images / images
    return fastest


def main() -> None:
    with TemporaryDirectory() as folder:
        write_bank(folder, settings.images, settings.dim)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
            before, (ours,), after = (list(fresh.map(run, [folder])) for run in (bare, project, bare))
    products = np.minimum(before[0], after[0])
    took = {"ours": [ours["seconds"]], "bare products, scaled up": [before[0], after[0]]}
    _report.report(
        settings,
        {name: [float(clocks[0]) for clocks in rounds] for name, rounds in took.items()},
        cpu_seconds={name: [float(clocks[1]) for clocks in rounds] for name, rounds in took.items()},
        ours_over_bare=dict(zip(("seconds", "cpu_seconds"), (ours["seconds"] / products).tolist(), strict=True)),
        **{name: value for name, value in ours.items() if name != "seconds"},
    )


if __name__ == "__main__":
    main()
