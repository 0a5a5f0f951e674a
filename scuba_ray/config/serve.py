"""Settings of the service: how many replicas of each model answer, how much waits, and what a client may send.

They are no part of a run: the same run can be served in many ways. `scuba serve` takes them by `--set`, `serve deploy` as the
arguments of `scuba_ray.serve.app:app_builder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from scuba_ray.config.messages import in_words
from scuba_ray.config.parts import Part
from scuba_ray.errors import ConfigError

Origin = Annotated[str, Field(pattern=r"^https?://[^/\s*?#@]+$", description="scheme and host, as https://lab.example")]
"""A browser compares origins as text: with a path or a last slash none would ever fit; `*` would let every page in."""

Host = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", description="a host's name in lower case, without port")]


class ReplicasConfig(Part):
    """Of one deployment: replicas, what each holds, and how calls are gathered."""

    # replicas of this deployment: never fewer than min, never more than max; Ray Serve adds some while calls wait
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    # CPU cores and GPUs each replica reserves (fractions share one)
    cpus: float = Field(0.25, ge=0)
    gpus: float = Field(0.0, ge=0)
    # items (pictures, voxels, texts) computed together at most; larger is faster until memory ends
    batch: int = Field(32, ge=1)
    # seconds a call waits for others to be computed with; larger fills batches, and is added to every answer
    wait_seconds: float = Field(0.01, ge=0)
    # calls that a replica takes on at once (those in its batches, and those waiting for the next); at least twice as many as a
    # batch holds, so that one is ready when another ends
    ongoing: int = Field(64, ge=1)
    # calls that wait when all replicas are full; one more is answered 503
    queued: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> ReplicasConfig:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) must be >= min_replicas ({self.min_replicas})")
        if self.ongoing < 2 * self.batch:
            raise ValueError(
                f"ongoing ({self.ongoing}) must be at least twice batch ({self.batch}): one batch is gathered while another is "
                "in work"
            )
        return self


class LimitsConfig(Part):
    """What one request may hold."""

    # MiB of a request's body; more is answered 413
    body_mib: float = Field(32.0, gt=0)
    # pictures, texts, voxels or vectors in one request; more is answered 422
    items: int = Field(256, ge=1)
    # pictures that may be synthesised by one request
    images: int = Field(8, ge=1)
    # characters of a text
    characters: int = Field(1000, ge=1)
    # MiB of one picture's file, and pixels it may unfold to
    picture_mib: float = Field(16.0, gt=0)
    pixels: int = Field(40_000_000, ge=1)
    # seconds after which a decoder that is not done with a picture is ended
    decode_seconds: float = Field(20.0, gt=0)
    # values in one answer (pictures times voxels, or ranked voxels times ten columns); more is answered 422
    values: int = Field(4_000_000, ge=1)
    # seconds after which a request is answered 504
    seconds: float = Field(120.0, gt=0)


class ServeConfig(Part):
    """A run as a service."""

    # folder (or location) of the run
    run: str
    # where models compute: cpu, cuda; none takes the run's own setting
    device: str | None = Field(None, pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")
    # threads of each replica's mathematics
    threads: int = Field(1, ge=1)
    # folder or location below which pictures may be named by URI; none allows no URIs, only pictures sent along
    root: str | None = None
    # environment variable with the bearer token that requests must show; where it is not set, every request is answered
    token_variable: str = "SCUBA_SERVE_TOKEN"
    # origins (https://lab.example) whose pages may call the service from a browser; none by default
    origins: tuple[Origin, ...] = ()
    # names that clients may call the service by (Host), beside localhost and addresses; none given: any name. `scuba serve` on
    # a loopback address without a token starts with []: a web page whose name was pointed at 127.0.0.1 would read the run
    hosts: tuple[Host, ...] | None = None
    # start the deployment that makes images (the run needs a group `synthesize`)
    synthesizer: bool = False
    # actors that hold the bank between them for each projector replica
    holders: int = Field(1, ge=1)
    # subjects whose weights one replica keeps in memory; the one asked for longest ago makes room
    subjects_in_memory: int = Field(3, ge=1)
    limits: LimitsConfig = LimitsConfig()
    ingress: ReplicasConfig = ReplicasConfig(batch=1, ongoing=256, queued=256)
    subjects: ReplicasConfig = ReplicasConfig(batch=1)
    encoder: ReplicasConfig = ReplicasConfig()
    projector: ReplicasConfig = ReplicasConfig(batch=256, ongoing=512)
    captioner: ReplicasConfig = ReplicasConfig(batch=64, ongoing=128)
    nearest: ReplicasConfig = ReplicasConfig(batch=64, ongoing=128)
    synthesis: ReplicasConfig = ReplicasConfig(batch=8, ongoing=16, queued=8)

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, given: Any) -> Any:
        """A setting of a deployment changes that one alone: its others stay its own defaults, not those of `ReplicasConfig`."""
        if not isinstance(given, Mapping):
            return given
        parts = {name: field.default for name, field in cls.model_fields.items() if isinstance(given.get(name), Mapping)}
        own = {name: part.model_dump(exclude_unset=True) for name, part in parts.items() if isinstance(part, ReplicasConfig)}
        return {**given, **{name: {**defaults, **given[name]} for name, defaults in own.items()}}


def serve_config(settings: Mapping[str, Any]) -> ServeConfig:
    """Validate the settings of a service. Raises ConfigError with one line per problem."""
    try:
        return ServeConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(in_words(error, ServeConfig)) from error
