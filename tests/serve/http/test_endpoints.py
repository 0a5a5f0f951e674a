"""Every endpoint over HTTP, held against the tables of the run that is served."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Backbone
from scuba_ray.report.show import query
from scuba_ray.tables.columns import matrix
from tests.serve.serving import Served

SUBJECTS = ("subj01", "subj02")
ONLY_FIRST, BOTH, ONLY_SECOND = [103, 100, 104], [106, 108], [114, 112]
CONSTANT, BAD = 110, 111
"""Voxels of the first subject without weights."""


def of_voxels(table: pa.Table, subject: str, voxels: list[int]) -> list[dict[str, Any]]:
    """A table's rows of voxels, in the order asked, as an answer has them."""
    rows = table.filter(pc.equal(table["subject"], subject)).to_pylist()
    return [{"row": place, **row} for place, voxel in enumerate(voxels) for row in rows if row["voxel_id"] == voxel]


def weights(served: Served, subject: str, voxels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (V, D) and biases (V,)."""
    rows = served.run.read("voxels", key=f"{subject}/tiny").to_pylist()
    found = {row["voxel_id"]: row for row in rows}
    return np.array([found[one]["weight"] for one in voxels], np.float32), np.array([found[one]["bias"] for one in voxels])


@pytest.fixture(scope="module")
def backbone(served: Served) -> Backbone:
    return make_backbone(served.config.backbones[0]).load("cpu")


@pytest.mark.parametrize(
    ("subject", "voxels"), [(None, ONLY_FIRST), ("subj01", BOTH), ("subj02", BOTH), (None, ONLY_SECOND), (None, [101, 101])]
)
@pytest.mark.parametrize("partitions", [False, True])
def test_captions_of_voxels_are_the_runs(served: Served, subject: str | None, voxels: list[int], partitions: bool) -> None:
    rows = served.client.post("/v1/caption", {"subject": subject, "voxels": voxels, "partitions": partitions}).rows
    mine = subject or ("subj02" if voxels == ONLY_SECOND else "subj01")
    table = served.run.read("captions")
    table = table if partitions else table.filter(pc.equal(table["partition"], -1))
    assert rows == of_voxels(table, mine, voxels)
    assert len(rows) == len(voxels) * (6 if partitions else 1)


def test_captions_of_the_runs_weights_are_its_captions(served: Served) -> None:
    weight_VD, _ = weights(served, "subj02", BOTH)
    body = {"weights": (3 * weight_VD).tolist(), "partitions": True}
    rows = served.client.post("/v1/caption", body).rows
    wanted = of_voxels(served.run.read("captions"), "subj02", BOTH)
    for row, run in zip(rows, wanted, strict=True):
        assert row["logprob"] == pytest.approx(run.pop("logprob"), abs=1e-5)
        assert row["candidate_scores"] == pytest.approx(run.pop("candidate_scores"), abs=1e-5)
        assert {**run, "subject": None, "voxel_id": None}.items() <= row.items()


@pytest.mark.parametrize(("subject", "voxels"), [(None, ONLY_FIRST), ("subj02", BOTH)])
def test_projections_of_voxels_are_the_runs(served: Served, subject: str | None, voxels: list[int]) -> None:
    found = served.client.table("/v1/project", {"subject": subject, "voxels": voxels})
    assert found.schema.names == ["row", *served.run.read("projections").schema.names]
    assert found.to_pylist() == of_voxels(served.run.read("projections"), subject or "subj01", voxels)


def test_projections_of_the_runs_weights_are_its_projections(served: Served) -> None:
    voxels = [100, 101, 106]
    weight_VD, _ = weights(served, "subj01", voxels)
    found = served.client.table("/v1/project", {"weights": weight_VD.tolist()})
    wanted = of_voxels(served.run.read("projections"), "subj01", voxels)
    assert found.to_pylist() == [
        {**row, "subject": None, "voxel_id": None, "half_agreement": row["half_agreement"]} for row in wanted
    ]


def test_predictions_are_the_encoding_model_of_the_run(served: Served, backbone: Backbone) -> None:
    stimuli = Path(served.config.subjects[0].path or "") / "images"
    files = sorted(stimuli.glob("*.png"))[:3]
    images: list[dict[str, str]] = [{"data": base64.b64encode(path.read_bytes()).decode()} for path in files]
    images.insert(1, {"data": base64.b64encode(b"no picture").decode()})
    for subject, voxels in (("subj01", [106, 100]), ("subj02", None)):
        rows = served.client.post("/v1/predict", {"subject": subject, "images": images, "voxels": voxels}).rows
        assert [row["image"] for row in rows] == [0, 1, 2, 3]
        assert rows[1]["predicted"] is None
        assert "PNG" in rows[1]["error"]
        ids = rows[0]["voxel_ids"]
        assert ids == (voxels or list(range(106, 118)))
        fitted = [voxel for voxel in ids if voxel not in {116, 117}]  # constant and bad ones of the second subject
        weight_VD, bias_V = weights(served, subject, fitted)
        for row, path in zip([rows[0], *rows[2:]], files, strict=True):
            with Image.open(path) as picture:
                x_D = backbone.embed_images(backbone.preprocess(picture.convert("RGB"))[None])[0].numpy()
            wanted = dict(zip(fitted, weight_VD @ (x_D / np.linalg.norm(x_D)) + bias_V, strict=True))
            for voxel, predicted in zip(ids, row["predicted"], strict=True):
                assert predicted == (None if voxel not in wanted else pytest.approx(wanted[voxel], abs=1e-4))


def test_nearest_pictures_are_the_projections(served: Served) -> None:
    rows = served.client.post("/v1/nearest", {"voxels": ONLY_FIRST, "k": 5}).rows
    weight_VD, _ = weights(served, "subj01", ONLY_FIRST)
    assert served.client.post("/v1/nearest", {"weights": weight_VD.tolist(), "k": 5}).rows == rows
    table = served.run.read("projections", key="subj01/tiny")
    whole = {row["voxel_id"]: row for row in table.filter(pc.equal(table["partition"], -1)).to_pylist()}
    for place, voxel in enumerate(ONLY_FIRST):
        mine = [row for row in rows if row["query"] == place]
        assert [row["rank"] for row in mine] == list(range(5))
        assert [row["image_id"] for row in mine] == whole[voxel]["nearest_ids"][:5]
        assert [row["cosine"] for row in mine] == pytest.approx(whole[voxel]["nearest_cos"][:5], abs=1e-5)


def test_nearest_pictures_of_texts_are_by_cosine(served: Served, backbone: Backbone) -> None:
    texts = ["a plate of food", "two dogs"]
    rows = served.client.post("/v1/nearest", {"texts": texts, "k": 3}).rows
    bank = served.run.read("bank")
    unit_KD = matrix(bank["embedding"]).astype(np.float32)
    unit_KD /= np.linalg.norm(unit_KD, axis=1, keepdims=True)
    for place, text_D in enumerate(backbone.embed_texts(texts).numpy()):
        cos_K = unit_KD @ (text_D / np.linalg.norm(text_D))
        assert [row["cosine"] for row in rows if row["query"] == place] == pytest.approx(np.sort(cos_K)[::-1][:3], abs=1e-4)


@pytest.mark.parametrize("limit", [4, None])
def test_queries_rank_voxels_as_the_terminal_does(served: Served, limit: int | None) -> None:
    texts = ["a plate of food", "a dog"]
    rows = served.client.post("/v1/query", {"texts": texts, "limit": limit}).rows
    for place, text in enumerate(texts):
        wanted = query(served.run, served.config, text, limit=limit).to_pylist()
        mine = [{name: value for name, value in row.items() if name != "query"} for row in rows if row["query"] == place]
        assert [(row["subject"], row["voxel_id"], row["caption"], row["q"]) for row in mine] == [
            (row["subject"], row["voxel_id"], row["caption"], row["q"]) for row in wanted
        ]
        assert [row["cosine"] for row in mine] == [
            None if row["cosine"] is None else pytest.approx(row["cosine"], abs=1e-5) for row in wanted
        ]
    second = served.client.post("/v1/query", {"texts": texts, "subject": "subj02"}).rows
    assert {row["subject"] for row in second} == {"subj02"}
    assert len(second) == 24


def test_pictures_with_the_runs_seed_are_its_own(served: Served) -> None:
    body = {"voxels": [103], "seed": served.config.seed, "count": 2}
    made = served.client.table("/v1/synthesize", body).to_pylist()
    own = served.run.read("syntheses", key="subj01/tiny/brainscuba").to_pylist()
    assert [row["seed"] for row in made] == [row["seed"] for row in own]
    for row, run in zip(made, own, strict=True):
        assert row["prompt"] == run["prompt"]
        with Image.open(io.BytesIO(row["png"])) as one, Image.open(io.BytesIO(run["png"])) as two:
            assert np.array_equal(one, two)
    shown = served.client.post("/v1/synthesize", body).rows
    assert [base64.b64decode(row["png"]) for row in shown] == [row["png"] for row in made]


def test_pictures_of_prompts_depend_on_prompt_seed_and_sample(served: Served) -> None:
    def made(**body: Any) -> list[str]:
        return [row["png"] for row in served.client.post("/v1/synthesize", {"prompts": ["a dog", "food"], **body}).rows]

    assert made(count=2)[::2] == made()
    assert len(set(made(count=2))) == 4
    assert not set(made(seed=1)) & set(made(seed=2))


def test_everything_about_a_voxel(served: Served) -> None:
    answer = served.client.get("/v1/voxels/106?subject=subj02").json
    rows = served.run.read("voxels", key="subj02/tiny").to_pylist()
    row = next(one for one in rows if one["voxel_id"] == 106)
    assert (answer["subject"], answer["backbone"], answer["voxel_id"]) == ("subj02", "tiny", 106)
    assert answer["voxel"] == {name: value for name, value in row.items() if name not in {"weight", "bias"}}
    for name, left_out in (("captions", set()), ("projections", {"embedding"})):
        wanted = of_voxels(served.run.read(name), "subj02", [106])
        assert answer[name] == [{key: value for key, value in one.items() if key not in {"row", *left_out}} for one in wanted]
    images = served.client.get("/v1/voxels/103").json["images"]
    assert [image["target"] for image in images] == ["voxel 103"] * 2
    constant = served.client.get(f"/v1/voxels/{CONSTANT}?subject=subj01").json
    assert constant["voxel"]["status"] == "constant"
    assert constant["captions"] == []
    assert constant["projections"] == []


def test_the_run_says_what_there_is_and_not_where(served: Served) -> None:
    answer = served.client.get("/v1/runs")
    (run,) = answer.json["runs"]
    assert run["name"] == "tiny"
    assert [(one["subject"], one["voxels"], one["captioned"]) for one in run["subjects"]] == [
        ("subj01", 12, 10),
        ("subj02", 12, 10),
    ]
    assert run["subjects"][0]["regions"] == ["faces", "food", "places"]
    assert (run["backbone"], run["bank"], run["methods"]) == ("tiny", 90, ["brainscuba"])
    assert run["dim"] == len(served.run.read("voxels", key="subj01/tiny")["weight"][0])
    assert run["config"]["project"]["beta"] == 20
    assert run["versions"]["ray"]
    assert "synthesize" in run["serves"]
    for place in (served.run.location, served.config.subjects[0].path, served.config.bank.images, served.config.caption.model):
        assert str(place) not in answer.body.decode()


def test_every_deployment_answers(served: Served) -> None:
    answer = served.client.get("/healthz")
    assert answer.status == 200
    names = {"Ingress", "Subjects", "Encoder", "Projector", "Captioner", "NearestImages", "Synthesizer"}
    assert answer.json == {"healthy": True, "deployments": dict.fromkeys(names, "ok")}


def test_the_page_and_the_metrics_are_there(served: Served) -> None:
    page = served.client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"data-service" in page.body
    assert served.client.get("/metrics").status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("caption", {"voxels": BOTH}, 422, ["several subjects", "subj01, subj02"]),
        ("predict", {"images": [{"uri": "x.png"}]}, 422, ["subject", "subj01, subj02"]),
        ("caption", {"voxels": [100, 114]}, 404, ["one subject"]),
        ("caption", {"voxels": [5]}, 404, ["no voxel 5", "ids 100 to 117"]),
        ("project", {"voxels": [114], "subject": "subj01"}, 404, ["subj01 has no voxel 114"]),
        ("nearest", {"voxels": [100], "subject": "nobody"}, 404, ["nobody", "subj01, subj02"]),
        ("caption", {"voxels": [CONSTANT, BAD, 100], "subject": "subj01"}, 422, ["without captions", "110, 111"]),
        ("project", {"voxels": [CONSTANT], "subject": "subj01"}, 422, ["without projections", "110"]),
        ("nearest", {"voxels": [BAD], "subject": "subj01"}, 422, ["without weights", "111 (bad)"]),
        ("project", {"weights": [[1.0, 2.0]]}, 422, ["weights[0] has 2 numbers", "tiny"]),
        ("caption", {}, 422, ["voxels, weights"]),
        ("caption", {"voxels": [100], "weights": [[1.0]]}, 422, ["voxels and weights"]),
        ("caption", {"voxels": []}, 422, ["voxels"]),
        ("caption", {"voxels": ["100"]}, 422, ["voxels.0"]),
        ("caption", {"voxels": [2**63]}, 422, ["voxels.0"]),
        ("caption", {"voxels": [100], "wrong": 1}, 422, ["wrong"]),
        ("caption", {"voxels": [100] * 257}, 422, ["voxels: 257", "256"]),
        ("query", {"texts": [" "]}, 422, ["texts.0"]),
        ("query", {"texts": ["x" * 1001]}, 422, ["texts[0]", "1,001", "1,000"]),
        ("nearest", {"texts": ["a"], "k": 257}, 422, ["k: 257"]),
        ("synthesize", {"prompts": ["a"] * 5, "count": 2}, 422, ["10 pictures", "8 at most"]),
        ("synthesize", {"prompts": ["nan"]}, 500, ["cannot answer", "not finite"]),
        ("predict", {"images": [{}], "subject": "subj01"}, 422, ["data and uri"]),
    ],
)
def test_what_cannot_be_answered_is_told_in_words(served: Served, path: str, body: Any, status: int, words: list[str]) -> None:
    answer = served.client.post(f"/v1/{path}", body)
    assert answer.status == status, answer.body
    for word in words:
        assert word in answer.json["error"]
    assert answer.json["request_id"] and "Value error" not in answer.json["error"]


def test_weights_need_a_direction(served: Served) -> None:
    dim = served.client.get("/v1/runs").json["runs"][0]["dim"]
    for weight in ([0.0] * dim, [1e300] + [0.0] * (dim - 1)):
        answer = served.client.post("/v1/project", {"weights": [[1.0] * dim, weight]})
        assert answer.status == 422
        assert answer.json["error"].startswith("weights[1] has no direction")


def test_unknown_voxels_and_ids_that_are_no_numbers(served: Served) -> None:
    assert served.client.get("/v1/voxels/5").status == 404
    assert served.client.get("/v1/voxels/x").status == 422
    assert served.client.get("/v1/voxels/106").status == 422
    assert served.client.get(f"/v1/voxels/{2**63}").status == 422


def test_json_has_no_nan_and_arrow_the_same_rows(served: Served) -> None:
    body = {"texts": ["a dog"]}
    rows = served.client.post("/v1/query", body).rows
    assert any(row["r2"] is None for row in rows)
    assert b"NaN" not in served.client.post("/v1/query", body).body
    table = served.client.table("/v1/query", body).to_pylist()
    for row, other in zip(rows, table, strict=True):
        assert row == other
        assert all(not isinstance(value, float) or math.isfinite(value) for value in row.values())


def test_the_openapi_document_is_complete(served: Served) -> None:
    document = served.client.get("/openapi.json").json
    assert set(document["paths"]) == {
        *(f"/v1/{name}" for name in ("predict", "project", "caption", "nearest", "query", "synthesize", "runs")),
        *("/v1/voxels/{voxel_id}", "/healthz", "/metrics", "/"),
    }
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert {"401", "413", "422", "503", "504"} <= set(operation["responses"])
            if path.startswith("/v1/"):
                assert "$ref" in operation["responses"]["200"]["content"]["application/json"]["schema"]
            if "requestBody" in operation:
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert schemas[name]["examples"]
                assert schemas[name]["description"]
    limits = served.config and schemas["CaptionRequest"]["properties"]["voxels"]["anyOf"][0]
    assert limits["maxItems"] == 256
    assert schemas["SynthesizeRequest"]["properties"]["count"]["maximum"] == 8
