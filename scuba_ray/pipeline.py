"""A run, as the paper's Methods section has it: prepare, encode, fit, project, caption, synthesize, analyze, report.

Every backbone of the configuration is fitted. The weights that are projected and captioned are those of the one backbone the
captioner was trained for, and the bank is made of its embeddings.
"""

from __future__ import annotations

from scuba_ray.config import RunConfig
from scuba_ray.evidence import Evidence
from scuba_ray.methods import Methods
from scuba_ray.protocols import LOW_LEVEL
from scuba_ray.records import steps_in
from scuba_ray.stages.study import Study, located, open_study
from scuba_ray.synthesis import Synthesis
from scuba_ray.tables.progress import Listener
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder


def run(config: RunConfig, *, listen: Listener | None = None) -> RunFolder:
    """Complete every step of `config` in the folder `config.out`; what is there already is not computed again.

    Parameters
    ----------
    config : RunConfig
    listen : callable, optional
        Told how far each step is.

    Returns
    -------
    RunFolder
        Complete: tables, `run.json` and the report.

    Raises
    ------
    ConfigError
        If settings, paths, models and data do not fit together. Nothing has been computed.
    DataError, WorkerError
        If a step failed: which, what was kept and how to resume. Running again resumes.
    """
    study = open_study(located(config))
    config = study.chosen.config
    folder = RunFolder(config.out)
    with folder.lock():
        folder.claim(study.identity)
        with steps_in(folder, config.engine, {"name": config.name, "config": config.model_dump(mode="json")}, listen) as steps:
            take(config, study, folder, steps)
            steps.close_record()
    return folder


def take(config: RunConfig, study: Study, folder: RunFolder, steps: Steps) -> None:
    """Take all steps, in the paper's order; `steps` completes them, or only looks what there is to complete."""
    method, evidence = Methods(config, study, folder, steps), Evidence(config, study, folder, steps)
    synthesis = Synthesis(config, study, folder, steps)
    method.describe()
    voxels = {}
    for subject in config.subjects:
        if subject.weights is not None:
            voxels[subject.name, study.reader.name] = method.take_over(subject)
            continue
        responses, embeddings = method.prepare(subject), {}
        for backbone in study.spaces:
            embeddings[backbone.name] = method.encode(subject, backbone)
            voxels[subject.name, backbone.name] = method.fit(subject, backbone, embeddings[backbone.name], responses)
        for backbone in study.backbones:
            if LOW_LEVEL in config.fit.bands:
                low = [embeddings[LOW_LEVEL], responses, voxels[subject.name, LOW_LEVEL]]
                method.bands(subject, backbone, LOW_LEVEL, [embeddings[backbone.name], *low])
            if "caption" in config.fit.bands:
                texts = method.encode_captions(subject, backbone)
                method.bands(subject, backbone, "caption", [embeddings[backbone.name], texts, responses])
    bank = method.bank()
    fitted = {subject.name: voxels[subject.name, study.reader.name] for subject in config.subjects}
    # one after the other, while the bank is held
    projections = {subject.name: method.project(subject, fitted[subject.name], bank) for subject in config.subjects}
    pictures = evidence.nearest(list(projections.values()), bank)
    described = None if pictures is None else evidence.describe(pictures)
    captions = {}
    for subject in config.subjects:
        own, projected = fitted[subject.name], projections[subject.name]
        said = [method.caption(subject, projected)]
        if config.rerank is not None:
            said.append(evidence.rerank(subject, own, said[0]))
        if pictures is not None:
            said += evidence.from_pictures(subject, own, projected, pictures, described)
        if config.score is not None and subject.weights is None:
            evidence.score(subject, said, voxels)
        captions[subject.name] = said
    divided = synthesis.divide()
    for subject in config.subjects if config.synthesize is not None else ():
        synthesis.make(subject, fitted[subject.name], captions[subject.name], divided)
    evidence.compare()
    for analysis in synthesis.analyses():
        steps.analyse(analysis)
    evidence.retire()
    method.report()
