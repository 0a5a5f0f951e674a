"""The steps of a run after its captions: other captions for the same voxels, and how well all of them hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scuba_ray.config import RunConfig, SubjectConfig
from scuba_ray.config.scoring import OWN, JudgeConfig
from scuba_ray.protocols import Backbone
from scuba_ray.registry import resolve
from scuba_ray.stages.encode import EncodeStimuli
from scuba_ray.stages.encode_captions import EncodeCaptions, caption_space
from scuba_ray.stages.rerank import RERANKED, Rerank
from scuba_ray.stages.score import Score
from scuba_ray.stages.study import Study
from scuba_ray.tables.progress import Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder


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
        return self.steps.complete(stage, key=f"{captions.key}/{RERANKED}", rows=voxels.rows, chunk=settings.chunk, inputs=inputs)

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
            own = voxels.get((subject.name, network.name)) if judge is None or network.name in self._fitted(judge) else None
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
            inputs = [self.study.identity[subject.name], images.fingerprint, *(result.fingerprint for result in captions)]
            inputs += [] if own is None else [own.fingerprint]
            rows, key = dataset.voxels().num_rows, f"{subject.name}/{reader.name}/{stage.judge}"
            results.append(self.steps.complete(stage, key=key, rows=rows, chunk=settings.chunk, inputs=inputs))
        return results

    def compare(self) -> None:
        """Put methods and controls side by side, once for all subjects that were scored."""
        if any(result.table == "scores" for result in self.steps.results) and "comparison" not in self.config.analyses:
            self.steps.analyse(resolve("analysis", "comparison")(self.config))

    def _fitted(self, judge: JudgeConfig) -> set[str]:
        """The judge's name, if it is one of the backbones that were encoded and fitted."""
        return {one.name for one in self.config.backbones if one.name == judge.name and one.model == judge.model}

    def _images(self, subject: SubjectConfig, judge: JudgeConfig | None, network: Backbone) -> Result:
        """The test images in a judge's space: embedded before, or now."""
        settings, key = self.config.encode, f"{subject.name}/{network.name}"
        rows, inputs = self.study.datasets[subject.name].stimuli().num_rows, [self.study.identity[subject.name]]
        if judge is None or (judge.by == "image" and self._fitted(judge)):
            return next(result for result in self.steps.results if (result.table, result.key) == ("embeddings", key))
        if judge.by == "caption":
            texts = EncodeCaptions(subject=subject, backbone=network, **self._model)
            key = f"{subject.name}/{caption_space(network.name)}"
            return self.steps.complete(texts, key=key, rows=rows, chunk=settings.chunk, inputs=inputs)
        pictures = EncodeStimuli(subject=subject, backbone=network, settings=settings, split="test", **self._model)
        return self.steps.complete(pictures, key=f"{key}+test", rows=rows, chunk=settings.chunk, inputs=inputs)

    @property
    def _model(self) -> dict[str, Any]:
        """What every stage that computes on the configured device takes."""
        return {"resources": self.study.resources, "device": self.config.device}
