"""Captions with evidence in a whole run: re-ranked captions, scores by two judges, controls, and what `--compare` prints."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import spearmanr

from scuba_ray.config import RunConfig, make_config
from scuba_ray.datasets import make_dataset
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from scuba_ray.pipeline import run
from scuba_ray.report.compare import WIDTH, comparison_table, for_people
from scuba_ray.report.render import render
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder
from tests.preparing import written_out
from tests.study import OK, TinyStudy, write_backbone


@pytest.fixture(scope="module")
def config(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    other = write_backbone(tmp_path_factory.mktemp("judge"), seed=5)
    settings = study.settings(out=str(tmp_path_factory.mktemp("evidence") / "run"))
    judges = {"judges": [{"name": "other", "model": f"local-dir:{other}"}]}
    return make_config(
        {
            **settings,
            "rerank": {},
            "score": judges,
            "lavca": {"pictures": 8},
            "concepts": {"pictures": 8},
            "analyses": ["support"],
        }
    )


@pytest.fixture(scope="module")
def finished(config: RunConfig) -> RunFolder:
    return run(config)


def rows(table: pa.Table, **values: object) -> pa.Table:
    for name, value in values.items():
        table = table.filter(pc.equal(table[name], value))
    return table


@pytest.mark.parametrize("judge", ["own", "other"])
def test_a_score_is_the_rank_correlation_of_similarity_and_response(config: RunConfig, finished: RunFolder, judge: str) -> None:
    model = config.backbones[0] if judge == "own" else config.score.judges[0]  # type: ignore[union-attr]
    network = make_backbone(model).load("cpu")
    space = "tiny" if judge == "own" else "other+test"
    embeddings = rows(finished.read("embeddings", key=f"subj01/{space}"), split="test")
    dataset = make_dataset(config.subjects[0])
    place = pc.index_in(embeddings["stimulus_id"], value_set=dataset.stimuli()["stimulus_id"].combine_chunks()).to_numpy()
    Y_SV = written_out(dataset)
    ids = dataset.voxels()["voxel_id"].to_pylist()
    scores = rows(finished.read("scores"), judge=judge)
    assert scores.num_rows == finished.read("captions").num_rows + 3 * OK, "every caption, and three controls for each voxel"
    assert set(scores["images"].to_pylist()) == {15}
    image_SD = matrix(embeddings["embedding"]).astype(np.float32)
    image_SD /= np.linalg.norm(image_SD, axis=1, keepdims=True)
    for row in scores.to_pylist()[::7]:
        text_D = network.embed_texts([row["caption"]])[0].numpy()
        response_S = Y_SV[place, ids.index(row["voxel_id"])]
        expected = spearmanr(image_SD @ text_D, response_S).statistic
        assert row["heldout_r"] == pytest.approx(expected, abs=0.02), "embeddings are stored in half precision"
    assert (scores["drive_percentile"].null_count == 0) == (judge == "own"), "drives need weights in the judge's space"


def test_the_reranked_caption_has_the_largest_predicted_response(config: RunConfig, finished: RunFolder) -> None:
    captions, voxels = finished.read("captions"), finished.read("voxels")
    network = make_backbone(config.backbones[0]).load("cpu")
    weight_of = dict(zip(voxels["voxel_id"].to_pylist(), voxels["weight"].to_pylist(), strict=True))
    reranked = rows(captions, method="brainscuba-rerank").to_pylist()
    assert len(reranked) == 10 and {(row["partition"], row["rank"]) for row in reranked} == {(-1, 0)}
    for row in reranked:
        mine = rows(captions, voxel_id=row["voxel_id"], method="brainscuba", rank=0).to_pylist()
        candidates = sorted({text for one in mine for text in one["candidates"]})
        assert sorted(row["candidates"]) == candidates and len(candidates) > 1
        text_CD = torch_unit(network.embed_texts(candidates).numpy())
        drive_C = text_CD @ np.array(weight_of[row["voxel_id"]])
        assert row["candidate_scores"][0] == pytest.approx(drive_C.max(), rel=1e-4)
        assert row["caption"] == row["candidates"][0] and sorted(row["candidate_scores"], reverse=True) == row["candidate_scores"]
    plain = rows(captions, method="brainscuba", partition=-1, rank=0)
    assert plain.num_rows == 10, "the plain captions stay"
    assert all(row["caption"] == row["candidates"][0] for row in plain.to_pylist())


def torch_unit(rows_ND: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return normalised


def test_running_again_computes_nothing(config: RunConfig, finished: RunFolder) -> None:
    again = run(config)
    computed = {name: step["computed_chunks"] for name, step in again.read_run_json()["steps"].items() if "chunks" in step}
    assert set(computed.values()) == {0}
    assert any(name.startswith("score ") for name in computed) and any(name.startswith("rerank ") for name in computed)


def test_a_caption_judge_needs_captions(study: TinyStudy) -> None:
    backbone = str(study.folder / "backbone")
    judges = {"judges": [{"name": "words", "model": f"local-dir:{backbone}", "by": "caption"}]}
    with pytest.raises(ConfigError, match="judge words reads captions, but the stimuli of subj01 have none"):
        run(make_config({**study.settings(), "score": judges}))
    with pytest.raises(ConfigError, match="a sentence encoder reads no pictures: set `by: caption`"):
        make_config({**study.settings(), "score": {"judges": [{"name": "x", "model": "sentences:y"}]}})


def test_methods_stand_side_by_side(finished: RunFolder) -> None:
    table = comparison_table(finished)
    assert table["method"].to_pylist().count("brainscuba") == 2, "a row for each judge"
    shown = render(for_people(table), width=WIDTH)
    assert "- within-ROI shuffled" in shown and "brainscuba-rerank" in shown
    (plain,) = rows(table, judge="own", method="brainscuba").to_pylist()
    assert plain["low_minus_most_frequent"] <= plain["minus_most_frequent"] <= plain["high_minus_most_frequent"]
    with pytest.raises(ConfigError, match="no scored voxel of this run is in ROI 'nowhere'; regions: all voxels, faces"):
        comparison_table(finished, roi="nowhere")


def test_a_run_without_scores_has_nothing_to_compare(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="holds no scores of captions"):
        comparison_table(RunFolder(str(study.folder / "nothing")))


def test_captions_made_from_nearest_pictures_are_in_the_same_tables(finished: RunFolder) -> None:
    captions, pictures = finished.read("captions"), finished.read("nearest_pictures")
    described = finished.read("descriptions")
    assert sorted(described["image_id"].to_pylist()) == sorted(pictures["image_id"].to_pylist())
    for method in ("lavca", "top-image"):
        assert rows(captions, method=method, partition=-1, rank=0).num_rows == OK, method
    said = dict(zip(described["image_id"].to_pylist(), described["caption"].to_pylist(), strict=True))
    nearest = rows(finished.read("projections"), partition=-1)
    first = {v: ids[0] for v, ids in zip(nearest["voxel_id"].to_pylist(), nearest["nearest_ids"].to_pylist(), strict=True)}
    for row in rows(captions, method="top-image").to_pylist():
        assert row["caption"] == said[first[row["voxel_id"]]]
    concepts = captions.filter(pc.greater(captions["rank"], 0))
    assert set(concepts["method"].to_pylist()) == {"brainscuba"} and len(set(concepts["voxel_id"].to_pylist())) == OK
    assert all(row["caption"] == row["candidates"][0] for row in concepts.to_pylist())
    shares: dict[int, float] = {}
    for row in concepts.to_pylist():
        shares[row["voxel_id"]] = shares.get(row["voxel_id"], 0) + row["share"]
    assert all(total == pytest.approx(1, abs=1e-5) for total in shares.values())
    support = finished.read("analyses/support")
    assert support.num_rows and set(support["method"].to_pylist()) <= {"brainscuba", "brainscuba-rerank", "lavca", "top-image"}


def test_what_a_run_does_not_make_any_more_is_not_left_beside_what_it_makes(config: RunConfig, study: TinyStudy) -> None:
    out = RunFolder(str(study.folder / "fewer"))
    settings = {**config.model_dump(), "out": out.location, "lavca": None}
    run(make_config(settings))
    keys = out.keys("captions")
    assert len(out.keys("scores")) == 2 and out.keys("analyses/comparison") and out.keys("analyses/support")
    run(make_config({**settings, "concepts": None, "rerank": None, "score": None, "analyses": []}))
    assert out.keys("captions") == [keys[0]] and set(out.read("captions")["method"].to_pylist()) == {"brainscuba"}
    assert [out.keys(table) for table in ("scores", "analyses/comparison", "analyses/support")] == [[], [], []]
    run(make_config(settings))
    assert out.keys("captions") == keys and len(out.keys("scores")) == 2, "and it is made again when it is asked for"
