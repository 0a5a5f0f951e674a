"""Pictures in a whole run: made by both routes, judged, kept, made again only where they must be, refused in time."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scuba_ray.config import RunConfig, make_config
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from scuba_ray.planning import plan
from scuba_ray.protocols import Chunk, ImageRequest
from scuba_ray.stages.study import located, open_study
from scuba_ray.stages.synthesizers import make_synthesizers
from scuba_ray.tables.image_schemas import SYNTHESES
from scuba_ray.tables.store import RunFolder
from tests.models.tiny_diffusion import write_diffusion
from tests.stages.pictured import WordBackbone
from tests.study import TinyStudy, write_backbone

PAINTER = "tests.stages.painted:Painter"
KEY = "subj01/tiny"


@pytest.fixture(scope="module")
def places(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models beside the tiny study: a backbone that judges and a diffusion model."""
    folder = tmp_path_factory.mktemp("models")
    return {"judge": str(write_backbone(folder / "judge", seed=5)), "diffusion": str(write_diffusion(folder / "diffusion"))}


def configured(study: TinyStudy, places: dict[str, str], out: Path, **synthesize: Any) -> RunConfig:
    """The tiny study with two backbones and painted pictures; keywords change settings of `synthesize`."""
    settings = study.settings(out=str(out))
    painted = {
        "diffusion": {"model": "paint", "batch": 3},
        "significant": False,
        "images": 2,
        "voxels": 2,
        "chunk": 3,
        "text": {"synthesizer": PAINTER},
        "gradient": {"synthesizer": PAINTER, "images": 1},
        "judge": "other",
        "probe": {"prompts": "phantom"},
    }
    judge = {"name": "other", "model": f"local-dir:{places['judge']}"}
    return make_config({**settings, "backbones": [*settings["backbones"], judge], "synthesize": {**painted, **synthesize}})


def files(folder: RunFolder, table: str) -> dict[str, tuple[int, bytes]]:
    """When each part of a table was written, and what is in it."""
    found = Path(folder.location).glob(f"{table}/*.parquet")
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_both_routes_are_made_and_judged(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    config = configured(study, places, tmp_path / "run")
    finished = run(config)
    requests, images = finished.read("requests"), finished.read("images")
    made = images.filter(pc.is_valid(images["png"]))
    keys = ["subject", "backbone", "target", "method", "sample", "prompt", "seed"]
    assert sorted(map(str, made.select(keys).to_pylist())) == sorted(map(str, requests.select(keys).to_pylist()))
    assert set(images["method"].to_pylist()) == {"brainscuba", "braindive", "natural-top-100", "natural-top-1%"}
    assert {"faces", "food", "places"} < set(images["target"].to_pylist())
    assert made["predicted"].null_count == made["predicted_independent"].null_count == 0
    assert finished.keys("syntheses") == [f"{KEY}/braindive", f"{KEY}/brainscuba"]
    before = {table: files(finished, table) for table in ("requests", "syntheses", "images")}
    assert {table: files(run(config), table) for table in before} == before


def test_what_changes_is_made_again_and_what_does_not_is_kept(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    first = run(configured(study, places, tmp_path / "run", gradient=None))
    pictures = files(first, "syntheses")
    more = run(configured(study, places, tmp_path / "run", budget=500))
    kept = files(more, "syntheses")
    assert pictures.items() < kept.items(), "the gradient route and a larger budget leave the other route's pictures"
    again = run(configured(study, places, tmp_path / "run", diffusion={"model": "paint", "steps": 7}))
    assert not pictures.items() & files(again, "syntheses").items()
    fewer = run(configured(study, places, tmp_path / "run", gradient=None))
    assert fewer.keys("syntheses") == [f"{KEY}/brainscuba"], "pictures that the run no longer makes are gone"
    nothing = run(make_config({**study.settings(out=str(tmp_path / "run"))}))
    assert not [key for table in ("requests", "syntheses", "images") for key in nothing.keys(table)]


def test_parts_are_made_of_the_division_and_again_with_it_alone(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    def config(k: int, **changes: Any) -> RunConfig:
        parts = {"targets": ["rois", "parts"], "parts": ["faces"], "part_images": 1}
        whole = configured(study, places, tmp_path / "run", **parts, **changes).model_dump(mode="json")
        bank, fit = {"images": whole["bank"]["images"]}, {**whole["fit"], "permutations": 0}
        return make_config({**whole, "bank": bank, "fit": fit, "analyses": ["synthesis", "clusters"], "clusters": {"k": k}})

    planned = [one.planned.step for one in plan(config(2)).steps]
    assert planned[-5:] == ["clusters", "requests", "synthesize", "judge", "synthesis"]
    finished = run(config(2))
    clusters = finished.read("analyses/clusters").filter((pc.field("roi") == "faces") & (pc.field("level") == "voxel"))
    requests = finished.read("requests").filter(pc.field("kind") == "part").to_pylist()
    found = {row["target"]: set(row["voxels"]) for row in requests}
    rows = clusters.to_pylist()
    assert found == {f"faces part {n + 1}": {row["voxel_id"] for row in rows if row["part"] == n} for n in range(2)}
    images = finished.read("images").filter(pc.field("kind") == "part")
    assert set(images["target_category"].to_pylist()) == {"faces"} and images["predicted_independent"].null_count == 0
    assert images.filter(pc.is_valid(images["png"])).num_rows == len(requests) == 2
    assert finished.keys("syntheses") == [f"{KEY}/braindive", f"{KEY}/brainscuba", f"{KEY}/brainscuba/parts"]
    assert list(finished.read_run_json()["steps"]).count("clusters run") == 1
    before = {table: files(finished, table) for table in ("requests", "syntheses", "images", "analyses/clusters")}
    assert {table: files(run(config(2)), table) for table in before} == before
    assert plan(config(2)).complete
    pictures = before["syntheses"]
    other = files(run(config(3)), "syntheses")
    assert {name for name in pictures if "parts" not in name} == pictures.keys() & other.keys()
    assert all(other[name] == pictures[name] for name in pictures.keys() & other.keys())


def test_what_a_killed_run_began_goes_with_its_route(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    config = configured(study, places, tmp_path / "run", gradient=None)
    first = run(config)
    kept = files(first, "syntheses")
    begun = first.begin(step="synthesize", table="syntheses", key=f"{KEY}/braindive", fingerprint="a" * 64)
    begun.write(Chunk(0, 0, 3), SYNTHESES.empty_table())
    assert files(first, "syntheses") != kept
    assert files(run(config), "syntheses") == kept


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget": 1}, "synthesize.budget was spent"),
        ({"targets": ["voxels"], "voxels": 0, "gradient": None}, "nothing to make images of"),
        ({"targets": ["voxels"], "voxels": [110, 111], "gradient": None}, "none of its voxels is fitted"),
    ],
)
def test_a_run_without_targets_ends_well_and_says_why(
    study: TinyStudy, places: dict[str, str], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    config = configured(study, places, tmp_path / "run", **changes).model_dump(mode="json")
    finished = run(make_config({**config, "bank": {"images": config["bank"]["images"]}, "analyses": ["synthesis"]}))
    record = finished.read_run_json()
    said = [one for one in record["warnings"] if one.startswith("synthesize")]
    assert record["complete"] and any(reason in one for one in said) and any("nothing to make images of" in one for one in said)
    assert not finished.keys("images") and not finished.keys("syntheses") and not finished.keys("analyses/synthesis")
    assert record["warnings"][-1] == "analysis synthesis is left out: no images were made"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rois": ["faces", "nowhere"]}, ["'nowhere'", "faces, food, places"]),
        ({"voxels": [100, 7]}, ["voxel 7;", "100 to 111"]),
        ({"targets": ["query"], "queries": ["food"], "gradient": None}, ["'food'", "region"]),
        ({"targets": ["rois", "query", "voxels"], "voxels": [103], "queries": ["voxel 103"]}, ["'voxel 103'"]),
        ({"targets": ["rois", "query", "voxels"], "voxels": 9, "queries": ["voxel 103"]}, ["'voxel 103'"]),
        (
            {"probe": {"category_of": {"food": "foods"}}},
            ["food is said to belong to 'foods'", "faces, bodies, places, food, words"],
        ),
        ({"targets": ["rois", "parts"]}, ["synthesize.targets has parts", "add clusters to analyses"]),
        ({"judge": "tiny"}, ["synthesize.judge", "captioned backbone"]),
        ({"text": {"captions": ["lavca"]}}, ["lavca", "synthesize.text.captions"]),
        ({"text": {"captions": ["brainscuba-rerank"]}}, ["set rerank"]),
        ({"diffusion": {"model": "absent"}}, ["absent"]),
        ({"gradient": {"diffusion": {"model": "absent"}, "synthesizer": PAINTER}}, ["absent"]),
        ({"text": {}, "gradient": None, "diffusion": {"model": "no/such/directory"}}, ["no/such/directory"]),
        ({"text": {"synthesizer": "tests.stages.painted:Nobody"}}, ["Nobody"]),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    study: TinyStudy, places: dict[str, str], tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        run(configured(study, places, tmp_path / "run", **changes))
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"voxels": [103, 104, 103]}, "voxels must be different, got 103, 104, 103"),
        ({"targets": ["rois", "query"], "queries": ["a dog", " "]}, "queries has an empty text"),
        ({"targets": ["voxels"]}, "gradient.targets: rois, none of targets .voxels."),
        ({"gradient": {"targets": []}}, "gradient.targets: nothing"),
        ({"parts": ["faces"]}, "targets has no parts"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    study: TinyStudy, places: dict[str, str], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(study, places, tmp_path / "run", **changes)


def test_a_region_called_like_a_voxel_is_refused_beside_voxels(
    own_study: TinyStudy, places: dict[str, str], tmp_path: Path
) -> None:
    voxels = pq.read_table(own_study.folder / "subject" / "voxels.parquet")
    rois = pa.array([["voxel 103"]] * voxels.num_rows, pa.list_(pa.string()))
    pq.write_table(
        voxels.set_column(voxels.column_names.index("rois"), "rois", rois), own_study.folder / "subject/voxels.parquet"
    )
    with pytest.raises(ConfigError, match="'voxel 103' as a single voxel would be"):
        open_study(configured(own_study, places, tmp_path / "run"))
    open_study(configured(own_study, places, tmp_path / "run", targets=["rois"]))


def test_a_backbone_without_gradient_is_refused(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    model = {"model": places["diffusion"]}
    config = configured(study, places, tmp_path / "run", diffusion=model, text=None, gradient={})
    with pytest.raises(ConfigError, match="embed_pictures"):
        make_synthesizers(config, WordBackbone())  # type: ignore[arg-type]


def test_imported_weights_are_synthesised_too(study: TinyStudy, places: dict[str, str], tmp_path: Path) -> None:
    fitted = run(configured(study, places, tmp_path / "fitted"))
    voxels = fitted.read("voxels", key=KEY)
    ok = voxels.filter(pc.equal(voxels["status"], "ok"))
    np.save(tmp_path / "weights.npy", np.stack(ok["weight"].to_numpy()))
    pq.write_table(ok.drop(["weight"]), tmp_path / "voxels.parquet")
    weights = {"path": str(tmp_path / "weights.npy"), "voxels": str(tmp_path / "voxels.parquet"), "backbone": "tiny"}
    config = configured(study, places, tmp_path / "run").model_dump(mode="json")
    subject = {"name": "subj01", "weights": weights}
    imported = run(make_config({**config, "subjects": [subject], "bank": {"images": str(study.folder / "pictures")}}))
    images = imported.read("images")
    assert set(images["method"].to_pylist()) == {"brainscuba", "braindive"} and images["predicted"].null_count == 0


def test_local_models_are_found_from_other_directories(
    study: TinyStudy, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(places["diffusion"]).parent)
    config = configured(
        study, places, tmp_path / "run", diffusion={"model": "diffusion"}, gradient={"diffusion": {"model": "a/b"}}
    )
    found = located(config).synthesize
    assert found is not None and found.gradient is not None and found.gradient.diffusion is not None
    assert found.diffusion.model == places["diffusion"]
    assert found.gradient.diffusion.model == "a/b", "a name on the hub stays"


@pytest.mark.parametrize("method", ["brainscuba", "braindive"])
def test_an_image_can_be_made_again_alone_from_its_row(
    study: TinyStudy, places: dict[str, str], tmp_path: Path, method: str
) -> None:
    model = {"model": places["diffusion"], "steps": 3, "batch": 3}
    routes: dict[str, Any] = {"text": {}, "gradient": None} if method == "brainscuba" else {"text": None, "gradient": {}}
    config = configured(study, places, tmp_path / "run", diffusion=model, targets=["rois"], rois=["food"], images=3, **routes)
    finished = run(config)
    row = finished.read("images", key=KEY).filter(pc.field("method") == method).slice(1, 1).to_pylist()[0]
    planned = finished.read("requests", key=KEY).filter(pc.field("sample") == row["sample"]).to_pylist()[0]
    voxels = finished.read("voxels", key=KEY)
    mine = voxels.filter(pc.is_in(voxels["voxel_id"], value_set=pc.cast(planned["voxels"], "int64")))
    direction_D = np.stack(mine["weight"].to_numpy()).mean(axis=0, dtype=np.float64).astype(np.float32)
    maker = open_study(config).synthesizers[method].load("cpu")
    (alone,) = maker.images([ImageRequest(row["prompt"], row["seed"], direction_D if method == "braindive" else None)])
    with Image.open(BytesIO(row["png"])) as image:
        assert np.abs(np.asarray(image).astype(int) - alone.pixels_HW3).max() <= 1
