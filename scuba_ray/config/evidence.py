"""Settings of captions made another way: LaVCa's keywords of the nearest pictures, and one caption per concept of a voxel."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scuba_ray.config.parts import Part, registered


class EndpointConfig(Part):
    # base address of an OpenAI-compatible service, without /chat/completions: http://localhost:8000/v1. Not part of a result's
    # fingerprint: the same model answers the same wherever it runs
    url: str = Field(
        pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$", description="an http(s) address without a name or key in it; keys: api_key_env"
    )
    # name of the model there
    model: str = Field(min_length=1)
    # environment variable that holds the key, on every machine that runs workers; none sends no key. The key is never stored
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the name of an environment variable")
    # seconds until a request counts as failed
    timeout: float = Field(60.0, gt=0)
    # requests in flight at once, of each worker; larger is faster until the service says 429
    concurrency: int = Field(8, ge=1)
    # how often a request is repeated after 429, 5xx, a timeout or a broken connection, and the first pause in seconds; pauses
    # double, with jitter, and are as long as the service asks (Retry-After) if that is no longer than `longest_pause`
    retries: int = Field(4, ge=0)
    pause: float = Field(0.5, gt=0)
    longest_pause: float = Field(60.0, gt=0)
    # longest answer, tokens
    max_tokens: int = Field(512, ge=1)


class LocalModelConfig(Part):
    # a causal language model of Hugging Face: a directory, or a name that is in this machine's cache. Nothing is downloaded
    model: str = Field(min_length=1)
    # longest answer, tokens
    max_tokens: int = Field(128, ge=1)
    # prompts answered together; larger is faster until memory ends
    batch: int = Field(8, ge=1)
    precision: Literal["float32", "float16", "bfloat16"] = "float32"


class DescribeConfig(Part):
    # what describes a picture: none is the run's captioner, decoding greedily from the picture's own embedding. Or an
    # image-to-text model of Hugging Face: a directory, or a name that is in this machine's cache. Nothing is downloaded
    model: str | None = None
    # what such a model is told beside the picture, if it wants to be told something
    prompt: str | None = None
    # where it reads the pictures: a registered image source and its location; none is the bank's own `images`
    source: Annotated[str, registered("images")] = "folder"
    images: str | None = None
    # longest description, tokens
    max_tokens: int = Field(40, ge=1)
    # pictures described together; larger is faster until memory ends
    batch: int = Field(32, ge=1)
    # pictures per chunk
    chunk: int = Field(2048, ge=1)


class LavcaConfig(Part):
    # nearest bank pictures whose descriptions are read, at most `project.nearest`
    pictures: int = Field(50, ge=1)
    describe: DescribeConfig = DescribeConfig()
    # what finds candidate keywords in the descriptions. frequency: nouns by tf-idf. endpoint, local: a language model
    keywords: Literal["frequency", "endpoint", "local"] = "frequency"
    endpoint: EndpointConfig | None = None
    local: LocalModelConfig | None = None
    # candidate keywords considered
    considered: int = Field(20, ge=1)
    # inverse temperature of the softmax over candidates of cos(text embedding, w); larger keeps fewer (LaVCa reports that one
    # keyword alone only ties BrainSCUBA, so this is soft)
    beta: float = Field(25.0, gt=0)
    # share of that softmax below which a candidate is dropped, and most that are kept; the best one always is
    threshold: float = Field(0.05, ge=0, lt=1)
    keep: int = Field(5, ge=1)
    # template: "A photo of X, Y and Z." language: the model that found the keywords writes `candidates` sentences, and the one
    # nearest to w is taken
    compose: Literal["template", "language"] = "template"
    candidates: int = Field(5, ge=1)
    # projections per chunk (six rows a voxel)
    chunk: int = Field(1536, ge=1)

    @model_validator(mode="after")
    def _has_its_model(self) -> LavcaConfig:
        for name, group in (("endpoint", self.endpoint), ("local", self.local)):
            if self.keywords == name and group is None:
                raise ValueError(f"keywords: {name} needs the group `{name}`, which names the model")
        if self.compose == "language" and self.keywords == "frequency":
            raise ValueError("compose: language needs a language model: set keywords to endpoint or local")
        return self


class ConceptsConfig(Part):
    # nearest bank pictures that are clustered, at most `project.nearest`
    pictures: int = Field(50, ge=1)
    # inverse temperature of the softmax within a cluster and of the shares. At `project.beta` (150) the mass lies on a few
    # pictures, so that all others' clusters would have none
    beta: float = Field(50.0, gt=0)
    # most concepts of a voxel
    largest: int = Field(4, ge=2)
    # mean silhouette (cosine) below which a voxel's pictures count as one concept; larger finds fewer voxels with several
    threshold: float = Field(0.2, ge=0, lt=1)
    # which of a cluster's beams (or samples) becomes its caption. drive: the one that the voxel's own weights predict the largest
    # response to. logprob: the captioner's best, for comparison; it knows the cluster, but not the voxel
    choose: Literal["drive", "logprob"] = "drive"
    # projections per chunk (six rows a voxel)
    chunk: int = Field(1536, ge=1)
