"""Which analyses `all` stands for, and what is said of those that it leaves out."""

from __future__ import annotations

import pytest

from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Analysis
from scuba_ray.registry import SEAMS
from scuba_ray.stages.chosen_analyses import choose
from tests.study import TinyStudy


def can(analysis: Analysis) -> None:
    """A run that has whatever is read."""


CONDITIONAL = {"agreement", "backbones", "comparison", "probe", "recovery", "synthesis"}


def test_all_is_what_the_run_can_have_and_says_the_rest(study: TinyStudy) -> None:
    chosen = choose(study.config(analyses="all"), can)
    assert set(chosen.config.analyses) == set(SEAMS["analysis"]) - CONDITIONAL
    assert [one.name for one in chosen.analyses] == list(chosen.config.analyses)
    assert {text.split()[1] for text in chosen.left_out} == CONDITIONAL
    assert "analysis agreement is left out: it compares subjects, and subj01 is the only one" in chosen.left_out


def test_all_has_what_two_subjects_backbones_scores_and_images_allow(study: TinyStudy) -> None:
    settings = study.settings(analyses="all", score={}, synthesize={"diffusion": {"model": "anything"}})
    settings["subjects"] += [{**settings["subjects"][0], "name": "two"}]
    settings["backbones"] += [{**settings["backbones"][0], "name": "other"}]
    everything = TinyStudy.config(study, **settings)
    chosen = choose(everything, can)
    assert set(chosen.config.analyses) == set(SEAMS["analysis"]) - {"recovery"}
    assert len(chosen.left_out) == 1 and "needs a phantom" in chosen.left_out[0]
    unscored = choose(everything, lambda one: "was never scored" if "scores" in one.inputs else None)
    assert "analysis comparison is left out: it was never scored" in unscored.left_out
    assert "comparison" not in unscored.config.analyses


def test_what_is_named_is_demanded_and_comes_first(study: TinyStudy) -> None:
    chosen = choose(study.config(analyses=["person", "all"]), can)
    assert chosen.config.analyses[0] == "person" and chosen.config.analyses.count("person") == 1
    with pytest.raises(ConfigError, match="recovery needs a phantom"):
        choose(study.config(analyses=["all", "recovery"]), can)
    assert choose(study.config(analyses=["backbones"]), can).config.analyses == ("backbones",), "held against the baseline"


def test_a_wrong_setting_is_an_error_also_for_all(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        choose(study.config(analyses="all", embedding_map={"fit_on": "nobody"}), can)
