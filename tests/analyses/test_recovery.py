from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scuba_ray.analyses.recovery import METHODS, Recovery
from scuba_ray.analyses.recovery_summary import bootstrap, summarise
from scuba_ray.config import RunConfig, make_config
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.phantom.concepts import load_vocabulary
from scuba_ray.phantom.subject import VoxelTruth
from scuba_ray.phantom.truth import write_truth
from scuba_ray.protocols import Analysis
from scuba_ray.registry import resolve
from scuba_ray.tables.schemas import CAPTIONS
from scuba_ray.tables.ways import METHOD, MOST_FREQUENT, SHUFFLED, WITHIN_ROI

# roi, class, concepts, companion; and what the caption says
PLANTED = [
    (("objects", "single", ("mammals",), None), "tiger"),
    (("objects", "single", ("birds",), None), "owl and hamburger"),
    (("objects", "single", ("mammals",), None), "owl"),
    (("food", "single", ("dishes",), None), "hot dog"),
    (("food", "double", ("fruit", "sweets"), None), "lemon"),
    (("food", "double", ("fruit", "sweets"), None), "lemon and cookie"),
    (("food", "broad", ("fruit", "vegetables", "dishes", "sweets", "drinks"), None), "carrot"),
    (("faces", "confound", ("heads",), "birds"), "owl"),
    (("faces", "confound", ("heads",), "birds"), "baby and owl"),
    (("faces", "nuisance", (), None), "baby"),
    (("faces", "null", (), None), "red circle"),
]


def planted_config(
    folder: Path, planted: list[tuple[tuple[str, str, tuple[str, ...], str | None], str]], seed: int = 0
) -> RunConfig:
    truths = [
        VoxelTruth(roi, kind, concepts, (1.0,) * len(concepts), companion, 0.5) for (roi, kind, concepts, companion), _ in planted
    ]
    folder.mkdir(exist_ok=True)
    write_truth(folder, truths, load_vocabulary())
    return make_config(
        {
            "name": "test",
            "out": str(folder / "run"),
            "seed": seed,
            "subjects": [{"name": "phantom", "path": str(folder)}],
            "backbones": ["phantom:clip"],
            "bank": {"images": "x"},
            "caption": {"model": "phantom:captioner"},
        }
    )


def tables(captions: list[str | None], ceilings: list[float | None] | None = None) -> dict[str, pa.Table]:
    rows = []
    for voxel, caption in enumerate(captions):
        for partition, said in ((-1, caption), (0, "owl and tiger")):
            key = {
                "subject": "phantom",
                "backbone": "clip",
                "voxel_id": voxel,
                "partition": partition,
                "method": METHOD,
                "rank": 0,
            }
            if said is not None:
                rows.append({**key, "caption": said, "logprob": -1.0, "nouns": [], "share": None})
    count = len(captions)
    voxels = {
        "subject": ["phantom"] * count, "backbone": ["clip"] * count, "voxel_id": list(range(count)),
        "noise_ceiling": pa.array(ceilings or [0.5] * count, pa.float32()),
    }  # fmt: skip
    return {"captions": pa.Table.from_pylist(rows, schema=CAPTIONS), "voxels": pa.table(voxels)}


@pytest.fixture
def judged(tmp_path: Path) -> pa.Table:
    return Recovery(planted_config(tmp_path / "data", PLANTED)).run(tables([caption for _, caption in PLANTED]))


def column(table: pa.Table, method: str, name: str) -> list[object]:
    own: list[object] = table.filter(pc.equal(table["method"], method)).sort_by("voxel_id")[name].to_pylist()
    return own


def test_hits_by_class(judged: pa.Table) -> None:
    assert column(judged, METHOD, "hit") == [True, True, False, True, True, True, True, False, True, None, None]
    assert column(judged, METHOD, "hit_both") == [None] * 4 + [False, True] + [None] * 5
    assert column(judged, METHOD, "companion_hit") == [None] * 7 + [True, True, None, None]
    assert column(judged, METHOD, "named")[1] == ["birds", "dishes"]
    assert column(judged, METHOD, "precision") == [1, 0.5, 0, 1, 1, 1, 1, 0, 0.5, None, None]
    assert column(judged, METHOD, "concept")[4:7] == ["fruit + sweets", "fruit + sweets", "food"]
    assert column(judged, METHOD, "caption") == [caption for _, caption in PLANTED]
    assert column(judged, METHOD, "chance")[:4] == [1, 1, 0, 1]
    assert len(judged) == len(PLANTED) * len(METHODS)


def test_captions_per_concept_count_together(tmp_path: Path) -> None:
    given = tables([caption for _, caption in PLANTED])
    concept = {"subject": "phantom", "backbone": "clip", "voxel_id": 4, "partition": -1, "method": METHOD}
    sayings = enumerate(("red apple", "lollipop"), 1)
    more = pa.Table.from_pylist([{**concept, "rank": rank, "caption": said} for rank, said in sayings], schema=CAPTIONS)
    given["captions"] = pa.concat_tables([given["captions"], more])
    judged = Recovery(planted_config(tmp_path / "data", PLANTED)).run(given)
    assert column(judged, METHOD, "hit_both_concepts") == [None] * 4 + [True] + [None] * 6
    assert column(judged, METHOD, "hit_both")[4:6] == [False, True], "the single caption is judged as before"


def test_shuffled_captions_are_other_voxels_captions(judged: pa.Table) -> None:
    own, regions = column(judged, METHOD, "caption"), column(judged, METHOD, "roi")
    assert sorted(map(str, column(judged, SHUFFLED, "caption"))) == sorted(map(str, own))
    within = column(judged, WITHIN_ROI, "caption")
    for roi in set(regions):
        here = [voxel for voxel, region in enumerate(regions) if region == roi]
        assert sorted(str(within[voxel]) for voxel in here) == sorted(str(own[voxel]) for voxel in here)
    assert set(column(judged, MOST_FREQUENT, "caption")) == {"owl"}


def test_chances_are_counted_over_the_other_voxels(judged: pa.Table) -> None:
    within, anywhere = column(judged, WITHIN_ROI, "chance"), column(judged, SHUFFLED, "chance")
    # mammals: of the other two objects none says so; birds: of the other two one ("owl"); dishes: of the other three foods none
    assert within[:4] == [0, 0.5, 0.5, 0]
    assert anywhere[:4] == pytest.approx([0, 0.3, 0.1, 0.1])
    assert anywhere[9] is None


def test_chance_is_what_many_draws_would_give(tmp_path: Path) -> None:
    captions = [caption for _, caption in PLANTED]
    draws = []
    for seed in range(100):
        table = Recovery(planted_config(tmp_path / "data", PLANTED, seed)).run(tables(captions))
        draws.append([float(bool(hit)) for hit in column(table, SHUFFLED, "hit")[:9]])
    np.testing.assert_allclose(np.mean(draws, axis=0), column(table, SHUFFLED, "chance")[:9], atol=0.15)


def test_it_is_an_analysis_and_deterministic(tmp_path: Path) -> None:
    config = planted_config(tmp_path / "data", PLANTED)
    analysis: Analysis = resolve("analysis", "recovery")(config)
    captions = [caption for _, caption in PLANTED]
    assert analysis.run(tables(captions)).equals(Recovery(config).run(tables(captions)))
    before = analysis.fingerprint()
    assert before != Recovery(planted_config(tmp_path / "data", PLANTED, seed=1)).fingerprint()
    assert before != Recovery(planted_config(tmp_path / "data", PLANTED[:-1])).fingerprint()


def test_voxels_without_a_caption_have_no_row(tmp_path: Path) -> None:
    captions: list[str | None] = [caption for _, caption in PLANTED]
    captions[2] = None
    table = Recovery(planted_config(tmp_path / "data", PLANTED)).run(tables(captions))
    assert 2 not in table["voxel_id"].to_pylist() and len(table) == 10 * len(METHODS)


def test_only_phantoms_have_a_truth(tmp_path: Path) -> None:
    config = planted_config(tmp_path / "data", PLANTED)
    (tmp_path / "data/concepts.json").unlink()
    with pytest.raises(DataError, match="truth of the phantom"):
        Recovery(config).run(tables(["owl"]))
    (tmp_path / "data/truth.parquet").unlink()
    with pytest.raises(ConfigError, match="recovery needs a phantom, and none of phantom has"):
        Recovery(config)


@pytest.fixture
def many(tmp_path: Path) -> Callable[[float], pa.Table]:
    """400 single voxels of four concepts; their captions name the own concept at a given rate, else any of the four."""
    said = {"fruit": "lemon", "vegetables": "carrot", "sweets": "cookie", "drinks": "teapot"}
    names = list(said)

    def make(rate: float) -> pa.Table:
        generator = np.random.default_rng(5)
        planted = [(("food", "single", (names[voxel % 4],), None), "") for voxel in range(400)]
        captions: list[str | None] = [
            said[names[voxel % 4]] if generator.random() < rate else said[names[generator.integers(4)]] for voxel in range(400)
        ]
        ceilings: list[float | None] = [0.1 if voxel < 40 else None if voxel < 44 else 0.6 for voxel in range(400)]
        return Recovery(planted_config(tmp_path / f"data{rate}", planted)).run(tables(captions, ceilings))

    return make


def test_summary_of_planted_rates(many: Callable[[float], pa.Table]) -> None:
    rows = {row["method"]: row for row in summarise(many(0.8)).to_pylist()}
    own, within = rows[METHOD], rows[WITHIN_ROI]
    assert own["voxels"] == 356 and own["voxel_class"] == "single"
    assert own["low"] < 0.85 < own["high"] and own["high"] - own["low"] < 0.1
    assert within["rate"] == pytest.approx(0.25, abs=0.03)
    assert own["gain"] == pytest.approx(own["rate"] - within["rate"]) and 0.5 < own["gain_low"] < own["gain"] < own["gain_high"]
    assert within["gain"] is None and own["both"] is None and own["companion"] is None


def test_summary_where_nothing_was_found(many: Callable[[float], pa.Table]) -> None:
    own = next(row for row in summarise(many(0.0)).to_pylist() if row["method"] == METHOD)
    assert own["gain_low"] < 0.06 and abs(own["gain"]) < 0.06


def test_summary_of_the_confound(judged: pa.Table) -> None:
    rows = {(row["voxel_class"], row["method"]): row for row in summarise(judged, draws=100).to_pylist()}
    confound = rows["confound", METHOD]
    assert (confound["rate"], confound["companion"], confound["driver_and_companion"]) == (0.5, 1.0, 0.5)
    assert rows["double", METHOD]["both"] == 0.5
    assert rows["single", METHOD]["precision"] == pytest.approx(2.5 / 4)
    assert not any(kind in {"null", "nuisance"} for kind, _ in rows)


def test_bootstrap_covers_the_mean_of_known_values() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    low, high = bootstrap(values, seed=1, draws=4000)
    width = 2 * 1.96 * values.std() / 20
    assert high - low == pytest.approx(width, rel=0.1) and low < values.mean() < high
