"""LaVCa in the world of words: the right keywords by each of its ways, and every illness of a language service survived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.models.language_http import language_counts
from scuba_ray.tables.progress import Result
from scuba_ray.tables.schemas import CAPTIONS
from tests.models.service import Illness, Service, content, serving, slow, status, where
from tests.stages.lavca_steps import describe, lavca, nearest, steps_of
from tests.stages.pictured import KEY, write_world

VOXELS = ["dog", "car apple", "boat", "lamp"]


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A run up to its descriptions."""
    bank = write_world(tmp_path, voxels=VOXELS)
    steps = steps_of(tmp_path)
    describe(steps, nearest(steps, bank))
    return tmp_path


def run(folder: Path, settings: dict[str, Any]) -> tuple[Result, pa.Table, list[str]]:
    """The step, resumed if it was there; its captions and the run's warnings."""
    steps = steps_of(folder)
    described = Result("descriptions", "words/captioner", "made", 1)
    done = lavca(steps, described, settings)
    return done, steps.run.read("captions", key=done.key), steps.warnings


def asking(service: Service, **settings: Any) -> dict[str, Any]:
    quick = {"pause": 0.01, "retries": 1, "timeout": 0.5, "concurrency": 2}
    return {"keywords": "endpoint", "endpoint": {"url": service.url, "model": "m", **quick}, "threshold": 0.2, **settings}


def names(table: pa.Table) -> dict[int, set[str]]:
    return {row["voxel_id"]: set(row["nouns"]) for row in table.to_pylist()}


WANTED = {10: {"dog"}, 11: {"car", "apple"}, 12: {"boat"}, 13: {"lamp"}}


def test_frequent_nouns_that_the_weights_want(world: Path) -> None:
    done, table, warnings = run(world, {"threshold": 0.2})
    assert table.schema.equals(CAPTIONS) and not warnings and done.key == f"{KEY}/lavca"
    assert names(table) == WANTED
    by_voxel = {row["voxel_id"]: row for row in table.to_pylist()}
    assert by_voxel[10]["caption"] == "A photo of dog."
    assert by_voxel[11]["caption"] in {"A photo of car and apple.", "A photo of apple and car."}
    for row in table.to_pylist():
        assert (row["method"], row["rank"], row["partition"], row["logprob"], row["share"]) == ("lavca", 0, -1, None, None)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_change_nothing(world: Path, chunk: int) -> None:
    _, whole, _ = run(world, {})
    _, cut, _ = run(world, {"chunk": chunk})
    assert cut.drop(["candidate_scores"]).equals(whole.drop(["candidate_scores"]))


def test_fewer_are_kept_where_fewer_are_wanted(world: Path) -> None:
    _, table, _ = run(world, {"threshold": 0.0, "keep": 2})
    assert {len(nouns) for nouns in names(table).values()} == {2}
    _, table, _ = run(world, {"threshold": 0.9})
    assert {len(nouns) for nouns in names(table).values()} == {1}


def test_a_language_model_finds_keywords_and_composes(world: Path, service: Service) -> None:
    _, table, _ = run(world, asking(service, compose="language"))
    assert names(table) == WANTED
    for row in table.to_pylist():
        assert row["caption"] in {f"nothing but {', '.join(row['nouns'])}.", f"{', '.join(row['nouns'])}."}
        assert len(row["candidates"]) == 2 and row["candidate_scores"] == sorted(row["candidate_scores"], reverse=True)
    assert service.requests == 8
    run(world, asking(service, compose="language", chunk=2))
    assert service.requests == 8, "another cut computes again and asks nothing"
    assert language_counts(str(world))["cached"] == 8


ILLNESSES: dict[str, tuple[Illness, str]] = {
    "slow": (slow(1.0), "no answer within 0.5 s"),
    "429": (status(429), "429"),
    "500": (status(500), "500"),
    "malformed": (content('{"keywords": ["dog"'), "not JSON"),
    "empty": (content('{"keywords": []}'), "is empty"),
    "wrong types": (content('{"keywords": [{"word": "dog"}]}'), "list of texts"),
}


@pytest.mark.parametrize("name", ILLNESSES)
def test_a_voxel_without_an_answer_is_quarantined_and_done_on_the_next_run(world: Path, service: Service, name: str) -> None:
    illness, reason = ILLNESSES[name]
    service.illness = where("boat", illness)  # pictures of boats are among the nearest of voxel 12 alone
    first, table, warnings = run(world, asking(service, chunk=4))
    assert names(table) == {voxel: nouns for voxel, nouns in WANTED.items() if voxel != 12}
    bad = steps_of(world).run.quarantine().to_pylist()
    assert [row["key"] for row in bad] == ["subject=subj01, voxel_id=12"] and reason in bad[0]["reason"]
    assert len(warnings) == 1 and "left to the next run" in warnings[0]
    answered = len(service.answered)
    service.illness = lambda handler, prompt: False
    second, table, warnings = run(world, asking(service, chunk=4))
    assert names(table) == WANTED and not warnings
    assert steps_of(world).run.quarantine().num_rows == 0
    assert len(service.answered) == answered + 1, "voxel 13, of the same chunk, is not asked for again"
    assert first.fingerprint != second.fingerprint


def test_a_service_that_is_not_there_leaves_all_voxels_to_the_next_run(world: Path, service: Service) -> None:
    with serving() as gone:
        settings = asking(gone)
    done, table, warnings = run(world, settings)
    assert (done.rows, len(table)) == (0, 0) and "cannot be reached" in warnings[0]
    bad = steps_of(world).run.quarantine()
    assert len(bad) == 4 and bad["step"].unique().to_pylist() == ["lavca"]
    settings["endpoint"]["url"] = service.url
    done, table, warnings = run(world, settings)
    assert names(table) == WANTED and not warnings, "another address is the same result"


def test_a_silent_composer_costs_its_voxel_alone(world: Path, service: Service) -> None:
    service.illness = where("Keywords: boat", status(500))
    _, table, _ = run(world, asking(service, compose="language"))
    assert 12 not in names(table) and len(table) == 3
    service.illness = lambda handler, prompt: False
    _, table, _ = run(world, asking(service, compose="language"))
    assert names(table) == WANTED
