"""The steps of a run that make pictures: what to make, the pictures of each method, and what their judges say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import DiffusionConfig, RunConfig, SubjectConfig, SynthesizeConfig
from scuba_ray.protocols import Analysis
from scuba_ray.stages import image_cautions
from scuba_ray.stages.chosen_analyses import said_left_out
from scuba_ray.stages.divisions import CLUSTERS
from scuba_ray.stages.judge_images import JudgeImages, targets_of
from scuba_ray.stages.requests import Requests
from scuba_ray.stages.study import Study
from scuba_ray.stages.synthesize import Synthesize, asked
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.planned import PlannedSteps
from scuba_ray.tables.progress import Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import BRAINDIVE, METHOD

JUDGED = 8
"""Targets per part of the table `images`."""
FEW = 1000
"""Pictures that are judged in this process, on a CPU: workers would take longer to start."""

DRAWN_HERE = 500
"""Sampling steps of all pictures up to which the phantom's own model, a small one, draws them in this process on a CPU: a few
seconds, where workers take ten to start."""


@dataclass(frozen=True)
class Synthesis:
    """Pictures of a subject's regions and voxels, each step a stage completed for one unit."""

    config: RunConfig
    study: Study
    folder: RunFolder
    steps: Steps

    def divide(self) -> Result | None:
        """Complete the analysis that divides regions, before the others, if pictures of their parts are asked for."""
        if self.config.synthesize is None or "parts" not in self.config.synthesize.targets:
            return None
        return self.steps.analyse(next(analysis for analysis in self.study.chosen.analyses if analysis.name == CLUSTERS))

    def make(self, subject: SubjectConfig, voxels: Result, captions: Sequence[Result], divided: Result | None) -> Result | None:
        """Make and judge all pictures of a subject; None if there is nothing to make pictures of."""
        planned = self._plan(subject, voxels, captions, divided)
        if not planned.rows:
            return None
        if isinstance(self.steps, PlannedSteps) and not planned.there:
            settings, budget = self._settings, self._settings.budget
            self.steps.foresee("synthesize", "syntheses", voxels.key, rows=budget, chunk=settings.chunk, until=planned)
            return self.steps.foresee("judge", "images", voxels.key, rows=budget, chunk=JUDGED, until=planned)
        requests = self.folder.read("requests", key=planned.key)
        units = [(method, parts) for parts in (False, True) for method in pc.unique(requests["method"]).to_pylist()]
        wanted = {unit: asked(requests, unit[0], parts=unit[1]) for unit in units}
        made = [self._pictures(subject, voxels, *unit, rows) for unit, rows in wanted.items() if len(rows)]
        return self._judge(subject, voxels, planned, made)

    def analyses(self) -> Iterator[Analysis]:
        """The run's analyses that are still to be completed, without those of images in a run that had nothing to make images of:
        that is no fault of theirs."""
        self.steps.warn(*self.study.chosen.left_out)
        made = any(result.table == "images" for result in self.steps.results)
        done = {result.table for result in self.steps.results}
        for analysis in self.study.chosen.analyses:
            if f"analyses/{analysis.name}" in done:
                continue
            if made or "images" not in analysis.inputs or self.config.synthesize is None:
                yield analysis
            else:
                self.steps.warn(said_left_out(analysis.name, "no images were made"))

    def _plan(self, subject: SubjectConfig, voxels: Result, captions: Sequence[Result], divided: Result | None) -> Result:
        """Choose targets, the voxels that stand for them, prompts and seeds."""
        settings, methods = self._settings, [method for method in self.study.synthesizers if method != BRAINDIVE]
        keys = {method: voxels.key if method == METHOD else f"{voxels.key}/{method}" for method in methods}
        stage = Requests(
            subject=subject.name,
            network=self.study.reader,
            captions=keys,
            run=self.folder,
            settings=settings,
            seed=self.config.seed,
            resources=self.study.resources,
        )
        inputs = [voxels.fingerprint, *(result.fingerprint for result in captions if result.key in keys.values())]
        inputs += [] if divided is None else [divided.fingerprint]
        how: dict[str, Any] = {"rows": voxels.rows, "chunk": voxels.rows, "here": True, "may_be_empty": True}
        planned = self.steps.complete(stage, key=voxels.key, inputs=inputs, **how)
        self.steps.caution(image_cautions.of_requests, self.folder, voxels.key, significant=settings.significant)
        return planned

    def _pictures(self, subject: SubjectConfig, voxels: Result, method: str, parts: bool, mine: pa.Table) -> Result:
        """Make the planned pictures of one method: of parts of regions, or all others.

        They are named by their own rows of the plan: another route, or targets that change no row of these, leave them.
        """
        settings = self._settings
        inputs = [fingerprint(mine.drop(["voxels"]).to_pydict())]
        if method == BRAINDIVE:
            voxels_of = dict(zip(mine["target"].to_pylist(), mine["voxels"].to_pylist(), strict=True))
            inputs += [fingerprint(voxels_of), voxels.fingerprint]
        stage = Synthesize(
            subject=subject.name,
            backbone=self.study.reader.name,
            method=method,
            parts=parts,
            synthesizer=self.study.synthesizers[method],
            run=self.folder,
            **self._model,
        )
        key, rows = f"{voxels.key}/{method}{'/parts' if parts else ''}", mine.num_rows
        model = self._diffusion(method)
        here = self.config.device == "cpu" and model.model.startswith("phantom:") and rows * model.steps <= DRAWN_HERE
        made = self.steps.complete(stage, key=key, rows=rows, chunk=settings.chunk, inputs=inputs, here=here)
        self.steps.caution(image_cautions.of_syntheses, self.folder, key, rows, model)
        return made

    def _judge(self, subject: SubjectConfig, voxels: Result, planned: Result, made: Sequence[Result]) -> Result:
        """Have the pictures judged by the captioned backbone and by an independent one, beside the stimuli that drove most."""
        judge = next((one for one in self.study.backbones if one.name == self._settings.judge), None)
        stage = JudgeImages(
            subject=subject,
            backbone=self.study.reader.name,
            network=self.study.reader,
            judge=judge,
            syntheses=tuple(result.key for result in made),
            run=self.folder,
            settings=self._settings,
            **self._model,
        )
        units = {subject.name, *(f"{subject.name}/{one.name}" for one in (self.study.reader, judge) if one is not None)}
        tables = {"responses", "voxels", "embeddings"}
        read = [result for result in self.steps.results if result.table in tables and result.key in units]
        inputs = [self.study.identity[subject.name], *(result.fingerprint for result in (planned, *made, *read))]
        rows = len(targets_of(self.folder, voxels.key))
        here = self.config.device == "cpu" and planned.rows <= FEW
        return self.steps.complete(stage, key=voxels.key, rows=rows, chunk=JUDGED, inputs=inputs, here=here)

    @property
    def _settings(self) -> SynthesizeConfig:
        assert self.config.synthesize is not None, "asked of runs that make images"
        return self.config.synthesize

    def _diffusion(self, method: str) -> DiffusionConfig:
        route = self._settings.gradient if method == BRAINDIVE else self._settings.text
        return (route and route.diffusion) or self._settings.diffusion

    @property
    def _model(self) -> dict[str, Any]:
        """What every stage that computes on the configured device takes."""
        return {"resources": self.study.resources, "device": self.config.device}
