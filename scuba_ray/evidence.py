"""The steps of a run after its captions: other captions for the same voxels, and how well all of them hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scuba_ray.banks import Bank
from scuba_ray.config import DescribeConfig, RunConfig, SubjectConfig
from scuba_ray.config.scoring import OWN, JudgeConfig
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.models.image_to_text import ImageToText
from scuba_ray.models.language import make_language_model
from scuba_ray.models.language_http import language_counts
from scuba_ray.protocols import Backbone, Resources
from scuba_ray.registry import SEAMS, resolve
from scuba_ray.stages.caption import decoding
from scuba_ray.stages.concepts import Concepts
from scuba_ray.stages.describe import DescribeByCaptioner, DescribeByModel, describer_name
from scuba_ray.stages.encode import EncodeStimuli
from scuba_ray.stages.encode_captions import EncodeCaptions, caption_space
from scuba_ray.stages.lavca import Lavca
from scuba_ray.stages.nearest_pictures import NearestPictures, pictures_wanted
from scuba_ray.stages.rerank import Rerank
from scuba_ray.stages.score import Score
from scuba_ray.stages.study import Study
from scuba_ray.stages.top_image import TopImage
from scuba_ray.tables import files
from scuba_ray.tables.parts import key_of
from scuba_ray.tables.progress import Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import LAVCA, RERANKED, TOP_IMAGE

SHARDS = 16
"""Shards that one worker searches for nearest pictures."""
FEW = 4096
"""Voxels whose captions a text tower judges in this process, on a CPU: workers would take longer to start."""
READ_HERE = 1_000_000
"""Pictures up to which a bank is searched in this process: workers would take longer to start."""


@dataclass(frozen=True)
class Evidence:
    """Steps on a subject's captions, each a stage completed for one unit."""

    config: RunConfig
    study: Study
    folder: RunFolder
    steps: Steps

    def rerank(self, subject: SubjectConfig, voxels: Result, captions: Result) -> Result:
        """Choose, among all sentences written for a voxel, the one that its own model predicts the largest response to."""
        settings = self.config.rerank
        assert settings is not None, "asked of runs that re-rank"
        stage = Rerank(subject=subject.name, network=self.study.reader, run=self.folder, settings=settings, **self._model)
        inputs = [voxels.fingerprint, captions.fingerprint]
        how: dict[str, Any] = {"rows": voxels.rows, "chunk": settings.chunk, "here": self._few(voxels.rows)}
        return self.steps.complete(stage, key=f"{captions.key}/{RERANKED}", inputs=inputs, **how)

    def nearest(self, projections: Sequence[Result], bank: Bank) -> Result | None:
        """Find the pictures nearest to some voxel of any subject, for captions made from them; None if nothing asks for them."""
        reader, wanted = self.study.reader, pictures_wanted(self.config)
        if not wanted:
            return None
        stage = NearestPictures(
            backbone=reader.name,
            dim=reader.dim,
            keys=tuple(result.key for result in projections),
            pictures=wanted,
            run=self.folder,
            bank=bank.folder,
            resources=self.study.resources,
        )
        inputs = [bank.fingerprint, *(result.fingerprint for result in projections)]
        small, rows = bank.rows <= READ_HERE, bank.shards
        return self.steps.complete(stage, key=reader.name, rows=rows, chunk=SHARDS, inputs=inputs, here=small)

    def describe(self, pictures: Result) -> Result | None:
        """Put the nearest pictures into words, each once: by the captioner, or by a model that sees them."""
        config, reader = self.config, self.study.reader
        if config.lavca is None and (config.score is None or not config.score.top_image):
            return None
        settings = config.lavca.describe if config.lavca is not None else DescribeConfig()
        model = describer_name(settings, config.caption.model)
        common: dict[str, Any] = {"backbone": reader.name, "model": model, "run": self.folder, **self._model}
        stage: DescribeByCaptioner | DescribeByModel
        if settings.model is None:
            # greedy: they are read for their words, and there are more of them than voxels; beams cost several times as much
            plain = config.caption.model_copy(update={"rule": "greedy"})
            stage = DescribeByCaptioner(captioner=make_captioner(plain), decoding=decoding(plain), **common)
        else:
            place = {} if settings.images else {"source": config.bank.source, "images": config.bank.images}
            seen = settings.model_copy(update=place)
            describer = ImageToText(settings)
            stage = DescribeByModel(describer=describer, settings=seen, max_pixels=config.encode.max_pixels, **common)
        key = f"{reader.name}/{model}"
        return self.steps.complete(stage, key=key, rows=pictures.rows, chunk=settings.chunk, inputs=[pictures.fingerprint])

    def from_pictures(
        self, subject: SubjectConfig, voxels: Result, projections: Result, pictures: Result, described: Result | None
    ) -> list[Result]:
        """Captions of a subject's voxels made from their nearest pictures: LaVCa, one per concept, and the nearest one's own."""
        config, reader, key = self.config, self.study.reader, voxels.key
        made = []
        if config.score is not None and config.score.top_image and described is not None:
            top = TopImage(
                subject=subject.name, backbone=reader.name, run=self.folder, descriptions=described.key, resources=Resources()
            )
            inputs = [projections.fingerprint, described.fingerprint]
            how: dict[str, Any] = {"rows": projections.rows, "chunk": config.caption.chunk}
            made.append(self.steps.complete(top, key=f"{key}/{TOP_IMAGE}", inputs=inputs, here=True, **how))
        if config.lavca is not None and described is not None:
            lavca = Lavca(
                subject=subject.name,
                backbone=reader,
                language=make_language_model(config.lavca, self.folder.location),
                descriptions=described.key,
                run=self.folder,
                settings=config.lavca,
                **self._model,
            )
            inputs = [voxels.fingerprint, projections.fingerprint, described.fingerprint]
            here = config.lavca.keywords == "frequency" and self._few(voxels.rows)
            how = {"rows": projections.rows, "chunk": config.lavca.chunk, "here": here}
            made.append(self.steps.complete(lavca, key=f"{key}/{LAVCA}", inputs=inputs, **how))
            if config.lavca.keywords == "endpoint":
                self.steps.note(language=language_counts(self.folder.location))
        if config.concepts is not None:
            concepts = Concepts(
                subject=subject.name,
                backbone=reader,
                captioner=self.study.captioner,
                decoding=decoding(config.caption),
                seed=config.seed,
                run=self.folder,
                settings=config.concepts,
                **self._model,
            )
            inputs = [voxels.fingerprint, projections.fingerprint, pictures.fingerprint]
            how = {"rows": projections.rows, "chunk": config.concepts.chunk}
            made.append(self.steps.complete(concepts, key=f"{key}/concepts", inputs=inputs, **how))
        return made

    def score(self, subject: SubjectConfig, captions: Sequence[Result], voxels: dict[tuple[str, str], Result]) -> list[Result]:
        """Judge captions and controls by responses to held-out images: by the captioned backbone and by every other judge."""
        settings, reader = self.config.score, self.study.reader
        assert settings is not None, "asked of runs that score"
        dataset = self.study.datasets[subject.name]
        if "test" not in dataset.stimuli()["split"].to_pylist():
            self.steps.warn(f"{subject.name} has no test images, so its captions are not scored")
            return []
        results = []
        for judge, network in [(None, reader), *zip(settings.judges, self.study.judges, strict=True)]:
            own = voxels.get((subject.name, network.name)) if judge is None or self._fitted(judge) else None
            images = self._images(subject, judge, network)
            stage = Score(
                subject=subject,
                backbone=reader.name,
                judge=OWN if judge is None else judge.name,
                network=network,
                images=images.key,
                captions=tuple(result.key for result in captions),
                weights=None if own is None else own.key,
                run=self.folder,
                ceiling_floor=self.config.fit.ceiling_floor,
                seed=self.config.seed,
                **self._model,
            )
            made_of = [self._made("responses", subject.name), images, *captions]
            inputs = [self.study.identity[subject.name], *(result.fingerprint for result in made_of)]
            inputs += [] if own is None else [own.fingerprint]
            rows, key = dataset.voxels().num_rows, f"{subject.name}/{reader.name}/{stage.judge}"
            how: dict[str, Any] = {"rows": rows, "chunk": settings.chunk, "here": self._few(rows)}
            results.append(self.steps.complete(stage, key=key, inputs=inputs, **how))
        return results

    def compare(self) -> None:
        """Put methods and controls side by side, once for all subjects that were scored."""
        if any(result.table == "scores" for result in self.steps.results) and "comparison" not in self.config.analyses:
            self.steps.analyse(resolve("analysis", "comparison")(self.config))

    def retire(self) -> None:
        """Delete captions, images and the like that other settings made, or began, and these do not.

        They would stand beside newer ones, or take room for good.
        """
        made = {(result.table, result.key) for result in self.steps.results}
        ours = tuple(f"{subject.name}/" for subject in self.config.subjects)
        tables = ["captions", "scores", "requests", "syntheses", "images", *(f"analyses/{name}" for name in SEAMS["analysis"])]
        for table in tables:
            begun = {key for name in files.names(self.folder.location, table) if (key := key_of(name))}
            for key in sorted({*self.folder.keys(table), *begun}):
                if (table, key) not in made and (table.startswith("analyses/") or key.startswith(ours)):
                    self.steps.remove(table, key)

    def _fitted(self, judge: JudgeConfig) -> bool:
        """Whether the judge is one of the backbones that were encoded and fitted."""
        return any((one.name, one.model) == (judge.name, judge.model) for one in self.config.backbones)

    def _images(self, subject: SubjectConfig, judge: JudgeConfig | None, network: Backbone) -> Result:
        """The test images in a judge's space: embedded before, or now."""
        settings, key = self.config.encode, f"{subject.name}/{network.name}"
        rows, inputs = self.study.datasets[subject.name].stimuli().num_rows, [self.study.identity[subject.name]]
        if judge is None or (judge.by == "image" and self._fitted(judge)):
            return self._made("embeddings", key)
        if judge.by == "caption":
            texts = EncodeCaptions(subject=subject, backbone=network, **self._model)
            key = f"{subject.name}/{caption_space(network.name)}"
            return self.steps.complete(texts, key=key, rows=rows, chunk=settings.chunk, inputs=inputs)
        preparation = Resources(cpus=self.config.engine.cpus_per_decoder)
        pictures = EncodeStimuli(
            subject=subject, backbone=network, settings=settings, preparation=preparation, split="test", **self._model
        )
        return self.steps.complete(pictures, key=f"{key}+test", rows=rows, chunk=settings.chunk, inputs=inputs)

    def _made(self, table: str, key: str) -> Result:
        """What an earlier step of this run made."""
        return next(result for result in self.steps.results if (result.table, result.key) == (table, key))

    def _few(self, voxels: int) -> bool:
        return self.config.device == "cpu" and voxels <= FEW

    @property
    def _model(self) -> dict[str, Any]:
        """What every stage that computes on the configured device takes."""
        return {"resources": self.study.resources, "device": self.config.device}
