"""A run's images as JSON for the page: what each target's images are, and small pictures of them within a budget of bytes.

Pictures are kept as WebP each (a target's best by every method first), so that the page can give each its own text.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import pyarrow as pa
from PIL import Image

from scuba_ray.analyses.synthesis import ALL
from scuba_ray.report.contact_sheet import file_name
from scuba_ray.report.payload import rounded
from scuba_ray.report.synthesised import ORDER, MethodImages, TargetImages
from scuba_ray.report.thumbnails import QUALITY

SYNTHESIS = "analyses/synthesis"
SIDE = 112
"""Pixels of a picture's side on the page."""
_NUMBERS = ("predicted", "predicted_independent", "percentile", "percentile_independent")
_TEXTS = ("prompt", "noun", "stimulus_id", "seen", "absent")


_FIGURES = (
    "target", "method", "images", "predicted", "predicted_independent", "natural_predicted", "natural_predicted_independent",
    "classified", "low", "high", "seconds",
)  # fmt: skip


class ImagePayload:
    """Gathers targets one by one; `pack` then gives the pictures that fit the budget. About 3 kB are held for each picture."""

    def __init__(self) -> None:
        self.targets: dict[tuple[str, str], list[dict[str, Any]]] = {}
        """The targets of each subject and backbone."""
        self._pictures: list[tuple[int, str]] = []
        self._stimuli: dict[tuple[str, str], int] = {}

    def add(self, target: TargetImages) -> None:
        """Take in a target's images, with their pictures."""
        first = target.rows[0].best[0]
        natural = [first["natural_predicted"], first["natural_predicted_independent"]]
        entry = {
            "kind": target.kind,
            "name": target.name,
            "voxel": target.voxel,
            "roi": target.region,
            "voxels": target.voxels,
            "judged": target.judged,
            "category": first["target_category"],
            "natural": rounded(natural),
            "sheet": None if target.kind == "voxel" else file_name(target).rpartition("/")[2],
            "methods": [self._method(row) for row in target.rows],
        }
        self.targets.setdefault((target.subject, target.backbone), []).append(entry)

    def pack(self, budget: int) -> dict[str, Any]:
        """Pictures (base64 of WebP, null beyond `budget` bytes) by number, and how many are left out.

        Those of the best ranks come first, so that with a small budget every target still has some.
        """
        kept: list[str | None] = [None] * len(self._pictures)
        for number in sorted(range(len(kept)), key=lambda number: self._pictures[number][0]):
            data = self._pictures[number][1]
            budget -= len(data)
            if budget < 0:
                break
            kept[number] = data
        return {"side": SIDE, "pictures": kept, "left_out": kept.count(None)}

    def _method(self, row: MethodImages) -> dict[str, Any]:
        images = [self._image(image) for image in row.best]
        return {
            "method": row.method,
            "natural": row.natural,
            "count": row.count,
            "in_category": row.in_category,
            "images": images,
        }

    def _image(self, image: dict[str, Any]) -> dict[str, Any]:
        numbers = dict(zip(_NUMBERS, rounded(image[name] for name in _NUMBERS), strict=True))
        return {**{name: image[name] for name in _TEXTS}, **numbers, "picture": self._number(image)}

    def _number(self, image: dict[str, Any]) -> int | None:
        """The number of an image's picture; a stimulus that drives several targets is kept once."""
        if image["picture"] is None:
            return None
        stimulus = (image["subject"], image["stimulus_id"])
        if image["stimulus_id"] is not None and stimulus in self._stimuli:
            return self._stimuli[stimulus]
        self._pictures.append((image["rank"], _small(image["picture"])))
        if image["stimulus_id"] is not None:
            self._stimuli[stimulus] = len(self._pictures) - 1
        return len(self._pictures) - 1


def figures(table: pa.Table, subject: str, backbone: str) -> list[dict[str, Any]]:
    """Rows of the analysis `synthesis` for all targets of one subject but voxels: all regions together first, then one by one."""
    rows = [
        {name: rounded([row[name]])[0] if isinstance(row[name], float) else row[name] for name in _FIGURES}
        for row in table.to_pylist()
        if (row["subject"], row["backbone"]) == (subject, backbone) and row["kind"] != "voxel"
    ]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    places = {method: place for place, method in enumerate(ORDER)}
    return sorted(
        rows,
        key=lambda row: (row["target"] != ALL, targets.index(row["target"]), places.get(row["method"], len(ORDER))),
    )


def _small(picture: Image.Image) -> str:
    sink = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(sink, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(sink.getvalue()).decode("ascii")
