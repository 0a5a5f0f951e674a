"""What makes a run's pictures, opened and checked before anything is computed, and whether what they are made for is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import RunConfig, SynthesizeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.phantom.probe import prompts_of
from scuba_ray.protocols import Backbone, Synthesizer
from scuba_ray.registry import resolve
from scuba_ray.stages.divisions import check_parts, region_of_part
from scuba_ray.stages.targets import is_voxel_target
from scuba_ray.tables.ways import BRAINDIVE, LAVCA, METHOD, RERANKED

_GROUP = {RERANKED: "rerank", LAVCA: "lavca"}
"""Settings that a method's captions come from."""


def make_synthesizers(config: RunConfig, reader: Backbone) -> Mapping[str, Synthesizer]:
    """For each `method` of the table `images` what makes its pictures; none if the run makes none. No weights are loaded.

    Raises
    ------
    ConfigError
        If a model cannot be had, no gradient goes through the backbone, captions that prompts are made from are not made, parts
        are asked for of regions that the run does not divide, the judge is the captioned backbone itself, or a region belongs to
        a category that the probe does not have.
    """
    settings = config.synthesize
    if settings is None:
        return {}
    if settings.judge == reader.name:
        raise ConfigError(
            f"synthesize.judge is {reader.name}, the captioned backbone, which judges in any case; name another one of backbones"
        )
    check_parts(config)
    categories = prompts_of(settings.probe)
    for roi, category in settings.probe.category_of.items():
        if category not in categories:
            raise ConfigError(
                f"synthesize.probe.category_of: {roi} is said to belong to {category!r}; the probe has {', '.join(categories)}"
            )
    found: dict[str, Synthesizer] = {}
    if settings.text is not None:
        made = {METHOD: True, RERANKED: config.rerank is not None, LAVCA: config.lavca is not None}
        for method in settings.text.captions:
            if not made[method]:
                raise ConfigError(
                    f"synthesize.text.captions has {method}, which this run does not write: set {_GROUP[method]}, or leave it out"
                )
        maker = resolve("synthesizer", settings.text.synthesizer)
        text = maker(settings.text.diffusion or settings.diffusion, settings.text, reader)
        found |= dict.fromkeys(settings.text.captions, text)
    if settings.gradient is not None:
        maker = resolve("synthesizer", settings.gradient.synthesizer)
        found[BRAINDIVE] = maker(settings.gradient.diffusion or settings.diffusion, settings.gradient, reader)
    return found


def check_targets(settings: SynthesizeConfig, voxels: Iterable[pa.Table]) -> None:
    """Hold regions, voxels and queries against the voxel tables of all subjects (columns voxel_id and rois).

    Raises
    ------
    ConfigError
        If no subject has such a region or voxel, or a query is called like one, or a region like a voxel or a part: `target`
        would name two things.
    """
    known: set[str] = set()
    ids: set[int] = set()
    ends: list[int] = []
    single, parts = ("voxels" in settings.targets, "parts" in settings.targets)
    wanted = set(settings.voxels if isinstance(settings.voxels, tuple) and single else ())
    for table in voxels:
        known |= set(pc.unique(pc.list_flatten(table["rois"])).to_pylist()) - {None}
        if wanted:
            ids |= set(table["voxel_id"].to_pylist()) & wanted
            ends += pc.min_max(table["voxel_id"]).as_py().values()
    for name, rois in (("rois", settings.rois), ("parts", settings.parts)):
        for roi in sorted(set(rois) - known):
            there = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"synthesize.{name}: no subject has a region {roi!r}; there are {there}")
    for voxel in sorted(wanted - ids):
        raise ConfigError(f"synthesize.voxels: no subject has a voxel {voxel}; ids go from {min(ends)} to {max(ends)}")
    for query in settings.queries:
        if query in known or (single and is_voxel_target(query)) or (parts and region_of_part(query) in known):
            raise ConfigError(
                f"synthesize.queries: {query!r} is what a region, part or voxel is called too, and images are told apart by "
                "their target; say it in other words, such as 'a photo of ...'"
            )
    for roi in sorted(settings.rois or known) if "rois" in settings.targets else ():
        like = "voxels" if single and is_voxel_target(roi) else "parts" if parts and region_of_part(roi) in known else None
        if like is not None:
            one = "a single voxel" if like == "voxels" else "a part of another"
            raise ConfigError(
                f"synthesize.targets: a region is called {roi!r} as {one} would be, and images are told apart by their target; "
                f"name other regions in rois, or leave {like} out of targets"
            )
