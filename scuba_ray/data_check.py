"""`scuba data check`: everything a configuration names is opened and looked at, and all that is wrong is said at once.

Nothing is computed or written. Of responses one session is read, of pictures some; estimates say what they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scuba_ray.bank.shards import banks_at, open_bank
from scuba_ray.config import BackboneConfig, RunConfig, SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.datasets.inspection import Inspection, State, inspect
from scuba_ray.errors import ScubaError
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.models.image_to_text import ImageToText
from scuba_ray.models.language import make_language_model
from scuba_ray.protocols import Backbone, SubjectDataset
from scuba_ray.stages.chosen_analyses import choose
from scuba_ray.stages.encode_captions import check_captions
from scuba_ray.stages.estimates import Sizes, disk, free_disk, memory, seconds
from scuba_ray.stages.imported import ImportedWeights
from scuba_ray.stages.project_index import check_index
from scuba_ray.stages.study import backbone_of, located, model_resources
from scuba_ray.stages.synthesizers import check_targets, make_synthesizers

Made = TypeVar("Made")


@dataclass(frozen=True)
class Remark:
    """One thing to know. A `problem` prevents the run; a `warning` asks for a look; a `note` does not."""

    state: State
    where: str
    text: str


@dataclass
class DataCheck:
    """What was found."""

    subjects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Facts of each subject that could be opened."""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Facts of backbones, captioner and bank."""
    estimates: dict[str, Any] = field(default_factory=dict)
    """Memory of a worker by pass, disk by table, and time by step."""
    remarks: list[Remark] = field(default_factory=list)

    @property
    def problems(self) -> list[Remark]:
        """What prevents the run."""
        return [remark for remark in self.remarks if remark.state == "problem"]

    def attempt(self, where: str, make: Callable[[], Made]) -> Made | None:
        """What `make` gives; None where it cannot, and a problem for each line of what it says."""
        try:
            return make()
        except (ScubaError, OSError) as error:
            self.remarks += [Remark("problem", where, line) for line in str(error).splitlines()]
            return None


def check(config: RunConfig) -> DataCheck:
    """Open and look at all that `config` names; nothing is raised for what is wrong with it."""
    config, found = located(config), DataCheck()
    found.attempt("device", lambda: model_resources(config.device, config.engine))
    if config.project.scores == "tf32" and config.device == "cpu":
        found.remarks.append(Remark("problem", "project.scores", "tf32 is an arithmetic of CUDA devices, but device is cpu"))
    reader = _models(config, found)
    datasets, looks = _subjects(config, found)
    weights = _weights(config, reader, found)
    pictures = _bank(config, reader, found)
    _captions(config, datasets, found)
    synthesize = config.synthesize
    if synthesize is not None and len(datasets) + len(weights) == len(config.subjects):
        tables = [*(one.voxels() for one in datasets.values()), *(one.voxels for one in weights.values())]
        found.attempt("synthesize", lambda: check_targets(synthesize, tables))
    _estimate(config, reader, looks, pictures, found)
    return found


def _subjects(config: RunConfig, found: DataCheck) -> tuple[dict[str, SubjectDataset], dict[str, Inspection]]:
    datasets, looks = dict[str, SubjectDataset](), dict[str, Inspection]()
    for subject in config.subjects:
        if subject.weights is not None:
            continue
        dataset = found.attempt(subject.name, lambda one=subject: make_dataset(one))  # type: ignore[misc]
        look = None if dataset is None else found.attempt(subject.name, lambda one=dataset: inspect(one))  # type: ignore[misc]
        if dataset is None or look is None:
            continue
        datasets[subject.name], looks[subject.name] = dataset, look
        found.subjects[subject.name] = {"layout": subject.dataset, "path": subject.path, **look.facts}
        found.remarks += [Remark(state, subject.name, text) for state, text in look.remarks]
    return datasets, looks


def _models(config: RunConfig, found: DataCheck) -> Backbone | None:
    """The backbone that the captioner reads, where both can be had; what else the configuration names is opened, too."""
    made = {one.name: found.attempt(f"backbone {one.name}", _maker(one)) for one in config.backbones}
    for judge in config.score.judges if config.score else ():
        found.attempt(f"judge {judge.name}", _maker(judge))
    named = list[str]()
    for name in config.analyses:
        alone = config.model_copy(update={"analyses": (name,)})
        chosen = found.attempt(f"analysis {name}", lambda one=alone: choose(one, lambda analysis: None))  # type: ignore[misc]
        named += [name] if chosen is None else chosen.config.analyses
    config = config.model_copy(update={"analyses": tuple(named)})
    lavca = config.lavca
    if lavca is not None:
        found.attempt("lavca", lambda: make_language_model(lavca, config.out))
        if lavca.describe.model is not None:
            found.attempt("lavca.describe", lambda: ImageToText(lavca.describe))
    backbones = tuple(one for one in made.values() if one is not None)
    found.parts |= {f"backbone {one.name}": {"length": one.dim, "fingerprint": one.fingerprint[:12]} for one in backbones}
    captioner = found.attempt("captioner", lambda: make_captioner(config.caption))
    if captioner is None or len(backbones) < len(made):
        return None
    reader = found.attempt("captioner", lambda: backbone_of(captioner, backbones))
    if reader is not None:
        found.parts["captioner"] = {"model": config.caption.model, "reads": reader.name}
        found.attempt("synthesize", lambda: make_synthesizers(config, reader))
    return reader


def _maker(config: BackboneConfig) -> Callable[[], Backbone]:
    def make() -> Backbone:
        made = make_backbone(config)
        _ = made.fingerprint  # needs the checkpoint: one that is not on this machine is fetched, as a run would
        return made

    return make


def _weights(config: RunConfig, reader: Backbone | None, found: DataCheck) -> dict[str, ImportedWeights]:
    made = {}
    for subject in config.subjects:
        if subject.weights is not None and reader is not None:
            weights = found.attempt(subject.name, lambda one=subject: _imported(one, reader))  # type: ignore[misc]
            if weights is not None:
                made[subject.name] = weights
                found.subjects[subject.name] = {"weights": subject.weights.path, "voxels": len(weights.voxels)}
    return made


def _imported(subject: SubjectConfig, reader: Backbone) -> ImportedWeights:
    assert subject.weights is not None, "asked of subjects with weights only"
    weights = ImportedWeights(subject.name, subject.weights, reader.dim)
    _ = weights.voxels  # the table is read when it is first asked for
    return weights


def _bank(config: RunConfig, reader: Backbone | None, found: DataCheck) -> int | None:
    """Pictures in the bank, where that is known without opening them."""
    bank, count, opened = config.bank, None, None
    if bank.path is not None and reader is not None:
        path = bank.path
        opened = found.attempt("bank", lambda: open_bank(path, reader))
        if opened is not None:
            count = opened.rows
            found.parts["bank"] = {"path": path, "pictures": count, "built with": opened.backbone}
            found.remarks += [
                Remark("warning", "bank", f"collection {one} is not embedded to the end") for one in opened.unfinished
            ]
    elif bank.path is not None:
        path = bank.path
        if found.attempt("bank", lambda: banks_at(path)) == []:
            found.remarks.append(
                Remark("problem", "bank", f"there is no finished bank at {path}; build one with `scuba bank build`")
            )
    else:
        listing = found.attempt("bank", lambda: make_images(bank.source, bank.images or "").files())
        if listing is not None:
            count = len(listing) if bank.source == "folder" else None
            size = sum(listing["bytes"].to_pylist())
            found.parts["bank"] = {"images": bank.images, "source": bank.source, "files": len(listing), "bytes": size}
    if config.project.method == "index" and (opened is not None or bank.path is None):
        found.attempt("project.method", lambda: check_index(opened, config.project))
    return count


def _captions(config: RunConfig, datasets: dict[str, SubjectDataset], found: DataCheck) -> None:
    """Whether stimuli have the captions that controls and judges read."""
    for name, dataset in datasets.items():
        if "caption" in config.fit.bands:
            why = ("fit.bands has 'caption'", "leave 'caption' out of fit.bands")
            found.attempt(name, lambda one=dataset, said=why: check_captions(one, *said))  # type: ignore[misc]
        for judge in config.score.judges if config.score else ():
            if judge.by == "caption":
                why = (f"judge {judge.name} reads captions", "leave that judge out of score.judges")
                found.attempt(name, lambda one=dataset, said=why: check_captions(one, *said))  # type: ignore[misc]


def _estimate(
    config: RunConfig, reader: Backbone | None, looks: dict[str, Inspection], pictures: int | None, found: DataCheck
) -> None:
    sizes = {name: Sizes.of(look, reader.dim if reader is not None else 512, pictures) for name, look in looks.items()}
    if not sizes:
        return
    found.estimates = {"memory": memory(config, sizes), "disk": disk(config, sizes), "seconds": seconds(config, sizes)}
    free = free_disk(config.out)
    needed = sum(found.estimates["disk"].values())
    if free is not None and needed > free:
        found.remarks.append(
            Remark(
                "warning", "out", f"the run needs about {needed / 1e9:.1f} GB of disk, but {config.out} has {free / 1e9:.1f} GB"
            )
        )
