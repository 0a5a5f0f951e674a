"""What analyses would have written for a synthetic run: values that follow from a voxel's id, so that a page can be checked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from scuba_ray.analyses.clusters import CLUSTERS
from scuba_ray.analyses.embedding_map import EMBEDDING_MAP
from scuba_ray.analyses.nouns import NOUNS
from scuba_ray.analyses.person import PERSON
from scuba_ray.analyses.selectivity import SELECTIVITY, UNITS
from scuba_ray.analyses.support import SUPPORT
from scuba_ray.tables.schemas import BANDS, SCORES
from tests.report.synthetic import Written, finish

SELECTION = "voxels with q < 0.05"
HOSTILE_NOUN = "<b>noun</b>"
EMPTY_REGION = "<i>nowhere</i>"
"""A region that analyses name and no voxel is in."""
PICTURES = (["image00.png", "image01.png"], ["image02.png", "image03.png", "image04.png"])
"""Bank pictures of the two parts of faces."""


def counts(voxel: int) -> bool:
    """Whether a voxel counts: three of four do."""
    return voxel % 4 != 3


def person_share(voxel: int) -> float:
    return voxel % 6 / 5


def part_of(voxel: int) -> int:
    """Faces are in two parts, the first with two voxels of three."""
    return int(voxel % 3 == 2)


def colour_of(voxel: int) -> tuple[float, float, float]:
    return (voxel % 2, voxel % 5 / 4, 0.5)


def write_analyses(written: Written) -> None:
    """Add person, selectivity, clusters and embedding_map of subj01 to a run."""
    table = written.run.read("voxels", key="subj01/tiny", columns=["voxel_id", "rois"]).to_pylist()
    voxels = [(row["voxel_id"], row["rois"]) for row in table if counts(row["voxel_id"])]
    key = {"subject": "subj01", "backbone": "tiny"}
    faces = {**key, "level": "roi", "roi": "faces", "voxels": 9, "selection": SELECTION}
    person: list[dict[str, Any]] = [{**faces, "person_share": 0.5, "low": 0.25, "high": 0.75, "whole_bank": 0.5}]
    selectivity: list[dict[str, Any]] = [
        {**faces, "measure": measure, "unit": unit, "value": 0.5, "low": 0.25, "high": 0.75} for measure, unit in UNITS.items()
    ]
    common = {**key, "roi": "faces", "parts": 2, "stability": 0.75}
    clusters: list[dict[str, Any]] = [
        {**common, "level": "part", "part": part, "voxels": 9, "nouns": nouns, "noun_shares": [0.75, 0.5][: len(nouns)],
         "image_ids": PICTURES[part], "image_cos": [0.5] * len(PICTURES[part]), "predicted_own": 1.5, "predicted_other": -0.25,
         "selection": SELECTION}
        for part, nouns in enumerate((["man", "hat"], [HOSTILE_NOUN]))
    ]  # fmt: skip
    clusters.append({**key, "roi": "food", "level": "part", "voxels": 0, "note": "no voxel counts", "selection": SELECTION})
    embedding = []
    for voxel, rois in voxels:
        person.append({**key, "level": "voxel", "voxel_id": voxel, "person_share": person_share(voxel)})
        for measure, unit in UNITS.items():
            value = None if measure == "half_agreement" else voxel % 11 / 10
            selectivity.append({**key, "level": "voxel", "voxel_id": voxel, "measure": measure, "unit": unit, "value": value})
        if "faces" in rois:
            clusters.append({**common, "level": "voxel", "voxel_id": voxel, "part": part_of(voxel), "voxels": 1, "cosine": 0.5})
        colours = dict(zip(("r", "g", "b", "c1", "c2", "c3"), (*colour_of(voxel), 0.0, 0.0, 0.0), strict=True))
        how = {"method": "pca", "fitted_on": "subj01", "explained": 0.25, "selection": SELECTION}
        embedding.append({**key, "voxel_id": voxel, **colours, **how})
    with written.run.lock():
        for name, rows, schema in (
            ("person", person, PERSON), ("selectivity", selectivity, SELECTIVITY), ("clusters", clusters, CLUSTERS),
            ("embedding_map", embedding, EMBEDDING_MAP),
        ):  # fmt: skip
            finish(written.run, f"analyses/{name}", "run", pa.Table.from_pylist(rows, schema=schema))


def write_nouns(written: Written) -> None:
    """Add the analysis nouns of subj01: faces say two, words is one voxel, of two regions nothing is known."""
    key = {"subject": "subj01", "backbone": "tiny", "tagger": "dictionary", "selection": SELECTION, "permuted": False}
    man = {"noun": "man", "rank": 1, "count": 12, "share": 0.6, "expected": 0.4, "contrast": 0.5, "p": 1e-4, "q": 0.001}
    rows: list[dict[str, Any]] = [
        {**key, "roi": "all voxels", "voxels": 50, "noun": "man", "rank": 1, "count": 20, "share": 0.4, "expected": 0.4},
        {**key, "roi": "faces", "voxels": 20, **man},
        {**key, "roi": "faces", "voxels": 20, **man, "noun": HOSTILE_NOUN, "rank": 2, "share": 0.2, "contrast": 0.1, "q": 0.0},
        {**key, "roi": "faces", "voxels": 20, **man, "noun": "permuted", "permuted": True},
        {**key, "roi": "words", "voxels": 1, **man, "noun": "sign", "note": "one voxel: these are its own captions' words"},
        {**key, "roi": "food", "voxels": 0, "note": "no voxel of this region counts (voxels with q < 0.05)"},
        {**key, "roi": EMPTY_REGION, "voxels": 0, "note": "no voxel of this region counts (voxels with q < 0.05)"},
    ]
    with written.run.lock():
        finish(written.run, "analyses/nouns", "run", pa.Table.from_pylist(rows, schema=NOUNS))


def control_text(voxel: int, method: str) -> str:
    """What a control said of a voxel."""
    return f"{HOSTILE_NOUN} of all" if method == "most-frequent" else f"the caption of voxel {voxel + 1}"


def heldout_r(voxel: int, method: str, judge: str) -> float | None:
    """Controls are worse by a half, the judge's by a tenth; voxel 110 has none."""
    worse = 0.5 * (method in {"shuffled", "most-frequent"}) + 0.1 * (judge != "own")
    return None if voxel == 110 else (voxel % 100) / 100 - worse


def write_evidence(written: Written) -> None:
    """Add scores, bands and support of subj01 to a run; voxel 106 is explained by the baseline."""
    voxels = written.run.read("voxels", key="subj01/tiny", columns=["voxel_id"])["voxel_id"].to_pylist()
    key = {"subject": "subj01", "backbone": "tiny"}
    scores = [
        {**key, "voxel_id": voxel, "partition": -1, "method": method, "rank": 0, "judge": judge,
         "caption": "its own" if method == "brainscuba" else control_text(voxel, method),
         "heldout_r": heldout_r(voxel, method, judge)}
        for judge in ("judge", "own") for method in ("shuffled", "most-frequent", "brainscuba") for voxel in voxels
    ]  # fmt: skip
    parts = {"r2_joint": 0.5, "unique_first": 0.3, "shared": 0.25, "unique_second": -0.05, "p_unique_first": 0.001}
    bands = [{**key, "voxel_id": one, "bands": "low-level", **parts, "explained_by_low_level": one == 106} for one in voxels]
    said = (("bowl", True), (HOSTILE_NOUN, False), ("pasta", None))
    support = [
        {**key, "voxel_id": voxel, "method": "brainscuba", "rank": 0, "noun": noun, "supported": known}
        for voxel in voxels for noun, known in said[: 1 + voxel % 3]
    ]  # fmt: skip
    with written.run.lock():
        finish(written.run, "scores", "subj01/tiny", pa.Table.from_pylist(scores, schema=SCORES))
        finish(written.run, "bands", "subj01/tiny", pa.Table.from_pylist(bands, schema=BANDS))
        finish(written.run, "analyses/support", "run", pa.Table.from_pylist(support, schema=SUPPORT))
