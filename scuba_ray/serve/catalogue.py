"""Which subjects and voxels a run has, whose a request means, and what `GET /v1/runs` says of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from scuba_ray.config import RunConfig, ServeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.serve.failures import NotThere
from scuba_ray.tables.store import RunFolder

_NAMED = 5
"""Voxels that a message names."""
_OF_THE_MACHINE = frozenset({"out", "device", "engine", "report", "name", "subjects", "backbones"})
"""Settings that `GET /v1/runs` leaves out: of machines, or told elsewhere in the answer."""


@dataclass(frozen=True)
class Captioned:
    """What is projected and captioned: told to the replicas that open neither networks nor banks."""

    backbone: str
    dim: int
    bank: int
    """Pictures of the bank."""


@dataclass(frozen=True)
class Catalogue:
    """The subjects of a run and their voxels' ids, in the order of the table `voxels`."""

    backbone: str
    """Whose weights are projected and captioned."""
    ids: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, folder: RunFolder, config: RunConfig, backbone: str) -> Catalogue:
        """Read the ids of every subject's voxels."""
        return cls(
            backbone,
            {
                one.name: folder.read("voxels", key=f"{one.name}/{backbone}", columns=["voxel_id"])["voxel_id"].to_numpy()
                for one in config.subjects
            },
        )

    def subject_of(self, subject: str | None, voxels: Sequence[int] | None) -> str:
        """The subject that a request means: the one it names, else the only one that has those voxels.

        Raises
        ------
        NotThere
            If the run has no such subject or voxel.
        ConfigError
            If several subjects have them and none is named.
        """
        wanted = np.unique(np.asarray(voxels if voxels is not None else [], np.int64))
        if subject is not None:
            if subject not in self.ids:
                raise NotThere(f"this run has no subject {subject!r}; its subjects are {', '.join(self.ids)}")
            self._check_there(wanted, self.ids[subject], f"subject {subject}")
            return subject
        having = [name for name, ids in self.ids.items() if np.isin(wanted, ids).all()]
        if not having:
            every = np.concatenate(list(self.ids.values()))
            self._check_there(wanted, every, "this run")
            raise NotThere("no subject of this run has all of these voxels; ask for one subject's at a time")
        if len(having) > 1:
            what = "those voxels" if voxels is not None else "voxels"
            raise ConfigError(f"subject: several subjects have {what}, say which one: {', '.join(having)}")
        return having[0]

    @staticmethod
    def _check_there(wanted: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], where: str) -> None:
        unknown = wanted[~np.isin(wanted, ids)]
        if len(unknown):
            more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
            named = ", ".join(str(one) for one in unknown[:_NAMED])
            extent = f"it has {len(ids):,}, ids {ids.min()} to {ids.max()}" if len(ids) else "it has none"
            raise NotThere(f"{where} has no voxel {named}{more}; {extent}")


def about_run(settings: ServeConfig, config: RunConfig, catalogue: Catalogue, captioned: Captioned) -> dict[str, Any]:
    """What there is to ask for: `answer_schemas.RunAbout` without what it serves."""
    folder = RunFolder(settings.run)
    captions = folder.read("captions", columns=["subject", "backbone", "voxel_id", "method"])
    captions = captions.filter(pc.equal(captions["backbone"], catalogue.backbone))
    subjects = []
    for name, ids in catalogue.ids.items():
        regions = folder.read("voxels", key=f"{name}/{catalogue.backbone}", columns=["rois"])["rois"].combine_chunks().flatten()
        said = pc.unique(captions.filter(pc.equal(captions["subject"], name))["voxel_id"])
        subjects.append(
            {
                "subject": name,
                "voxels": len(ids),
                "captioned": len(said),
                "regions": sorted(filter(None, regions.unique().to_pylist())),
            }
        )
    record = folder.read_run_json()
    shown = config.model_dump(mode="json", exclude=set(_OF_THE_MACHINE))
    return {
        "name": config.name,
        "backbone": catalogue.backbone,
        "dim": captioned.dim,
        "backbones": [one.name for one in config.backbones],
        "subjects": subjects,
        "methods": sorted(pc.unique(captions["method"]).to_pylist()),
        "bank": captioned.bank,
        "captioner": _without_place(config.caption.model) or "a captioner of its own",
        "versions": {"scuba_ray": record["scuba_ray"], "python": record["python"], **record["versions"]},
        "config": _without_places(shown),
    }


def _without_places(value: Any) -> Any:
    """Settings without what would tell where files or services lie."""
    if isinstance(value, dict):
        return {name: _without_places(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    return _without_place(value) if isinstance(value, str) else value


def _without_place(text: str) -> str | None:
    """A setting's text, or None where it is a path or location (`local-dir:/data/clip`, `s3://bucket`)."""
    heart = text.partition(":")[2] if ":" in text else text
    return None if text.startswith(("/", "~", ".")) or heart.startswith(("/", "~", ".")) else text
