"""Which pictures are planned: targets, the voxels that stand for them, prompts, seeds, and what is left out and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.core.seeds import image_seed
from scuba_ray.stages import image_cautions
from scuba_ray.stages.requests import NO_CAPTION, NO_NOUN, SPENT, article
from scuba_ray.stages.targets import EMPTY, NO_REGIONS, NOT_FITTED, NOT_SIGNIFICANT, UNKNOWN
from scuba_ray.tables.image_schemas import REQUESTS
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from tests.stages.painted import KEY, no_engine, plan, request, settings, voxel, write_division, write_voxels

GRADIENT = {"targets": ["rois"], "images": 1}


def standing(table: pa.Table, method: str = "brainscuba") -> dict[str, list[int]]:
    """Each target's voxels, in the order of the plan."""
    return {row["target"]: row["voxels"] for row in table.to_pylist() if row["method"] == method}


def prompts(table: pa.Table, target: str, method: str = "brainscuba") -> list[tuple[int, str, str | None]]:
    rows = [row for row in table.to_pylist() if (row["target"], row["method"]) == (target, method)]
    return [(row["sample"], row["prompt"], row["noun"]) for row in rows]


def test_only_fitted_and_significant_voxels_stand_for_a_region(tmp_path: Path) -> None:
    voxels = [
        voxel("dog", rois=["faces", "places"]),
        voxel("dog", rois=["faces"], status="zero"),
        voxel("dog", rois=["faces"], q=0.05),
        voxel("dog", rois=["faces"], q=None),
        voxel("car", rois=["bad"], status="bad"),
        voxel("car", rois=["weak"], q=0.3),
        voxel("car", rois=[]),
    ]
    table, left_out = plan(tmp_path / "one", voxels, targets=["rois"])
    assert table.schema.equals(REQUESTS)
    assert standing(table) == {"faces": [10], "places": [10]}
    assert left_out == {"target=bad": NOT_FITTED, "target=weak": NOT_SIGNIFICANT}
    table, left_out = plan(tmp_path / "two", voxels, targets=["rois"], significant=False)
    assert standing(table) == {"faces": [10, 12, 13], "places": [10], "weak": [15]}
    table, left_out = plan(tmp_path / "three", voxels, targets=["rois"], rois=["places", "nowhere"])
    assert standing(table) == {"places": [10]} and left_out == {"target=nowhere": UNKNOWN}


def test_a_region_that_a_voxel_names_twice_has_it_once(tmp_path: Path) -> None:
    table, _ = plan(tmp_path, [voxel("dog", rois=["a", "b", "a"]), voxel("dog", rois=["a"])], targets=["rois"])
    assert standing(table) == {"a": [10, 11], "b": [10]}


def test_where_q_is_not_known_every_fitted_voxel_stands_and_it_is_said(tmp_path: Path) -> None:
    voxels = [voxel("dog", q=None), voxel("dog", q=None, r2=None, r2_normalised=None), voxel("dog", status="bad", q=None)]
    table, left_out = plan(tmp_path, voxels, targets=["rois"])
    assert standing(table) == {"all": [10, 11]} and not left_out
    run = RunFolder(str(tmp_path))
    assert list(image_cautions.of_requests(run, KEY, significant=True)) == [
        f"synthesize {KEY}: q is not known, so every fitted voxel stands for its targets"
    ]
    assert not list(image_cautions.of_requests(run, KEY, significant=False))


def test_a_region_takes_the_nouns_that_drive_it_most_in_turn(tmp_path: Path) -> None:
    said = ["a dog and a car.", "a dog and a car.", "a dog.", "a boat.", "an apple."]
    for liked in ("car", "boat"):
        voxels = [voxel(liked, caption=text) for text in said]
        table, _ = plan(tmp_path / liked, voxels, targets=["rois"], images=2, text={"nouns": 1})
        assert {noun for _, _, noun in prompts(table, "all")} == {liked}, "its weights point at this word"
        table, _ = plan(tmp_path / f"{liked}-two", voxels, targets=["rois"], images=2, text={"nouns": 1, "considered": 1})
        assert {noun for _, _, noun in prompts(table, "all")} == {"dog"}, "the most frequent one is all that is considered"
    with pytest.raises(ValueError, match=r"considered \(2\) must be >= nouns \(3\)"):
        plan(tmp_path / "three", voxels, text={"nouns": 3, "considered": 2})


def test_a_region_can_take_its_most_frequent_nouns(tmp_path: Path) -> None:
    said = ["an apple and a dog.", "a dog and an apple.", "a dog.", "a car and a boat.", "very slowly."]
    voxels = [voxel("dog", caption=text) for text in said]
    table, _ = plan(tmp_path / "one", voxels, targets=["rois"], images=4, text={"nouns": 3, "choose": "frequency"})
    photo = "A photo of"
    wanted = [(f"{photo} a dog", "dog"), (f"{photo} an apple", "apple"), (f"{photo} a boat", "boat")]
    assert prompts(table, "all") == [(i, *wanted[i % 3]) for i in range(4)]
    table, _ = plan(
        tmp_path / "two",
        voxels,
        targets=["rois"],
        text={"nouns": 2, "choose": "frequency", "template": "{noun}, like {a} {noun}"},
    )
    assert [prompt for _, prompt, _ in prompts(table, "all")] == ["dog, like a dog", "apple, like an apple"]


def test_single_voxels_say_their_caption(tmp_path: Path) -> None:
    voxels = [
        voxel("dog", caption="A dog sits. It waits. "),
        voxel("dog", caption="  ."),
        voxel("dog", caption=None),
        voxel("dog", q=0.9),
        voxel("car", caption="a car."),
    ]
    table, left_out = plan(tmp_path, voxels, targets=["voxels"], voxels=[14, 10, 11, 12, 13])
    assert list(standing(table)) == ["voxel 14", "voxel 10"]
    assert prompts(table, "voxel 10") == [(0, "A dog sits. It waits", None), (1, "A dog sits. It waits", None)]
    assert left_out == {
        "target=voxel 11, method=brainscuba": NO_CAPTION,
        "target=voxel 12, method=brainscuba": NO_CAPTION,
        "target=voxel 13": NOT_SIGNIFICANT,
    }


def test_the_best_voxels_of_each_region_in_turn(tmp_path: Path) -> None:
    voxels = [
        voxel("dog", rois=["b"], r2_normalised=0.9),
        voxel("dog", rois=["a"], r2_normalised=0.1),
        voxel("dog", rois=["a"], r2_normalised=None, r2=0.3),
        voxel("dog", rois=["a", "b"], r2_normalised=0.3),
        voxel("dog", rois=["a"], r2_normalised=0.8, q=0.5),
        voxel("dog", rois=["b"], r2_normalised=None, r2=None),
        voxel("dog", rois=[], r2_normalised=1.0),
    ]
    for count, wanted in ((3, [12, 10, 13]), (99, [12, 10, 13, 11, 15]), (1, [12])):
        table, left_out = plan(tmp_path / str(count), voxels, targets=["voxels"], voxels=count)
        assert list(standing(table)) == [f"voxel {one}" for one in wanted] and not left_out
    table, _ = plan(tmp_path / "rois", voxels, targets=["voxels"], voxels=2, rois=["b"])
    assert list(standing(table)) == ["voxel 10", "voxel 13"]
    table, _ = plan(tmp_path / "none", [{**one, "rois": []} for one in voxels], targets=["voxels"], voxels=2)
    assert list(standing(table)) == ["voxel 16", "voxel 10"], "a subject without regions is one region"


def test_a_query_stands_for_the_voxels_that_answer_most(tmp_path: Path) -> None:
    voxels = [voxel(words) for words in ("car", "dog", "dog car", "boat", "dog")]
    voxels.append(voxel("dog", q=0.9))
    table, _ = plan(tmp_path, voxels, targets=["query"], queries=["dog", "a car"], reach=2)
    assert standing(table) == {"dog": [11, 14], "a car": [10, 12]}
    assert {row["kind"] for row in table.to_pylist()} == {"query"}
    assert prompts(table, "dog") == [(0, "A photo of a dog", "dog"), (1, "A photo of a dog", "dog")]


def test_parts_stand_for_the_voxels_of_the_division(tmp_path: Path) -> None:
    said = "a dog and a car and a boat."
    voxels = [voxel("dog car", caption=said), voxel("dog car", caption=said), voxel("dog", q=0.9), voxel("boat", caption=said)]
    two = [([11, 10, 12], ["dog", "lamp"]), ([13], ["car"])]
    write_division(tmp_path, {"all": two, "one": [([10], ["dog"])], "none": [], "gone": [([], []), ([12], [])]}, "too few")
    how: dict[str, Any] = {"targets": ["rois", "voxels", "parts"], "voxels": 1, "images": 4, "part_images": 3}
    table, left_out = plan(tmp_path, voxels, text={"nouns": 2}, gradient={"targets": ["parts"], "images": 1}, **how)
    assert standing(table) == {"all": [10, 11, 13], "voxel 10": [10], "all part 1": [10, 11], "all part 2": [13]}
    assert standing(table, "braindive") == {"all part 1": [10, 11], "all part 2": [13]}
    assert {row["kind"] for row in table.to_pylist() if "part" in row["target"]} == {"part"}
    assert [noun for _, _, noun in prompts(table, "all part 1")] == ["dog", "car", "dog"], "car drives it, and dog is its own"
    assert [noun for _, _, noun in prompts(table, "all part 2")] == ["car", "boat", "car"], "boat drives it, and car is its own"
    reasons = {"one": "too few", "none": "too few"}
    assert left_out == {
        **{f"target=parts of {roi}": reason for roi, reason in reasons.items()},
        "target=gone part 1": EMPTY,
        "target=gone part 2": NOT_SIGNIFICANT,
    }
    table, left_out = plan(tmp_path, voxels, targets=["parts"], parts=["all", "nowhere"], budget=3)
    assert standing(table) == {"all part 1": [10, 11]}
    assert left_out == {"target=all part 2, method=brainscuba": SPENT, "target=parts of nowhere": UNKNOWN}


def test_methods_lie_together_and_the_gradient_has_the_null_prompt(tmp_path: Path) -> None:
    voxels = [voxel("dog", rois=["a"], lavca="a car."), voxel("boat", rois=["b"], lavca=None)]
    text = {"captions": ["lavca", "brainscuba"]}
    table, left_out = plan(tmp_path, voxels, text=text, gradient=GRADIENT, voxels=1)
    assert [(row["method"], row["target"], row["sample"]) for row in table.to_pylist()] == [
        *(("lavca", target, sample) for target in ("a", "voxel 10") for sample in (0, 1)),
        *(("brainscuba", target, sample) for target in ("a", "b", "voxel 10") for sample in (0, 1)),
        *(("braindive", target, 0) for target in ("a", "b")),
    ]
    assert left_out == {"target=b, method=lavca": NO_CAPTION}
    assert prompts(table, "voxel 10", "lavca")[0][1] == "a car"
    assert prompts(table, "b", "braindive") == [(0, "", None)]
    for row in table.to_pylist():
        assert row["seed"] == image_seed(0, "subj01", row["target"], row["method"], row["sample"])


def test_captions_without_nouns(tmp_path: Path) -> None:
    table, left_out = plan(tmp_path, [voxel("dog", caption="very slowly.")], targets=["rois"], gradient=GRADIENT)
    assert standing(table) == {} and standing(table, "braindive") == {"all": [10]}
    assert left_out == {"target=all, method=brainscuba": NO_NOUN}


@pytest.mark.parametrize(("budget", "groups"), [(7, 4), (6, 4), (5, 3), (3, 2), (2, 1), (1, 0)])
def test_the_budget_is_spent_in_order_on_whole_targets(tmp_path: Path, budget: int, groups: int) -> None:
    voxels = [voxel("dog", rois=["a"]), voxel("boat", rois=["b"])]
    table, left_out = plan(tmp_path, voxels, budget=budget, gradient=GRADIENT, voxels=1, targets=["rois", "voxels"])
    order = [("a", "brainscuba"), ("a", "braindive"), ("b", "brainscuba"), ("b", "braindive"), ("voxel 10", "brainscuba")]
    made = {(row["target"], row["method"]) for row in table.to_pylist()}
    assert made == set(order[:groups])
    assert left_out == {f"target={target}, method={method}": SPENT for target, method in order[groups:]}
    (said, *more) = image_cautions.of_requests(RunFolder(str(tmp_path)), KEY, significant=True)
    assert SPENT in said and f"target={order[groups][0]}" in said
    assert bool(more) == (groups == 0) and all("nothing to make images of" in one for one in more)


@pytest.mark.parametrize(
    ("voxels", "changes", "reason"),
    [
        ([voxel("dog", status="bad")], {}, NOT_FITTED),
        ([voxel("dog", q=0.9)], {}, NOT_SIGNIFICANT),
        ([voxel("dog", rois=[])], {"targets": ["rois"]}, NO_REGIONS),
        ([voxel("dog")], {"targets": ["voxels"], "voxels": 0}, None),
        ([voxel("dog", status="bad")], {"targets": ["query"], "queries": ["dog"]}, NOT_FITTED),
    ],
)
def test_nothing_to_make(tmp_path: Path, voxels: list[Any], changes: dict[str, Any], reason: str | None) -> None:
    table, left_out = plan(tmp_path, voxels, **changes)
    assert table.num_rows == 0 and table.schema.equals(REQUESTS)
    assert set(left_out.values()) == ({reason} if reason else set())
    *_, last = image_cautions.of_requests(RunFolder(str(tmp_path)), KEY, significant=True)
    assert "nothing to make images of" in last


def test_a_plan_is_made_once_and_changes_with_what_it_depends_on(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    write_voxels(run, [voxel("dog")])
    first = request(run, settings(), Steps(run, no_engine, about={}))
    for same in ({"chunk": 3}, {"diffusion": {"model": "paint", "steps": 3}}, {"judge": "other"}, {"text": {"guidance": 1.0}}):
        assert request(run, settings(**same), Steps(run, no_engine, about={})) == first
    for other in ({"images": 3}, {"budget": 9}, {"voxels": [10]}, {"text": {"nouns": 1}}, {"gradient": GRADIENT}):
        assert request(run, settings(**other), Steps(run, no_engine, about={})).fingerprint != first.fingerprint
    assert request(run, settings(), Steps(run, no_engine, about={}), seed=1).fingerprint != first.fingerprint


def test_articles() -> None:
    wanted = {
        "an": "apple egg igloo orange umbrella uncle hour heir oven onion",
        "a": "dog unicorn user utensil euro one yacht hat",
    }
    assert {
        which: " ".join(noun for noun in nouns.split() if article(noun) == which) for which, nouns in wanted.items()
    } == wanted
