"""Every way a configuration can be wrong, and what is then said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scuba_ray.config import RunConfig, backbone_config, load_config, make_config
from scuba_ray.config.settings import apply_override
from scuba_ray.errors import ConfigError


def settings(**changes: Any) -> dict[str, Any]:
    """The least a run needs, with changes."""
    least = {
        "name": "test",
        "out": "runs/test",
        "subjects": [{"name": "subj01", "path": "data"}],
        "backbones": ["phantom:clip"],
        "bank": {"path": "bank"},
        "caption": {"model": "phantom:captioner"},
    }
    return {**least, **changes}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "out of range": ({"project": {"beta": 0.0}}, "project.beta must be > 0, got 0.0; the paper uses 150"),
    "not finite": ({"project": {"beta": float("inf")}}, "project.beta must be a finite number, got inf; the paper uses 150"),
    "not a number": ({"project": {"beta": "large"}}, "project.beta must be a number, got 'large'; the paper uses 150"),
    "not whole": ({"project": {"nearest": 1.5}}, "project.nearest must be a whole number, got 1.5"),
    "too small": ({"seed": -1}, "seed must be >= 0, got -1"),
    "too large": ({"fit": {"ceiling_floor": 2}}, "fit.ceiling_floor must be <= 1, got 2"),
    "unknown key": ({"report": {"titel": 1}}, "report.titel: no such setting; known here: bank, leave_out, stimuli, title"),
    "unknown key in a list": (
        {"subjects": [{"name": "a", "path": "b", "folder": "c"}]},
        "subjects.0.folder: no such setting; known here: dataset, name, options, path, weights",
    ),
    "not a group": ({"project": 3}, "project must be a group of settings (`key: value` lines), got 3"),
    "not a list": ({"analyses": "recovery"}, "analyses must be a list, got 'recovery'"),
    "not text": ({"name": 3}, "name must be text, got 3"),
    "empty text": ({"name": ""}, "name must not be empty, got ''"),
    "empty list": ({"subjects": []}, "subjects must not be empty"),
    "missing key": ({"subjects": [{"name": "a"}]}, "subjects.0: give `path` (a data set), or `weights` fitted elsewhere"),
    "not a choice": ({"engine": {"name": "spark"}}, "engine.name must be 'local' or 'ray', got 'spark'"),
    "not a name": (
        {"subjects": [{"name": "subj 1", "path": "d"}]},
        "subjects.0.name must be letters, digits, '_', '.' and '-' only, got 'subj 1'",
    ),
    "not a device": ({"device": "gpu"}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
    "not registered": (
        {"analyses": ["recovry"]},
        "analyses.0 must be one of recovery, or a path 'module:Class', got 'recovry'",
    ),
    "min over max": ({"engine": {"min_workers": 5}}, "engine: max_workers (2) must be >= min_workers (5)"),
    "initial outside": (
        {"engine": {"initial_workers": 9}},
        "engine: initial_workers (9) must lie in [1, 2]",
    ),
    "reversed range": (
        {"fit": {"alpha_log10": [5, -2]}},
        "fit: alpha_log10 must go from the smaller to the larger exponent, got [5, -2]",
    ),
    "both banks": (
        {"bank": {"path": "a", "images": "b"}},
        "bank: give either `path` (a bank built before) or `images` (pictures to build one from)",
    ),
    "no bank": ({"bank": {}}, "bank: give either `path` (a bank built before) or `images` (pictures to build one from)"),
    "subject twice": (
        {"subjects": [{"name": "a", "path": "b"}, {"name": "a", "path": "c"}]},
        "subjects must have different names, got a more than once",
    ),
    "backbone twice": (
        {"backbones": ["phantom:clip", {"name": "clip", "model": "local-dir:x"}]},
        "backbones must have different names, got clip more than once",
    ),
    "analysis twice": (
        {"analyses": ["recovery", "recovery"]},
        "analyses must have different names, got recovery more than once",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_setting_is_named_with_what_it_must_be(kind: str) -> None:
    changes, message = WRONG[kind]
    with pytest.raises(ConfigError) as caught:
        make_config(settings(**changes))
    # the list of analyses grows; everything else is said to the letter
    got = str(caught.value)
    if kind == "not registered":
        assert got.startswith("analyses.0 must be one of ")
        assert got.endswith(", or a path 'module:Class', got 'recovry'")
        assert "recovery" in got
    else:
        assert got == message


def test_every_problem_is_listed_on_its_own_line() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(settings(seed=-1, project={"beta": 0, "tile": 0}, nmae="x"))
    lines = str(caught.value).splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == ["seed", "project.beta", "project.tile", "nmae"]


BAD_OVERRIDES = {
    "no equals sign": ("project.beta", "--set wants a.b=value, got 'project.beta'"),
    "no name": ("=3", "--set wants a.b=value, got '=3'"),
    "not YAML": (
        "project.beta=[1",
        "--set project.beta: '[1' is not a YAML value: expected ',' or ']', but got '<stream end>' (line 1, column 3)",
    ),
    "beyond a list": ("subjects.3.path=x", "--set subjects.3: got '3', the list has items 0 to 0"),
    "no item number": ("subjects.first.path=x", "--set subjects.first: got 'first', the list has items 0 to 0"),
    "into a value": ("name.first=x", "--set name.first: there is nothing to set inside 'test'"),
}


@pytest.mark.parametrize("kind", BAD_OVERRIDES)
def test_a_bad_override_says_what_is_wrong_with_it(kind: str) -> None:
    override, message = BAD_OVERRIDES[kind]
    with pytest.raises(ConfigError) as caught:
        apply_override(settings(), override)
    assert str(caught.value) == message


def test_overrides_reach_into_groups_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings()))
    config = load_config(file, ["project.beta=25", "subjects.0.path=elsewhere", "engine.name=local", "analyses=[recovery]"])
    assert (config.project.beta, config.subjects[0].path, config.engine.name) == (25.0, "elsewhere", "local")
    assert config.analyses == ("recovery",)


def test_an_override_fills_a_group_left_empty(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings()) + "project:\n")
    assert load_config(file, ["project.beta=25"]).project.beta == 25.0


BAD_FILES = {
    "not YAML": ("name: [1", "is not valid YAML: expected ',' or ']', but got '<stream end>' (line 1, column 9)"),
    "no settings": ("- a\n- b\n", "must hold settings (`key: value` lines), got list"),
    "empty": ("", "must hold settings (`key: value` lines), got NoneType"),
    "key twice": ("name: a\nproject:\n  beta: 1\n  beta: 2\n", "is not valid YAML: 'beta' is given twice (line 4, column 3)"),
    "binary": (b"\xff\xfe\x00", "cannot read the configuration"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named_with_its_problem(kind: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[kind]
    file = tmp_path / "run.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*nowhere\.yaml: .*No such file"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("phantom:clip", "clip"),
        ("open_clip:ViT-B-32-quickgelu/openai", "ViT-B-32-quickgelu-openai"),
        ("open_clip:hf-hub:lab/model", "hf-hub-lab-model"),
        ("sentences:/data/models/all-mpnet/", "all-mpnet"),
        ("local-dir:/models/my clip/", "my-clip"),
        ("my_lab.models:MyBackbone", "MyBackbone"),
    ],
)
def test_a_backbone_written_as_its_model_is_named_after_it(model: str, name: str) -> None:
    config = make_config(settings(backbones=[model]))
    assert (config.backbones[0].name, config.backbones[0].model) == (name, model)
    assert backbone_config(model) == config.backbones[0]


def test_a_config_survives_being_written_and_read() -> None:
    config = make_config(settings(project={"beta": 25}, analyses=["my_lab.analyses:Mine"]))
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("example", sorted((Path(__file__).parents[1] / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_configuration(example: Path) -> None:
    assert load_config(example).analyses
