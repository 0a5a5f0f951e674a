"""What a reader of a subject's numbers should know, in sentences: said on stderr when a run ends, and kept in `run.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.importers import NORMS
from scuba_ray.bank.index import IndexInfo
from scuba_ray.bank.shards import BankFolder, collection_of
from scuba_ray.config import FitConfig, ProjectConfig
from scuba_ray.datasets.preparation import BAD_SHARE
from scuba_ray.tables.schemas import SIGNIFICANT, WHOLE_BANK
from scuba_ray.tables.store import RunFolder

EDGE_SHARE = 0.05
"""Share of voxels on the edge of the alpha grid above which it is said."""


def of_responses(run: RunFolder, subject: str) -> Iterator[str]:
    """Cautions about a subject's prepared responses: how many voxels cannot be fitted."""
    counts = Counter(run.read("responses", key=subject, columns=["status"])["status"].to_pylist())
    total = counts.total()
    missing = f"lack more than {BAD_SHARE:.0%} of their trials (not finite, or of a session whose training trials do not differ)"
    for status, words in (("bad", missing), ("constant", "have training trials that differ in no session")):
        if counts[status]:
            yield f"prepare {subject}: {counts[status]:,} of {total:,} voxels {words}; their status is {status!r}"


def of_fit(run: RunFolder, key: str, settings: FitConfig, dim: int) -> Iterator[str]:
    """Cautions about the fitted voxels of one unit (`subject/backbone`)."""
    columns = ["status", "alpha", "alpha_at_edge", "noise_ceiling", "q"]
    voxels = run.read("voxels", key=key, columns=columns)
    voxels = voxels.filter(pc.equal(voxels["status"], "ok"))
    if not len(voxels):
        return
    yield from alphas(voxels, key, settings)
    split = Counter(run.read("embeddings", key=key, columns=["split"])["split"].to_pylist())
    if not split["test"]:
        yield f"fit {key}: there are no test images, so r2, r, p and q are null; give some stimuli the split 'test'"
    elif voxels["noise_ceiling"].null_count == len(voxels):
        yield (
            f"fit {key}: no voxel has a noise ceiling (no image was shown twice, and the data set has no ncsnr), so "
            "r2_normalised is null; r2, r and p are not affected"
        )
    if split["train"] < dim:
        yield (
            f"fit {key}: {split['train']:,} training images for {dim:,} features; the penalty decides what the images leave "
            "open, so read split_half and q before the weights"
        )


def alphas(voxels: pa.Table, key: str, settings: FitConfig) -> Iterator[str]:
    """Whether more voxels than `EDGE_SHARE` would have taken an alpha outside the grid.

    Voxels that predict nothing take the largest alpha of any grid, so only those with q < .05 count where q is known.
    """
    which = "voxels"
    if voxels["q"].null_count < len(voxels):
        voxels = voxels.filter(pc.fill_null(pc.less(voxels["q"], SIGNIFICANT), False))
        which = "voxels that predict test images"
    if not len(voxels):
        return
    edge = voxels.filter(pc.fill_null(voxels["alpha_at_edge"], False))
    if len(edge) <= EDGE_SHARE * len(voxels):
        return
    low, high = settings.alpha_log10
    largest = pc.sum(pc.greater(edge["alpha"], 10 ** ((low + high) / 2))).as_py() if high > low else len(edge)
    share, above, below = (f"{count / len(voxels):.0%}" for count in (len(edge), largest, len(edge) - largest))
    yield (
        f"fit {key}: {share} of {len(voxels):,} {which} have their alpha on the edge of the grid ({above} on the "
        f"largest, {below} on the smallest): widen fit.alpha_log10, now [{low:g}, {high:g}]"
    )


def of_bank(bank: BankFolder) -> Iterator[str]:
    """Whether this backbone has not embedded all collections of the folder, and whose norms are stated instead of measured."""
    if bank.unfinished:
        names = ", ".join(bank.unfinished)
        yield f"bank {bank.location}: without {names}, which {bank.backbone} has not embedded to the end (scuba bank build does)"
    for key in bank.keys:
        with bank.open(BankFolder(bank.location, bank.backbone, (key,)).shards[0]) as file:
            norms = (file.schema_arrow.metadata or {}).get(NORMS, b"").decode()
        if norms.startswith("constant"):
            yield (
                f"bank {bank.location}: {collection_of(key)} was imported as unit vectors with one stated norm ({norms}) for all "
                "its pictures; captioners read the length of a projected embedding too, and here it is an assumption"
            )


def of_import(run: RunFolder, key: str) -> Iterator[str]:
    """Cautions about imported weights: how many voxels cannot be used."""
    counts = Counter(run.read("voxels", key=key, columns=["status"])["status"].to_pylist())
    total = counts.total()
    for status, words in (("bad", "that are not finite"), ("zero", "that are all zero")):
        if counts[status]:
            yield f"import {key}: {counts[status]:,} of {total:,} voxels have weights {words}; their status is {status!r}"


def of_index(run: RunFolder, key: str, settings: ProjectConfig, info: IndexInfo) -> Iterator[str]:
    """Which share of a unit's voxels fell back to the exact projection, and why; of a finished unit of `projections`."""
    rows = run.read("projections", key=key, columns=["partition", "certainty"])
    certainty = Counter(rows.filter(pc.equal(rows["partition"], WHOLE_BANK))["certainty"].to_pylist())
    if not certainty["exact"]:
        return
    why = f"beta {settings.beta:g} spreads the mass over more than the {settings.candidates:,} images of project.candidates"
    if 1 - info.recall_10 > settings.tolerance:
        why = f"the {info.kind} index finds {info.recall_10:.1%} of the nearest images only; a flat one finds all"
    yield (
        f"project {key}: {certainty['exact'] / certainty.total():.0%} of {certainty.total():,} voxels fell back to the exact "
        f"projection, since more than project.tolerance ({settings.tolerance:g}) of their mass may be missing: {why}"
    )


def of_audit(run: RunFolder, key: str) -> Iterator[str]:
    """How estimated missing masses compare with the true ones, in a finished unit of `audits`."""
    rows = run.read("audits", key=key, columns=["voxel_id", "missing_mass", "true_missing_mass", "cosine"])
    voxels = len(pc.unique(rows["voxel_id"]))
    more = pc.sum(pc.greater(rows["true_missing_mass"], rows["missing_mass"])).as_py()
    yield (
        f"project {key}: the missing mass of projections by an approximate index is estimated. {voxels} voxels were projected "
        f"exactly too: at most {pc.max(rows['true_missing_mass']).as_py():.2g} of a projection's mass is really missing "
        f"(estimated: at most {pc.max(rows['missing_mass']).as_py():.2g}; more than estimated in {more / len(rows):.0%}), "
        f"and its cosine with the exact one is at least {pc.min(rows['cosine']).as_py():.4f} (table audits)"
    )
