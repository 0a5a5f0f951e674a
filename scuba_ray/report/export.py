"""`scuba export`: a run's maps, captions and regions in files that other programs read, as a BIDS derivative."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.fsaverage import nearest_of_fsaverage5
from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES
from scuba_ray.errors import ConfigError, ScubaError
from scuba_ray.protocols import Geometry, Grid, Gridded
from scuba_ray.report import export_surface, export_volume
from scuba_ray.report.export_folder import check_replaceable, complete_folder
from scuba_ray.report.export_maps import DESCRIPTIONS, Exported, exported
from scuba_ray.report.export_tables import write_captions
from scuba_ray.report.export_words import IGNORED, REGIONS, bids_labels, description, readme, regions_table
from scuba_ray.report.known import known_names

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.tables.store import RunFolder

WHAT = ("maps", "captions", "pycortex")
NO_GRID = "no file says where a volume lies (shape and affine; in the layout `arrays` that is `grid` of dataset.json)"
TEMPLATE = "https://templateflow.s3.amazonaws.com/tpl-fsaverage/tpl-fsaverage"
"""Where BIDS' template archive keeps the surfaces of fsaverage."""


@dataclass
class _Files:
    """The files of one subject and backbone in the folder that is being written."""

    one: Exported
    folder: Path
    what: Sequence[str]
    subject: str
    backbone: str
    regions: dict[str, str]
    """Labels of regions for file names."""
    notes: list[str] = field(default_factory=list)

    def path(self, *entities: str, end: str) -> Path:
        """`sub-X_ENTITIES_desc-Y_END` below the subject's folder: regions in `anat`, where BIDS wants segmentations."""
        folder = self.folder / f"sub-{self.subject}" / ("anat" if end.startswith(("dseg", "mask")) else "func")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "_".join([f"sub-{self.subject}", *entities, f"desc-{self.backbone}", end])


def export_run(
    run: RunFolder, config: RunConfig, out: str, *, subject: str | None = None, what: Sequence[str] = WHAT
) -> tuple[str, list[str]]:
    """Write an export to the folder `out`, which is complete or not there; an earlier export at that place is replaced.

    Parameters
    ----------
    subject : str, optional
        One subject alone.
    what : sequence
        Some of `WHAT`.

    Returns
    -------
    location : str
    notes : list of str
        What could not be written, and why; the export's README says the same.

    Raises
    ------
    ConfigError
        If the run has no such subject, there is no such part, or `out` holds something else than an export.
    DataError
        If the run has no finished captions, or a data set is not the one that the run was made of.
    """
    unknown = [name for name in what if name not in WHAT]
    if unknown or not what:
        raise ConfigError(f"--what has {', '.join(unknown) or 'nothing'}; known: {', '.join(WHAT)}")
    check_replaceable(Path(out).expanduser().absolute())
    chosen = exported(run, subject)
    if not chosen:
        raise ConfigError(f"this run has no subject {subject!r}; {known_names(subject or '', _subjects(config), 'subjects')}")
    # of all subjects, so that one alone has the names it has among the others
    subjects = bids_labels(one.name for one in config.subjects)
    backbones, regions = bids_labels(one.name for one in config.backbones), bids_labels(chosen[0].colours)
    with complete_folder(out) as folder:
        notes = list[str]()
        for one in chosen:
            files = _Files(one, folder, what, subjects[one.subject], backbones[one.backbone], regions)
            if "maps" in what or "pycortex" in what:
                _write_maps(files, config)
            notes += files.notes
        if "captions" in what:
            write_captions(folder / "captions.csv", run, chosen)
        if "maps" in what:
            table = regions_table(export_surface.region_keys(chosen[0].colours), chosen[0].colours)
            (folder / REGIONS).write_text(table, encoding="utf-8")
        (folder / "dataset_description.json").write_text(description(config, {one.subject for one in chosen}), encoding="utf-8")
        (folder / "README.md").write_text(readme(config, [name for name in WHAT if name in what], notes), encoding="utf-8")
        (folder / ".bidsignore").write_text("\n".join(IGNORED) + "\n", encoding="utf-8")
    return str(Path(out).expanduser().absolute()), notes


def _subjects(config: RunConfig) -> list[str]:
    return [one.name for one in config.subjects]


def _write_maps(files: _Files, config: RunConfig) -> None:
    one = files.one
    if one.missing:
        files.notes.append(
            f"{one.subject}, {one.backbone}: no map of {', '.join(one.missing)}: no voxel has a value{_analyses(one)}"
        )
    geometry, grid, reason = _space(config, one.subject)
    on_surface, in_volume = (len(one.voxels) - one.voxels[name].null_count for name in ("vertex", "i"))
    if grid is not None and in_volume:
        _write_volume(files, grid)
    elif in_volume and geometry is not None and on_surface:
        files.notes.append(f"{one.subject}, {one.backbone}: no volumes, though {in_volume} voxels have i, j, k: {NO_GRID}")
    if geometry is not None and on_surface:
        _write_surface(files, geometry)
        if on_surface < len(one.voxels):
            files.notes.append(
                f"{one.subject}, {one.backbone}: {len(one.voxels) - on_surface} of {len(one.voxels)} voxels have no vertex"
            )
    elif grid is None or not in_volume:
        files.notes.append(f"{one.subject}, {one.backbone}: no maps: {reason}")


def _analyses(one: Exported) -> str:
    """Which analyses would give the maps that are missing."""
    names = {"person": "person_share", "embedding_map": "red"}
    wanted = [analysis for analysis, name in names.items() if name in one.missing]
    return f" (the run's `analyses` lack {', '.join(wanted)}, or they count no voxel)" if wanted else ""


def _space(config: RunConfig, subject: str) -> tuple[Geometry | None, Grid | None, str]:
    """Where a subject's voxels lie, and what to say where neither is known."""
    try:
        dataset = make_dataset(next(one for one in config.subjects if one.name == subject))
        geometry, grid = dataset.geometry(), dataset.grid() if isinstance(dataset, Gridded) else None
    except ScubaError as error:
        return None, None, f"its data set cannot be opened: {error}"
    return geometry, grid, f"its voxels have no vertex of a surface, and {NO_GRID}"


def _write_surface(files: _Files, geometry: Geometry) -> None:
    one, space, sides = files.one, f"space-{geometry.space}", []
    first = next(iter(geometry.views.values()))
    for hemi, (letter, _) in export_surface.HEMISPHERES.items():
        numbers, labels = export_surface.on_vertices(one, hemi, len(first[hemi][0]))
        sides.append(numbers)
        if "maps" in files.what:
            path = files.path(f"hemi-{letter}", space, "stat-all", end="statmap.func.gii")
            export_surface.write_numbers(path, hemi, geometry.space, numbers)
            shown = {name: text for name, text in DESCRIPTIONS.items() if name in numbers}
            _sidecar(path, ".func.gii", {"Maps": shown, "VertexRule": export_surface.MEAN})
            path = files.path(f"hemi-{letter}", space, end="dseg.label.gii")
            export_surface.write_labels(path, hemi, geometry.space, labels, one.colours)
            reference = _reference(geometry, letter)
            about = {"Description": "regions", "VertexRule": export_surface.BEST, "SpatialReference": reference}
            _sidecar(path, ".label.gii", about)
    if "pycortex" in files.what:
        is_coarse = all(len(first[hemi][0]) == FSAVERAGE5_VERTICES for hemi in export_surface.HEMISPHERES)
        nearest = [nearest_of_fsaverage5(hemi) for hemi in export_surface.HEMISPHERES] if is_coarse else None
        export_surface.write_vertices(files.path(space, end="pycortex.npz"), sides, nearest)


def _write_volume(files: _Files, grid: Grid) -> None:
    one, space = files.one, f"space-{grid.space}"
    maps, masks, outside = export_volume.on_grid(one, grid)
    if outside:
        files.notes.append(f"{one.subject}, {one.backbone}: {outside} of {len(one.voxels)} voxels are in no volume")
    if "pycortex" in files.what:
        export_volume.write_arrays(files.path(space, end="pycortex.npz"), maps, grid)
    if "maps" not in files.what:
        return
    for name, values in maps.items():
        path = files.path(space, f"stat-{name.replace('_', '')}", end="statmap.nii.gz")
        export_volume.write_volume(path, values, grid, f"{name}: {DESCRIPTIONS[name]}")
        _sidecar(path, ".nii.gz", {"Description": DESCRIPTIONS[name], "Column": name})
    labels = export_volume.first_regions(one, grid)
    path = files.path(space, end="dseg.nii.gz")
    export_volume.write_volume(path, labels, grid, "number of the first region")
    _sidecar(path, ".nii.gz", {"Description": f"number of the first region, as in {REGIONS}", "SpatialReference": "orig"})
    for name, mask in masks.items():
        path = files.path(space, f"label-{files.regions[name]}", end="mask.nii.gz")
        export_volume.write_volume(path, mask, grid, name)
        _sidecar(path, ".nii.gz", {"Description": f"voxels of the region {name}", "Type": "ROI", "SpatialReference": "orig"})


def _reference(geometry: Geometry, letter: str) -> str:
    """What BIDS calls the spatial reference: the sphere of FreeSurfer's average subject, or the subject's own space."""
    density = {"fsaverage5": "10k", "fsaverage": "164k"}.get(geometry.space)
    return f"{TEMPLATE}_hemi-{letter}_den-{density}_sphere.surf.gii" if density else "orig"


def _sidecar(path: Path, suffix: str, about: dict[str, Any]) -> None:
    """The JSON beside a file, as BIDS has it."""
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    path.with_name(path.name.removesuffix(suffix) + ".json").write_text(text, encoding="utf-8")
