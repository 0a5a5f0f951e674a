"""What tests of losses and overload share: replicas as processes, and requests whose right answers are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import pyarrow.compute as pc

from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD


def replicas(name: str) -> list[psutil.Process]:
    """Processes of a deployment's replicas, of services that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = process.cmdline()[0] if process.cmdline() else ""
            # while it works, the method's name follows
            if title.startswith("ray::ServeReplica:") and title.split(":")[-1].split(".")[0] == name:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@dataclass(frozen=True)
class Known:
    """Weights of a run's voxels, and the captions the run has for them."""

    weights: list[list[float]]
    captions: list[str]

    def body(self, first: int, count: int) -> dict[str, Any]:
        """A request for `count` voxels from the one numbered `first`."""
        return {"weights": [self.weights[place % len(self.weights)] for place in range(first, first + count)]}

    def is_right(self, rows: list[dict[str, Any]], first: int) -> bool:
        """Whether an answer says of each voxel, in the order asked, what the run says."""
        wanted = [self.captions[(first + place) % len(self.captions)] for place in range(len(rows))]
        return [row["row"] for row in rows] == list(range(len(rows))) and [row["caption"] for row in rows] == wanted


def known(run: RunFolder, key: str) -> Known:
    """Of the fitted voxels of one subject."""
    voxels = run.read("voxels", key=key, columns=["voxel_id", "status", "weight"])
    voxels = voxels.filter(pc.equal(voxels["status"], "ok"))
    captions = run.read("captions", key=key, columns=["voxel_id", "partition", "method", "caption"])
    captions = captions.filter(pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["method"], METHOD)))
    said = dict(zip(captions["voxel_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))
    return Known(matrix(voxels["weight"]).tolist(), [said[voxel] for voxel in voxels["voxel_id"].to_pylist()])
