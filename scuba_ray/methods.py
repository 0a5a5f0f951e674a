"""The steps of a run, each a stage completed for one subject and backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scuba_ray import __version__
from scuba_ray.bank.listings import Listing
from scuba_ray.bank.shards import BankFolder
from scuba_ray.banks import Bank, Embedding, embed_collection, only_collection
from scuba_ray.config import RunConfig, SubjectConfig
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import LOW_LEVEL, Backbone, Described, Resources, Scaling
from scuba_ray.stages import cautions
from scuba_ray.stages.audit_index import AuditIndex, sampled
from scuba_ray.stages.average_repeats import AverageRepeats
from scuba_ray.stages.bands import PartitionVariance
from scuba_ray.stages.caption import Caption
from scuba_ray.stages.encode import EncodeStimuli
from scuba_ray.stages.encode_captions import EncodeCaptions, caption_space
from scuba_ray.stages.features import FeatureSpace
from scuba_ray.stages.fit import Fit
from scuba_ray.stages.imported import ImportWeights
from scuba_ray.stages.jittered import jitters
from scuba_ray.stages.project import Project
from scuba_ray.stages.project_index import ProjectIndex, check_index
from scuba_ray.stages.read_sessions import ReadSessions
from scuba_ray.stages.significance import Significance
from scuba_ray.stages.study import Study
from scuba_ray.tables.progress import Result, Scratch
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

SIGNIFICANCE_CHUNK = 8192
"""Voxels per part of the table `voxels`."""
PREPARED_HERE = 256 << 20
"""Bytes of single trials (T * V * 4) up to which they are prepared in this process: workers would take longer to start."""
FITTED_HERE = 1 << 24
"""Images times voxels up to which a closed form is fitted in this process: a few seconds, about what workers take to start."""
OWN_BANK = "images"
"""What the pictures of a run's own bank are called in it."""


@dataclass(frozen=True)
class Methods:
    """The steps of a run, each a stage completed for one unit."""

    config: RunConfig
    study: Study
    folder: RunFolder
    steps: Steps

    def __post_init__(self) -> None:
        if self.config.bank.similar is not None and not self.study.datasets:
            raise ConfigError("bank.similar leaves out pictures like a subject's test images, and no subject has a data set")

    def describe(self) -> None:
        """Keep what the subjects' layouts say of their files: what was found, and as warnings what a reader should know."""
        described = {name: dataset for name, dataset in self.study.datasets.items() if isinstance(dataset, Described)}
        self.steps.note(subjects={name: dict(dataset.about()) for name, dataset in described.items()})
        for name, dataset in described.items():
            self.steps.warn(*(f"{name}: {note}" for note in dataset.notes()))

    def prepare(self, subject: SubjectConfig) -> Result:
        """Standardise responses per session and average repeats: every session is read once, then a block of voxels at a time."""
        settings, dataset = self.config.prepare, self.study.datasets[subject.name]
        worker = Resources(cpus=self.config.engine.cpus_per_worker)
        first = ReadSessions(subject=subject, settings=settings, resources=worker)
        sessions = Scratch(first, rows=len(dataset.trials()["session"].unique()), chunk=1)
        stage = AverageRepeats(subject=subject, run=self.folder, resources=worker)
        voxels, trials = dataset.voxels().num_rows, dataset.trials().num_rows
        how: dict[str, Any] = {"rows": voxels, "chunk": settings.chunk, "here": trials * voxels * 4 <= PREPARED_HERE}
        inputs = [self.study.identity[subject.name]]
        responses = self.steps.complete(stage, key=subject.name, inputs=inputs, scratch=sessions, **how)
        self.steps.caution(cautions.of_responses, self.folder, subject.name)
        return responses

    def encode(self, subject: SubjectConfig, backbone: Backbone) -> Result:
        """Embed what the subject saw (METHOD: raw CLIP embeddings; they are normalised where they are read)."""
        settings = self.config.encode
        preparation = Resources(cpus=self.config.engine.cpus_per_decoder)
        stage = EncodeStimuli(subject=subject, backbone=backbone, settings=settings, preparation=preparation, **self._model)
        rows = self.study.datasets[subject.name].stimuli().num_rows
        return self.steps.complete(
            stage, key=_key(subject, backbone), rows=rows, chunk=settings.chunk, inputs=[self.study.identity[subject.name]]
        )

    def fit(self, subject: SubjectConfig, backbone: Backbone, embeddings: Result, responses: Result) -> Result:
        """Fit a linear encoding model per voxel and judge it on held-out images; then the false-discovery rate over all."""
        settings, key = self.config.fit, _key(subject, backbone)
        space: dict[str, Any] = {"backbone": backbone.name, "dim": backbone.dim, "run": self.folder}
        features: dict[str, Any] = {"scaling": backbone.scaling, "encode": self.config.encode}
        features["network"] = backbone if jitters(settings, backbone.scaling) else None
        stage = Fit(subject=subject, settings=settings, seed=self.config.seed, **features, **space, **self._model)
        inputs = [self.study.identity[subject.name], embeddings.fingerprint, responses.fingerprint]
        rows = self.study.datasets[subject.name].voxels().num_rows
        here = self._fits_here(subject)
        fits = self.steps.complete(stage, key=key, rows=rows, chunk=settings.chunk, inputs=inputs, here=here)
        finish = Significance(subject=subject.name, resources=Resources(), **space)
        voxels = self.steps.complete(
            finish, key=key, rows=fits.rows, chunk=SIGNIFICANCE_CHUNK, inputs=[fits.fingerprint], here=True
        )
        if backbone.name != LOW_LEVEL:  # a baseline predicts few voxels, and is meant to
            self.steps.caution(cautions.of_fit, self.folder, key, settings, backbone.dim)
        return voxels

    def encode_captions(self, subject: SubjectConfig, backbone: Backbone) -> Result:
        """Embed the captions of what the subject saw by the backbone's text tower."""
        stage = EncodeCaptions(subject=subject, backbone=backbone, **self._model)
        rows, inputs = self.study.datasets[subject.name].stimuli().num_rows, [self.study.identity[subject.name]]
        key = f"{subject.name}/{caption_space(backbone.name)}"
        return self.steps.complete(stage, key=key, rows=rows, chunk=self.config.encode.chunk, inputs=inputs)

    def bands(self, subject: SubjectConfig, backbone: Backbone, second: str, inputs: Sequence[Result]) -> Result:
        """Ask what the image embedding explains beyond a second feature set; `inputs`: both embeddings, then the rest."""
        settings, device = self.config.fit, self.config.device
        scalings: tuple[Scaling, Scaling] = (backbone.scaling, "standard" if second == LOW_LEVEL else backbone.scaling)
        one, two = (FeatureSpace(self.folder, of.key, how, device) for of, how in zip(inputs[:2], scalings, strict=True))
        about: dict[str, Any] = {"backbone": backbone.name, "second": second, "spaces": (one, two), "seed": self.config.seed}
        stage = PartitionVariance(subject=subject, settings=settings, **about, **self._model)
        rows = self.study.datasets[subject.name].voxels().num_rows
        made_of = [self.study.identity[subject.name], *(result.fingerprint for result in inputs)]
        how: dict[str, Any] = {"rows": rows, "chunk": settings.chunk, "here": self._fits_here(subject)}
        return self.steps.complete(stage, key=f"{one.key}/{second}", inputs=made_of, **how)

    def _fits_here(self, subject: SubjectConfig) -> bool:
        """Whether a subject is fitted sooner than workers are started, on cores (the driver's node may have no GPU)."""
        dataset = self.study.datasets[subject.name]
        small = dataset.stimuli().num_rows * dataset.voxels().num_rows <= FITTED_HERE
        return small and self.config.fit.method == "ridge" and self.config.device == "cpu"

    def take_over(self, subject: SubjectConfig) -> Result:
        """Take a subject's weights as they were fitted elsewhere."""
        reader, weights = self.study.reader, self.study.weights[subject.name]
        key, inputs = _key(subject, reader), [self.study.identity[subject.name]]
        stage = ImportWeights(subject=subject.name, backbone=reader.name, weights=weights, dim=reader.dim, resources=Resources())
        rows = weights.voxels.num_rows
        voxels = self.steps.complete(stage, key=key, rows=rows, chunk=SIGNIFICANCE_CHUNK, inputs=inputs, here=True)
        self.steps.caution(cautions.of_import, self.folder, key)
        return voxels

    def bank(self) -> Bank:
        """The natural images that weights are projected on: a bank built before, or one of the run's own."""
        built, pictures, settings, reader = self.study.bank, self.study.pictures, self.config.bank, self.study.reader
        if built is not None:
            self.steps.caution(cautions.of_bank, built)
            return Bank(built, built.fingerprint, built.rows, len(built.shards))
        assert pictures is not None and settings.images is not None, "a study has a bank or pictures for one"
        wanted = Listing(OWN_BANK, settings.images, settings.source, "", pictures.fingerprint(), ())
        seen = {f"{subject.name}/{reader.name}" for subject in self.config.subjects} if settings.similar is not None else set()
        how = Embedding(
            backbone=reader,
            encode=self.config.encode,
            engine=self.config.engine,
            device=self.config.device,
            duplicates=settings.duplicates,
            similar=settings.similar,
            test=tuple(result for result in self.steps.results if result.table == "embeddings" and result.key in seen),
        )
        listing = only_collection(self.folder.location, wanted, pictures, keep=not self.steps.dry)
        made = embed_collection(self.steps, listing, how)
        return Bank(BankFolder(self.folder.location, reader.name, (made.key,)), made.fingerprint, made.rows, made.chunks)

    def project(self, subject: SubjectConfig, voxels: Result, bank: Bank) -> Result:
        """Project weights onto natural images by a softmax at inverse temperature beta (METHOD, equations 3 and 4)."""
        settings, reader = self.config.project, self.study.reader
        space: dict[str, Any] = {"backbone": reader.name, "dim": reader.dim, "run": self.folder}
        exact = Project(subject=subject.name, bank=bank.folder, settings=settings, **space, **self._model)
        common: dict[str, Any] = {"key": voxels.key, "chunk": settings.chunk, "inputs": [voxels.fingerprint, bank.fingerprint]}
        if settings.method == "exact":
            return self.steps.complete(exact, rows=voxels.rows, **common)
        info = check_index(bank.folder, settings)
        stage = ProjectIndex(exact=exact, info=info, resources=self.study.resources)
        projections = self.steps.complete(stage, rows=voxels.rows, **common)
        self.steps.caution(cautions.of_index, self.folder, voxels.key, settings, info)
        if projections.there and (audited := sampled(self.folder, voxels.key, self.config.seed)):
            audit = AuditIndex(projected=stage, voxels=audited, resources=self.study.resources)
            self.steps.complete(audit, rows=len(audited), **common)
            self.steps.caution(cautions.of_audit, self.folder, voxels.key)
        return projections

    def caption(self, subject: SubjectConfig, projections: Result) -> Result:
        """Say what each projected embedding shows: prefix captioner, beam search."""
        settings = self.config.caption
        stage = Caption(
            subject=subject.name,
            backbone=self.study.reader.name,
            captioner=self.study.captioner,
            run=self.folder,
            settings=settings,
            **self._model,
        )
        return self.steps.complete(
            stage, key=projections.key, rows=projections.rows, chunk=settings.chunk, inputs=[projections.fingerprint]
        )

    def report(self) -> str:
        """Write the page that shows all of it."""
        from scuba_ray.report.explorer import write_report

        return self.steps.once("report", report_inputs(self.config), lambda: write_report(self.folder, self.config))

    @property
    def _model(self) -> dict[str, Any]:
        """What every stage that computes on the configured device takes."""
        return {"resources": self.study.resources, "device": self.config.device}


def report_inputs(config: RunConfig) -> list[str]:
    """What the page is made of beside a run's results."""
    from scuba_ray.report import page

    return [__version__, page.digest(), config.name, config.report.model_dump_json()]


def _key(subject: SubjectConfig, backbone: Backbone) -> str:
    return f"{subject.name}/{backbone.name}"
