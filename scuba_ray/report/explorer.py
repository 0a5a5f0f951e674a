"""The page a scientist keeps open: the cortex with a caption on every voxel, a table of all, and where the numbers came from.

`write_report` gathers a finished run's tables, packs them (`payload`, `surface`, `thumbnails`, `summary`) and writes one
self-contained file, RUN/report/index.html.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray import __version__
from scuba_ray.analyses.recovery_summary import CEILING
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.errors import ConfigError, DataError, ScubaError
from scuba_ray.report import (
    contact_sheet,
    evidence,
    figure_texts,
    figures,
    found,
    image_payload,
    page,
    palette,
    payload,
    regions,
    summary,
    surface,
    thumbnails,
)
from scuba_ray.report.joined import CAPTION_COLUMNS, PROJECTION_COLUMNS, voxel_rows
from scuba_ray.report.synthesised import TargetImages, by_target
from scuba_ray.tables.store import RunFolder

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.protocols import ImageSource

RECOVERY = "analyses/recovery"
THUMBNAIL_BYTES = 6_000_000
"""Room for pictures of bank images on the page (bytes of base64): about 5,000 of them."""
IMAGE_BYTES = 6_000_000
"""Room for pictures of images that were made, and of stimuli beside them: about 1,500 of them."""


def write_report(run: RunFolder, config: RunConfig, *, thumbnail_bytes: int = THUMBNAIL_BYTES) -> str:
    """Write RUN/report/index.html and its sheets, and figures of analyses beside their tables; return the page's location.

    A subject whose data set cannot be opened any more, or that has no surface, has its voxels in the table only, and the page
    says why. Peak memory is a few times the captions and the page (about 60 MB for 40,000 voxels).

    Raises
    ------
    DataError
        If the run has no finished voxels, projections or captions.
    """
    drawn = figures.draw(run)
    for name, png in drawn.items():
        run.write_file(name, png)
    rois = run.read("voxels", columns=["rois"])
    data = gather(run, config, thumbnail_bytes, contact_sheet.written(run, by_target(run, config), _colours(rois)))
    data["figures"] = [_figure(run, name.split("/")[-2], png) for name, png in drawn.items()]
    return run.write_file("report/index.html", page.build(data["title"], data).encode("utf-8"))


def _figure(run: RunFolder, name: str, png: bytes) -> dict[str, str]:
    """An analysis' figure with what stands beside it."""
    return {"name": name, "png": b64encode(png).decode(), **figure_texts.texts(name, run.read(f"analyses/{name}"))}


def gather(
    run: RunFolder, config: RunConfig, thumbnail_bytes: int = THUMBNAIL_BYTES, images_made: Iterable[TargetImages] = ()
) -> dict[str, Any]:
    """Everything the page shows, as one JSON-able mapping; `images_made` are the run's images, target by target."""
    voxels = voxel_rows(run)
    captions = run.read("captions", columns=list(CAPTION_COLUMNS))
    projections = run.read("projections", columns=list(PROJECTION_COLUMNS))
    colours = _colours(voxels)
    texts, images = payload.Texts(), payload.Texts()
    numbers = {name: number for number, name in enumerate(colours)}
    sets = payload.voxel_sets(voxels, captions, projections, regions=numbers, texts=texts, images=images)
    truth = run.read(RECOVERY) if run.keys(RECOVERY) else None
    geometries = _geometries(config)
    named = found.nouns_of(run)
    made = image_payload.ImagePayload()
    judged = run.read(image_payload.SYNTHESIS) if run.keys(image_payload.SYNTHESIS) else None
    for target in images_made:
        made.add(target)
    for one in sets:
        one["geometry"], one["no_surface"] = geometries["subjects"].get(one["subject"], (None, "it is not in the configuration"))
        one["overview"] = summary.overview(one, len({caption for caption in one["caption"] if caption >= 0}))
        one["maps"] = [*summary.maps(one), *found.maps(run, one, named)]
        one.update(evidence.evidence(run, one, texts))
        one["about"] = regions.regions_about(run, one, numbers, images)
        one["targets"] = made.targets.get((one["subject"], one["backbone"]), [])
        one["synthesis"] = image_payload.figures(judged, one["subject"], one["backbone"]) if judged is not None else []
        one["planted"] = summary.planted(truth, one, _method(one)) if truth is not None else None
    return {
        "version": __version__,
        "title": config.report.title or config.name,
        "texts": texts.all,
        "images": images.all,
        "regions": [{"name": name, "colour": colour} for name, colour in colours.items()],
        "geometries": geometries["packed"],
        "sets": sets,
        "nearest": payload.NEAREST,
        "thumbnails": _thumbnails(run, config, sets, images.all, thumbnail_bytes),
        "synthesis": {**made.pack(IMAGE_BYTES), "stimuli": config.report.stimuli} if made.targets else None,
        "recovery": {"ceiling": CEILING, "rows": summary.recovery(truth)} if truth is not None else None,
        "quarantined": run.quarantine().num_rows,
        "run": run.read_run_json(),
    }


def _colours(voxels: pa.Table) -> dict[str, str]:
    return palette.region_colours(name for names in voxels["rois"].to_pylist() for name in names or ())


def _method(one: dict[str, Any]) -> str:
    """The method whose captions the page leads with."""
    method: str = one["captions"][0]["method"] if one["captions"] else ""
    return method


def _geometries(config: RunConfig) -> dict[str, Any]:
    """The surfaces, each once, and for each subject the number of its surface or the reason why there is none."""
    packed: list[dict[str, Any]] = []
    subjects: dict[str, tuple[int | None, str | None]] = {}
    for subject in config.subjects:
        try:
            geometry = make_dataset(subject).geometry()
        except ScubaError as error:
            subjects[subject.name] = (None, f"its data set cannot be opened: {error}")
            continue
        if geometry is None:
            subjects[subject.name] = (None, "its data set has no surface")
            continue
        surfaces = surface.pack(geometry)
        if surfaces not in packed:
            packed.append(surfaces)
        subjects[subject.name] = (packed.index(surfaces), None)
    return {"packed": packed, "subjects": subjects}


def _thumbnails(
    run: RunFolder, config: RunConfig, sets: Sequence[dict[str, Any]], images: Sequence[str], budget: int
) -> dict[str, Any]:
    """Pictures of the nearest images where the bank was built from pictures that are still there, else why there are none."""
    if config.report.bank == "hide":
        return {"none": "pictures of the bank are hidden (report.bank)"}
    try:
        unwanted = _left_out(config.report.leave_out)
        bank, source = _bank(run, config)
        named = bank.filter(pc.is_in(bank["image_id"], pa.array(images, pa.string())))
    except ScubaError as error:
        return {"none": str(error)}
    uris = dict(zip(named["image_id"].to_pylist(), named["uri"].to_pylist(), strict=True))
    known = {number: uris[name] for number, name in enumerate(images) if name in uris and name not in unwanted}
    parts = [image for one in sets for image in regions.part_pictures(one["about"])]
    order = dict.fromkeys((*parts, *thumbnails.by_use([one["nearest"] for one in sets], payload.NEAREST)))
    return thumbnails.sheets(list(order), known, source, budget, blurred=config.report.bank == "blur")


def _left_out(path: str | None) -> set[str]:
    """Ids of the pictures that are never shown. Raises ConfigError if the list is not there: then none is shown."""
    if path is None:
        return set()
    try:
        return {line.strip() for line in Path(path).expanduser().read_text(encoding="utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"report.leave_out: {path} is not a readable list of image ids, one a line: {error}") from error


def _bank(run: RunFolder, config: RunConfig) -> tuple[pa.Table, ImageSource]:
    """Ids and uris of the bank's images and where the pictures are: the run's own, or those that `scuba bank build` noted."""
    folder, name, images = run, config.bank.source, config.bank.images
    if config.bank.path is not None:
        folder = RunFolder(config.bank.path)
        built_from = folder.read_run_json().get("bank", {})
        name, images = built_from.get("source"), built_from.get("images")
    if not name or not images:
        raise DataError("the bank does not say which pictures it was built from")
    return folder.read("bank", columns=["image_id", "uri"]), make_images(name, images)
