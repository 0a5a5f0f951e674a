"""The images of a finished run, target by target, best first, with their pictures: what contact sheets and page have in common.

Pictures are read one target at a time (peak memory: one part of the table `images`), and only those that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from PIL import Image

from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import DataError, ScubaError
from scuba_ray.report.thumbnails import square
from scuba_ray.stages.divisions import region_of_part
from scuba_ray.tables.image_schemas import IMAGES
from scuba_ray.tables.ways import BRAINDIVE, LAVCA, METHOD, NATURAL_TOP_1_PERCENT, NATURAL_TOP_100, RERANKED

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.protocols import Pictures
    from scuba_ray.tables.store import RunFolder

BEST = 8
"""Images shown of a target and method."""
SIDE = 168
"""Pixels of a picture's side, as it is handed on."""
ORDER = (METHOD, RERANKED, LAVCA, BRAINDIVE, NATURAL_TOP_100)
"""Methods, top to bottom; others come before the natural pictures."""
_TOLD = [name for name in IMAGES.names if name != "png"]


@dataclass(frozen=True)
class MethodImages:
    """Images of a target by one method: how many there are, and the best of them as rows of the table `images`."""

    method: str
    count: int
    in_category: int | None
    """How many are seen in the target's category; none where the target belongs to none."""
    predicted: float
    """Mean predicted response (z) of the target's voxels to all of them."""
    best: list[dict[str, Any]]
    """At most `BEST`, best first, each with `seen` (the category by the independent judge; by the captioned backbone where there
    is none), `picture` (a square of `SIDE` pixels, or none) and `absent` (why there is none)."""

    @property
    def natural(self) -> bool:
        """Whether these are stimuli, not images that were made."""
        return self.method == NATURAL_TOP_100


@dataclass(frozen=True)
class TargetImages:
    """A region, a part of one, a voxel, or the voxels that answer to a query, with the images made for it and the stimuli that
    drive it."""

    subject: str
    backbone: str
    kind: str
    name: str
    voxels: int
    """How many voxels stand for it."""
    rows: list[MethodImages]
    judged: bool
    """Whether there is an independent judge."""

    @property
    def voxel(self) -> int | None:
        """The id of the voxel that this is; none for all others."""
        return int(self.name.removeprefix("voxel ")) if self.kind == "voxel" else None

    @property
    def region(self) -> str | None:
        """The region that this is, or is a part of; none for voxels and queries."""
        return self.name if self.kind == "roi" else region_of_part(self.name) if self.kind == "part" else None


def by_target(run: RunFolder, config: RunConfig) -> Iterator[TargetImages]:
    """Every target of a run's images, in the table's order; nothing where the run made none.

    Pictures of stimuli come from their data sets, unless `report.stimuli` is off; one that cannot be opened or read leaves a
    row without a picture that says why.

    Raises
    ------
    DataError
        If the plan (table `requests`) was made anew and its images are not made yet.
    """
    stimuli = _Stimuli(config)
    for key in run.keys("images"):
        sizes = _voxels(run, key)
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in _all_images(run, key):
            groups.setdefault((row["kind"], row["target"]), []).append(row)
        if unknown := [name for kind, name in groups if (kind, name) not in sizes]:
            raise DataError(
                f"images of {key} are of an earlier plan, which had {', '.join(unknown)}; run again to make those of this"
            )
        for (kind, name), images in groups.items():
            rows = _rows(images)
            _add_pictures(run, key, [one for row in rows for one in row.best], stimuli)
            first = images[0]
            judged = any(one["predicted_independent"] is not None for one in images)
            yield TargetImages(first["subject"], first["backbone"], kind, name, sizes[kind, name], rows, judged)


def made_for_parts(run: RunFolder) -> dict[tuple[str, str, str], list[MethodImages]]:
    """Images that were made for parts of regions, without stimuli: of each subject, backbone and target by method, best first."""
    groups: dict[tuple[str, str, str], list[MethodImages]] = {}
    for key in run.keys("images"):
        made: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for row in _all_images(run, key):
            if row["kind"] == "part" and row["stimulus_id"] is None:
                made.setdefault((row["subject"], row["backbone"], row["target"]), []).append(row)
        for target, images in made.items():
            groups[target] = _rows(images)
            _add_made(run, key, [one for row in groups[target] for one in row.best])
    return groups


def _all_images(run: RunFolder, key: str) -> Iterator[dict[str, Any]]:
    """Rows of a unit of `images` without pictures, with the category that is `seen` and their `place` in the unit."""
    for place, row in enumerate(run.read("images", key=key, columns=_TOLD).to_pylist()):
        seen = row["category"] if row["category"] is not None else row["category_own"]
        yield {**row, "seen": seen, "place": place}


def _voxels(run: RunFolder, key: str) -> dict[tuple[str, str], int]:
    """How many voxels stand for each target: the plan knows."""
    plan = run.read("requests", key=key, columns=["kind", "target", "voxels"])
    counts = pc.list_value_length(plan["voxels"]).to_pylist()
    return dict(zip(zip(plan["kind"].to_pylist(), plan["target"].to_pylist(), strict=True), counts, strict=True))


def _rows(images: list[dict[str, Any]]) -> list[MethodImages]:
    """A target's images by method, in the order they are shown."""
    methods = dict.fromkeys(one["method"] for one in images)
    methods.pop(NATURAL_TOP_1_PERCENT, None)
    places = {method: place for place, method in enumerate((*ORDER[:-1], None, ORDER[-1]))}
    rows = []
    for method in sorted(methods, key=lambda method: places.get(method, places[None])):
        mine = sorted((one for one in images if one["method"] == method), key=lambda one: one["rank"])
        wanted = mine[0]["target_category"]
        hits = sum(one["seen"] == wanted for one in mine) if wanted is not None else None
        rows.append(MethodImages(method, len(mine), hits, fmean(one["predicted"] for one in mine), mine[:BEST]))
    return rows


def _add_pictures(run: RunFolder, key: str, images: list[dict[str, Any]], stimuli: _Stimuli) -> None:
    """Give each image its `picture`, or say in `absent` why it has none."""
    _add_made(run, key, [one for one in images if one["stimulus_id"] is None])
    for one in images:
        if one["stimulus_id"] is not None:
            one["picture"], one["absent"] = stimuli.find(one["subject"], one["stimulus_id"])


def _add_made(run: RunFolder, key: str, images: list[dict[str, Any]]) -> None:
    """The same for images that were made, of one target or neighbours: they are read together."""
    places = [one["place"] for one in images]
    first, stop = (min(places), max(places) + 1) if places else (0, 0)
    pngs = run.slice("images", key, first, stop, ["png"])["png"] if places else []
    for one in images:
        one["picture"], one["absent"] = _decoded(pngs[one["place"] - first].as_py()), "not readable"


def _decoded(data: bytes) -> Image.Image | None:
    try:
        return square(decode_image(data), SIDE)
    except DataError:
        return None


@dataclass
class _Stimuli:
    """Pictures of the subjects' stimuli by id; a subject's data set is opened when the first is asked for."""

    config: RunConfig
    opened: dict[str, tuple[dict[str, str], Pictures] | None] = field(default_factory=dict)

    def find(self, subject: str, stimulus_id: str) -> tuple[Image.Image | None, str]:
        """The picture, and where there is none the reason in two words."""
        if not self.config.report.stimuli:
            return None, "not shown"
        if subject not in self.opened:
            self.opened[subject] = self._open(subject)
        source = self.opened[subject]
        if source is None:
            return None, "no data set"
        uris, pictures = source
        try:
            return square(decode_image(pictures.read(uris[stimulus_id])), SIDE), ""
        except (DataError, KeyError):
            return None, "not readable"

    def _open(self, subject: str) -> tuple[dict[str, str], Pictures] | None:
        try:
            dataset = make_dataset(next(one for one in self.config.subjects if one.name == subject))
            stimuli = dataset.stimuli()
            return dict(zip(stimuli["stimulus_id"].to_pylist(), stimuli["uri"].to_pylist(), strict=True)), dataset.images()
        except (ScubaError, StopIteration):
            return None
