"""JSON and Arrow, as clients ask for them."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from scuba_ray.serve.answers import ARROW, answer

TABLE = pa.table(
    {
        "voxel_id": pa.array([7, 2**53 + 1], pa.int64()),
        "cosine": pa.array([math.nan, 0.25], pa.float32()),
        "embedding": pa.array([[1.0, math.inf], None], pa.list_(pa.float32(), 2)),
        "caption": ["a plate of  food", 'ü "quoted"\n\x00'],
        "png": pa.array([b"\x89PNG", None], pa.binary()),
    }
)
ROWS = [
    {"voxel_id": 7, "cosine": None, "embedding": [1.0, None], "caption": "a plate of  food", "png": "iVBORw=="},
    {"voxel_id": 2**53 + 1, "cosine": 0.25, "embedding": None, "caption": 'ü "quoted"\n\x00', "png": None},
]


class About(BaseModel):
    name: str
    score: float


def asking(*accept: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [(b"accept", one.encode()) for one in accept]})


@pytest.mark.parametrize(
    "accept",
    [
        (), ("",), ("*/*",), ("application/json",), ("text/html",), (f"{ARROW};q=0",), (f"{ARROW};q=0.5, application/json",),
        ("application/*",), (f"{ARROW};q=nan",), (f"{ARROW};q=1e-400",), (";;,,q=",), (f"{ARROW}x",),
    ],
)  # fmt: skip
def test_json_is_the_rule(accept: tuple[str, ...]) -> None:
    answered = answer(asking(*accept), TABLE)
    assert answered.headers["content-type"] == "application/json" and answered.headers["vary"] == "Accept"
    assert json.loads(bytes(answered.body), parse_constant=pytest.fail) == {"rows": ROWS}


@pytest.mark.parametrize(
    "accept",
    [(ARROW,), (f"application/json, {ARROW}",), ("application/json;q=0.1", ARROW), (f"{ARROW.upper()} ; q=0.9, */*;q=0.1",)],
)
def test_arrow_is_the_table_itself(accept: tuple[str, ...]) -> None:
    answered = answer(asking(*accept), TABLE)
    assert answered.headers["content-type"] == ARROW
    got = pa.ipc.open_stream(bytes(answered.body)).read_all()
    assert got.schema == TABLE.schema and got.drop_columns(["cosine"]).equals(TABLE.drop_columns(["cosine"]))
    assert math.isnan(got["cosine"][0].as_py())


def test_an_empty_table_has_its_columns_in_arrow() -> None:
    empty = TABLE.slice(0, 0)
    assert json.loads(bytes(answer(asking(), empty).body)) == {"rows": []}
    assert pa.ipc.open_stream(bytes(answer(asking(ARROW), empty).body)).read_all().schema == TABLE.schema


def test_a_model_is_json_only() -> None:
    about = About(name="run", score=math.nan)
    assert json.loads(bytes(answer(asking("*/*"), about).body)) == {"name": "run", "score": None}
    assert answer(asking(f"{ARROW}, */*;q=0.1"), about).status_code == 200
    with pytest.raises(HTTPException) as raised:
        answer(asking(ARROW), about)
    assert raised.value.status_code == 406
