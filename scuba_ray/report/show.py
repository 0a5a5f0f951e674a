"""Tables for the terminal: the voxels of a run, everything about one voxel, and the voxels that answer to a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.errors import ConfigError
from scuba_ray.report.analysed import analysed_items, scored_items
from scuba_ray.report.compare import SUPPORT
from scuba_ray.report.image_table import image_items
from scuba_ray.report.joined import CAPTION_COLUMNS, PROJECTION_COLUMNS, Key, captioned, keys, voxel_rows
from scuba_ray.report.known import known_names
from scuba_ray.tables.columns import matrix, numbers
from scuba_ray.tables.schemas import SIGNIFICANT

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.protocols import Backbone
    from scuba_ray.tables.store import RunFolder

_TABLE = ("subject", "backbone", "voxel_id", "rois", "noise_ceiling", "r2")
_NAMED_ELSEWHERE = {"subject", "backbone", "caption"}
_DETAILS = pa.schema([("subject", pa.string()), ("backbone", pa.string()), ("item", pa.string()), ("value", pa.string())])


def voxel_table(run: RunFolder, *, roi: str | None = None, noun: str | None = None, limit: int | None = None) -> pa.Table:
    """Voxels with their captions, best predicted first.

    Parameters
    ----------
    run : RunFolder
        A run whose captions are made.
    roi : str, optional
        Only voxels of this region.
    noun : str, optional
        Only voxels whose caption (the one shown) names it, in singular or plural.
    limit : int, optional
        At most this many rows.

    Returns
    -------
    pa.Table
        subject, backbone, voxel_id, roi (regions joined by ", "), noise_ceiling and r2 (shares of variance), caption.

    Raises
    ------
    ConfigError
        If no voxel of the run is in `roi`, or no caption (in `roi`) names `noun`; the message names what there is.
    """
    rows = _named_rois(_narrowed(voxel_rows(run, _TABLE), roi, noun)).sort_by([("r2", "descending"), ("voxel_id", "ascending")])
    return rows if limit is None else rows.slice(0, limit)


def _narrowed(rows: pa.Table, roi: str | None, noun: str | None) -> pa.Table:
    """Rows of `voxel_rows` in a region whose caption names a noun. Raises ConfigError if there is none."""
    if roi is not None:
        rois = rows["rois"].to_pylist()
        known = {name for names in rois for name in names or ()}
        if roi not in known:
            raise ConfigError(f"no voxel of this run is in ROI {roi!r}; {known_names(roi, known, 'regions')}")
        rows = rows.filter(pa.array([roi in (names or ()) for names in rois]))
    return rows if noun is None else _naming(rows, noun, "this run" if roi is None else f"ROI {roi!r}")


def _naming(rows: pa.Table, noun: str, where: str) -> pa.Table:
    """Rows whose caption names a noun. Raises ConfigError if there is none."""
    from scuba_ray.models.nouns import lemma, nouns_of  # its dictionary, for this question only

    nouns = {text: set(nouns_of(text)) for text in set(rows["caption"].to_pylist()) if text is not None}
    wanted = lemma(noun.strip().lower())
    known = set().union(*nouns.values())
    if wanted not in known:
        raise ConfigError(f"no caption in {where} names {wanted!r}; {known_names(wanted, known, 'nouns')}")
    return rows.filter(pa.array([wanted in nouns.get(text, ()) for text in rows["caption"].to_pylist()]))


def voxel_details(run: RunFolder, voxel_id: int) -> pa.Table:
    """Everything the run knows about one voxel, as rows of (subject, backbone, item, value).

    One block of rows per subject and backbone that has the voxel: its place, regions and scores; what banded fits say; the
    caption of every partition, method and concept; held-out scores of captions, and of controls with their texts; what analyses
    say of it; the images made for it; what the projection averaged and the nearest bank images with their cosines.

    Raises
    ------
    ConfigError
        If the run has no such voxel.
    """
    voxels = voxel_rows(run)
    chosen = voxels.filter(pc.equal(voxels["voxel_id"], voxel_id))
    if not chosen.num_rows:
        raise ConfigError(f"this run has no voxel {voxel_id}; {_extent(voxels['voxel_id'])}")
    captions = _of_voxel(run.read("captions", columns=list(CAPTION_COLUMNS)), voxel_id)
    projections = _of_voxel(run.read("projections", columns=list(PROJECTION_COLUMNS)), voxel_id)
    bands = _of_voxel(run.read("bands"), voxel_id) if run.keys("bands") else []
    judged = _of_voxel(run.read(SUPPORT), voxel_id) if run.keys(SUPPORT) else []
    rows: list[dict[str, str]] = []
    for voxel in chosen.to_pylist():
        subject, backbone = voxel["subject"], voxel["backbone"]
        items = _scores(voxel)
        for row in bands:
            if _is_of(row, voxel):
                items += _bands(row)
        unsupported = [row for row in judged if row["supported"] is False and _is_of(row, voxel)]
        for row in _same(captions, voxel):
            items.append(_caption(row, unsupported))
        items += scored_items(run, subject, backbone, voxel_id)
        items += analysed_items(run, subject, backbone, voxel_id)
        items += image_items(run, subject, backbone, voxel_id)
        for row in _same(projections, voxel):
            items += _projection(row)
        rows += [{"subject": subject, "backbone": backbone, "item": item, "value": value} for item, value in items]
    return pa.Table.from_pylist(rows, schema=_DETAILS)


def query(
    run: RunFolder, config: RunConfig, text: str, *, roi: str | None = None, noun: str | None = None, limit: int | None = None
) -> pa.Table:
    """Rank voxels by how much they answer to a text: cosine(weights, text embedding), largest first.

    Voxels that predict held-out images (q < .05) come before all others: weights fitted to noise can lie near any text. In a run
    without p (imported weights, no test images) all voxels are ranked together.

    The voxel's *weights* are compared, not its projected embedding: the text tower shares the image tower's space, so the
    product of weights and text embedding is the encoding model's own prediction of the response (BrainSCUBA, section 3.1, with
    a text in the picture's place).

    Parameters
    ----------
    run, config
        A run whose captions are made, and its configuration, which says where the text tower is.
    text : str
    roi, noun, limit : optional
        As for `voxel_table`.

    Returns
    -------
    pa.Table
        subject, backbone, voxel_id, roi, noise_ceiling, r2, q, cosine, caption.

    Raises
    ------
    ConfigError
        If the text is empty, the run holds a backbone that its configuration does not name, or no voxel is left by `roi` and
        `noun`; the message names what there is.
    """
    if not text.strip():
        raise ConfigError("the query is empty; give a few words, such as 'a plate of food'")
    wanted = _narrowed(voxel_rows(run, _TABLE), roi, noun)
    best = dict(zip(keys(wanted), wanted["caption"].to_pylist(), strict=True))
    pieces = []
    for key in captioned(run):
        voxels = run.read("voxels", key=key, columns=[*_TABLE, "q", "weight"])
        voxels = voxels.filter(pa.array([one in best for one in keys(voxels)], pa.bool_()))
        text_D = _embedding(config, voxels["backbone"][0].as_py(), text) if voxels.num_rows else np.zeros(1, np.float32)
        pieces.append(with_cosines(voxels.drop_columns(["weight"]), voxels["weight"], text_D, best))
    return best_first(pa.concat_tables(pieces), limit)


def with_cosines(voxels: pa.Table, weights: pa.ChunkedArray, text_D: np.ndarray, best: Mapping[Key, str]) -> pa.Table:
    """What `query` says of voxels (columns subject, backbone, voxel_id, rois, noise_ceiling, r2, q), in their own order.

    Parameters
    ----------
    weights : pa.ChunkedArray
        Of each voxel, null where it has none.
    text_D : array of shape (D,)
        Embedding of the text, of any length.
    best : Mapping
        The caption each voxel is known by.
    """
    rows = _named_rois(voxels.append_column("cosine", _cosines(weights, text_D)))
    return rows.append_column("caption", pa.array([best.get(key) for key in keys(rows)], pa.string()))


def best_first(rows: pa.Table, limit: int | None = None) -> pa.Table:
    """Sort rows of `with_cosines` as `query` does."""
    predicts = pc.fill_null(pc.less(rows["q"], SIGNIFICANT), False)
    rows = rows.append_column("predicts", predicts)
    rows = rows.sort_by([("predicts", "descending"), ("cosine", "descending"), ("voxel_id", "ascending")]).drop_columns(
        ["predicts"]
    )
    return rows if limit is None else rows.slice(0, limit)


def _embedding(config: RunConfig, name: str, text: str) -> np.ndarray:
    from scuba_ray.models.clip import make_backbone  # torch and open_clip, for a query only

    for backbone_config in config.backbones:
        if backbone_config.name == name:
            backbone: Backbone = make_backbone(backbone_config).load(config.device)
            embedding: np.ndarray = backbone.embed_texts([text])[0].float().cpu().numpy()
            return embedding
    known = ", ".join(backbone_config.name for backbone_config in config.backbones)
    raise ConfigError(f"the run holds voxels of backbone {name!r}, its configuration names {known}")


def _cosines(weights: pa.ChunkedArray, text_D: np.ndarray) -> pa.Array:
    """Cosine of each voxel's weights with a text; null for a voxel that has no weights, or only zeros."""
    column = weights.combine_chunks()
    valid_V = column.is_valid().to_numpy(zero_copy_only=False)
    weights_VD = matrix(column.drop_null())
    norm_V = np.linalg.norm(weights_VD, axis=1)
    with np.errstate(invalid="ignore"):
        found_V = weights_VD @ text_D / (norm_V * np.linalg.norm(text_D))
    cosine_V = np.full(len(column), np.nan, np.float32)
    cosine_V[valid_V] = found_V
    return numbers(cosine_V)


def _named_rois(rows: pa.Table) -> pa.Table:
    """`rois` (a list) as `roi` (text)."""
    joined = pa.array([", ".join(names or ()) for names in rows["rois"].to_pylist()], pa.string())
    return rows.set_column(rows.column_names.index("rois"), "roi", joined)


def _of_voxel(table: pa.Table, voxel_id: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["voxel_id"], voxel_id)).to_pylist()
    return rows


def _same(rows: list[dict[str, Any]], voxel: dict[str, Any]) -> list[dict[str, Any]]:
    chosen = [row for row in rows if _is_of(row, voxel)]
    return sorted(chosen, key=lambda row: (row["partition"], row.get("method") or "", row.get("rank") or 0))


def _is_of(row: dict[str, Any], voxel: dict[str, Any]) -> bool:
    return bool((row["subject"], row["backbone"]) == (voxel["subject"], voxel["backbone"]))


def _scores(voxel: dict[str, Any]) -> list[tuple[str, str]]:
    shown = {name: value for name, value in voxel.items() if name not in _NAMED_ELSEWHERE and value is not None}
    return [(name, _text(value)) for name, value in shown.items()]


def _caption(row: dict[str, Any], unsupported: list[dict[str, Any]]) -> tuple[str, str]:
    """A caption, in brackets its share or log-probability where it has one and, of the whole bank, nouns no picture supports."""
    whole, rank = row["partition"] < 0, row["rank"]
    concept = f", concept {rank}" if rank else ""
    about = [f"{_text(row['share'])} of the mass"] if row["share"] is not None else []
    about += [f"log-probability {_text(row['logprob'])}"] if row["logprob"] is not None else []
    nouns = [one["noun"] for one in unsupported if whole and (one["method"], one["rank"]) == (row["method"], rank)]
    about += [f"unsupported: {', '.join(nouns)}"] if nouns else []
    text = f"{row['caption']} ({'; '.join(about)})" if about else row["caption"]
    return f"caption, {_bank_part(row['partition'])}, {row['method']}{concept}", text


def _bands(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What the embedding explains beyond a second feature set, and the flag."""
    scores = ("r2_joint", "unique_first", "p_unique_first", "unique_second", "shared")
    items = [(f"{name}, embedding x {row['bands']}", _text(row[name])) for name in scores if row[name] is not None]
    flag = row["explained_by_low_level"]
    return items if flag is None else [*items, ("explained_by_low_level", str(flag))]


def _projection(row: dict[str, Any]) -> list[tuple[str, str]]:
    part = _bank_part(row["partition"])
    numbers = ("n_eff", "cos_before_after", "bank_agreement", "missing_mass")
    items = [(f"{name}, {part}", _text(row[name])) for name in numbers if row[name] is not None]
    nearest = zip(row["nearest_ids"] or (), row["nearest_cos"] or (), strict=True)
    for place, (image, cosine) in enumerate(nearest, 1):
        items.append((f"nearest {place}, {part}", f"{image} ({_text(cosine)})"))
    return items


def _bank_part(partition: int) -> str:
    return "whole bank" if partition < 0 else f"partition {partition}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _extent(voxel_ids: pa.ChunkedArray) -> str:
    if not len(voxel_ids):
        return "it has no voxels"
    return f"it has {len(pc.unique(voxel_ids)):,} voxels, ids {pc.min(voxel_ids)} to {pc.max(voxel_ids)}"
