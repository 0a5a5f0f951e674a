"""Requests as such: exactly one of what is asked about, types as they are, limits of the service and not of the code."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from scuba_ray.config import LimitsConfig
from scuba_ray.errors import ConfigError
from scuba_ray.serve.schemas import (
    Body,
    CaptionRequest,
    NearestRequest,
    PredictRequest,
    QueryRequest,
    SynthesizeRequest,
    check_limits,
    with_limits,
)

LIMITS = LimitsConfig(items=3, images=2, characters=4)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CaptionRequest, {"voxels": [1], "weights": [[1.0]]}),
        (CaptionRequest, {"weights": [[float("nan")]]}),
        (CaptionRequest, {"weights": [[]]}),
        (CaptionRequest, {"voxels": [1.5]}),
        (CaptionRequest, {"voxels": [True]}),
        (NearestRequest, {"texts": ["a"], "k": 0}),
        (NearestRequest, {"texts": ["a"], "voxels": [1]}),
        (QueryRequest, {"texts": ["\n"]}),
        (QueryRequest, {"texts": ["a"], "limit": 0}),
        (PredictRequest, {"images": [{"data": "a", "uri": "b"}]}),
        (SynthesizeRequest, {"prompts": ["a"], "seed": 2**32}),
        (SynthesizeRequest, {"prompts": ["a"], "seed": -1}),
    ],
)
def test_what_no_service_accepts(kind: type[Body], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (CaptionRequest(voxels=[1, 2, 3, 4]), "voxels: 4 were asked for; this service takes 3 at most"),
        (CaptionRequest(weights=[[1.0]] * 4), "weights: 4"),
        (NearestRequest(texts=["a"], k=4), "k: 4"),
        (NearestRequest(texts=["a", "abcde"]), "texts[1] has 5 characters; this service reads 4 at most"),
        (SynthesizeRequest(prompts=["a"], count=3), "count: 3 were asked for; this service takes 2 at most"),
        (SynthesizeRequest(prompts=["abcde"]), "prompts[0] has 5 characters"),
    ],
)
def test_limits_are_the_services_own(body: Body, words: str) -> None:
    check_limits(body, LimitsConfig())
    with pytest.raises(ConfigError) as error:
        check_limits(body, LIMITS)
    assert words in str(error.value)


def test_the_document_states_the_limits() -> None:
    app = FastAPI()

    def ask(body: NearestRequest) -> None:
        """Ask."""

    app.add_api_route("/near", ask, methods=["POST"])
    document = with_limits(app.openapi(), LIMITS)
    fields = document["components"]["schemas"]["NearestRequest"]["properties"]
    assert fields["voxels"]["anyOf"][0]["maxItems"] == 3
    assert fields["weights"]["anyOf"][0]["maxItems"] == 3
    assert fields["k"]["maximum"] == 3
    assert fields["texts"]["anyOf"][0]["maxItems"] == 3
    assert fields["texts"]["anyOf"][0]["items"]["maxLength"] == 4
