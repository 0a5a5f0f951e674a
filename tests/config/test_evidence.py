"""Settings of LaVCa and of concepts: what goes together, and addresses without a key in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from scuba_ray.config import ConceptsConfig, EndpointConfig, LavcaConfig

ENDPOINT = {"url": "http://localhost:8000/v1", "model": "m"}


def test_the_defaults_need_no_language_model() -> None:
    assert LavcaConfig().keywords == "frequency" and LavcaConfig().compose == "template"
    assert ConceptsConfig().largest == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keywords": "endpoint"}, "keywords: endpoint needs the group `endpoint`"),
        ({"keywords": "local", "endpoint": ENDPOINT}, "keywords: local needs the group `local`"),
        ({"compose": "language"}, "compose: language needs a language model"),
    ],
)
def test_a_model_that_is_wanted_must_be_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LavcaConfig.model_validate(settings)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://api.example.org/v1/", "http://[::1]:80", "https://x.org"])
def test_addresses(url: str) -> None:
    assert EndpointConfig(url=url, model="m").url == url


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x.org", "https://user:key@x.org/v1", "file://host/etc", "https://x.org/v 1"]
)
def test_no_addresses(url: str) -> None:
    with pytest.raises(ValidationError):
        EndpointConfig(url=url, model="m")


def test_the_variable_of_a_key_is_a_name_and_no_key() -> None:
    assert EndpointConfig.model_validate({**ENDPOINT, "api_key_env": "OPENAI_API_KEY"}).api_key_env == "OPENAI_API_KEY"
    with pytest.raises(ValidationError):
        EndpointConfig.model_validate({**ENDPOINT, "api_key_env": "sk-123-abc"})
