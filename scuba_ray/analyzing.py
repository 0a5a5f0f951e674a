"""Analyses of a run that is complete: made from its tables, with their figures and the page, and nothing else computed.

Data sets and bank need not be there any more, unless an analysis opens them itself: results are known by what `run.json` says.
Fingerprints are those that `scuba run` gives, so a run with the same settings finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scuba_ray.config import RunConfig, make_config
from scuba_ray.config.analyses import EVERY
from scuba_ray.config.settings import apply_override
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.methods import report_inputs
from scuba_ray.protocols import Analysis
from scuba_ray.records import steps_in
from scuba_ray.registry import SEAMS, resolve
from scuba_ray.report.explorer import write_report
from scuba_ray.stages.chosen_analyses import Chosen, choose, said_left_out
from scuba_ray.stages.divisions import CLUSTERS
from scuba_ray.stages.nearest_pictures import pictures_wanted
from scuba_ray.stages.study import located
from scuba_ray.tables.naming import analysis_made_of
from scuba_ray.tables.progress import Result
from scuba_ray.tables.record import BEGUN
from scuba_ray.tables.store import RunFolder

CHANGEABLE = ("beyond_nouns", "clusters", "embedding_map", "nouns", "person", "support", "report")
"""Groups of settings that nothing but analyses and the page depend on."""
ANALYZING = "analyzing"
"""In `run.json` of a run that was complete: a call is at work, or was stopped. Until all analyses are made the
settings are those of before."""
_OF_A_CALL = ("warnings", BEGUN, "steps", "complete", "run_id", ANALYZING)
"""In `run.json`: what every call says anew."""


def analyze(folder: RunFolder, config: RunConfig, names: Sequence[str], settings: Iterable[str] = ()) -> str:
    """Complete analyses of a finished run and those it has, which may depend on the same settings; write figures and page again.

    A call that fails or is stopped can be repeated; until all analyses are made, `run.json` has the settings of before.

    Parameters
    ----------
    folder, config
        The run, with the configuration it was made with.
    names : sequence of str
        Analyses; none, or `all`, is every one that this run can have.
    settings : iterable of str
        Overrides `a.b=c` of `CHANGEABLE` groups.

    Returns
    -------
    str
        Location of the page.

    Raises
    ------
    ConfigError
        If a name or setting is wrong, a setting is of another step, or an analysis reads what the run does not have.
    DataError
        If the run is not complete.
    """
    with folder.lock():
        record = folder.read_run_json()
        if not (record.get("complete") or record.get(ANALYZING)):
            raise DataError(f"{folder.location} is not complete, so there is nothing to analyze yet: `scuba run` resumes it")
        made = _results(folder, record)
        chosen = _chosen(config, _changed(config, settings), names, made, record["warnings"])
        kept = {name: value for name, value in record.items() if name not in _OF_A_CALL}
        with steps_in(folder, config.engine, {**kept, ANALYZING: True}, None) as steps:
            mine = {f"analyses/{analysis.name}" for analysis in chosen.analyses}
            steps.results += [result for result in made if result.table not in mine]
            answered = tuple(said_left_out(name) for name in SEAMS["analysis"] if f"analyses/{name}" in mine)
            said = [text for text in record["warnings"] if not text.startswith(answered) and text not in chosen.left_out]
            steps.warn(*said, *chosen.left_out)
            for analysis in chosen.analyses:
                steps.analyse(analysis)
            steps.note(config=chosen.config.model_dump(mode="json"))
            steps.record.save()  # figures read settings there
            page = write_report(folder, chosen.config)
            steps.once("report", report_inputs(chosen.config), lambda: page)
            del steps.record.about[ANALYZING]
            steps.close_record(with_earlier=True)
    return page


def _results(folder: RunFolder, record: Mapping[str, Any]) -> list[Result]:
    """What the run made and still has, in its order."""
    units = [(name.partition(" ")[2], step) for name, step in record["steps"].items() if "table" in step]
    there = {table: folder.keys(table) for table in {step["table"] for _, step in units}}
    return [
        Result(step["table"], key, step["result"], step["rows"], step["chunks"])
        for key, step in units
        if key in there[step["table"]]
    ]


def _changed(config: RunConfig, settings: Iterable[str]) -> RunConfig:
    """The configuration with other settings of analyses."""
    values = config.model_dump(mode="json")
    for setting in settings:
        apply_override(values, setting)
    changed = located(make_config(values))
    others = [name for name in RunConfig.model_fields if getattr(changed, name) != getattr(config, name)]
    for name in (name for name in others if name not in CHANGEABLE):
        raise ConfigError(
            f"--set {name}: `scuba analyze` computes analyses alone and changes the settings {', '.join(CHANGEABLE)}; "
            "`scuba run` changes others"
        )
    return changed


def _chosen(
    config: RunConfig, changed: RunConfig, names: Sequence[str], made: Sequence[Result], warnings: Sequence[str]
) -> Chosen:
    """The analyses that the run has, and those asked for."""
    tables = {result.table for result in made}
    pictures = pictures_wanted(config)

    def lacks(analysis: Analysis) -> str | None:
        absent = [table for table in analysis.inputs if table not in tables]
        if absent:
            return f"reads the table {absent[0]}, which this run does not have; `scuba run` makes what it needs"
        wanted = pictures_wanted(changed.model_copy(update={"lavca": None, "concepts": None, "analyses": (analysis.name,)}))
        if wanted > pictures:
            return f"looks at {wanted} nearest pictures of each voxel, and this run has {pictures}; `scuba run` finds more"
        return None

    said = {name: said_left_out(resolve("analysis", name).name) for name in config.analyses}
    there = [name for name in config.analyses if not any(text.startswith(said[name]) for text in warnings)]
    asked = list(dict.fromkeys([*there, *(names or [EVERY])]))
    chosen = choose(make_config({**changed.model_dump(mode="json"), "analyses": asked}), lacks)
    for analysis in chosen.analyses:
        if why := lacks(analysis) or _pictured(config, analysis, made):
            raise ConfigError(f"analysis {analysis.name} {why}")
    if (wanted := pictures_wanted(chosen.config)) != pictures:
        raise ConfigError(
            f"a run with these settings finds {wanted} nearest pictures of each voxel, and this one has {pictures}; `scuba run` "
            "makes both anew"
        )
    return chosen


def _pictured(config: RunConfig, analysis: Analysis, made: Sequence[Result]) -> str | None:
    """Why an analysis may not change: the run's images of parts of regions are of the parts that it told."""
    now = [result.fingerprint for result in made if result.table == f"analyses/{analysis.name}"]
    depends = analysis.name == CLUSTERS and config.synthesize is not None and "parts" in config.synthesize.targets
    if not depends or now == [analysis_made_of(analysis, made)]:
        return None
    return "would come out anew, and this run has images of the parts that it told; `scuba run` makes both"
