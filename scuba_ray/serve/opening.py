"""What a finished run's configuration names, opened for a replica."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scuba_ray.bank.shards import BankFolder, open_bank
from scuba_ray.config import RunConfig
from scuba_ray.config.serve import ReplicasConfig, ServeConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.protocols import Backbone
from scuba_ray.stages.study import backbone_of


def captioned_backbone(config: RunConfig) -> Backbone:
    """The backbone whose weights are projected and captioned; nothing is loaded. Raises ConfigError if there is none."""
    return backbone_of(make_captioner(config.caption), tuple(map(make_backbone, config.backbones)))


def bank_of(settings: ServeConfig, config: RunConfig, reader: Backbone) -> BankFolder:
    """The bank of a run: one that was built before, or the run's own. Raises ConfigError if it is not there any more."""
    return open_bank(config.bank.path or settings.run, reader)


def device_of(settings: ServeConfig, config: RunConfig, replicas: ReplicasConfig, name: str) -> str:
    """Where a model computes.

    Raises
    ------
    ConfigError
        If that does not fit what a replica reserves: Ray gives each its GPU.
    """
    device = settings.device or config.device
    if device == "cpu" and replicas.gpus:
        raise ConfigError(f"{name}.gpus is {replicas.gpus:g} but device is cpu: set device to cuda, or reserve none")
    if device != "cpu" and not replicas.gpus:
        raise ConfigError(f"{name} computes on {device} and reserves no GPU: set {name}.gpus, or device to cpu")
    if device not in {"cpu", "cuda"}:
        raise ConfigError(f"device is {device}: Ray gives each replica its GPU, so set device to cuda")
    return device


def directions(what: str, direction_VD: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """Vectors of a call as rows (V, dim), float32, C-contiguous.

    Raises
    ------
    DataError
        If they have another length, or rows that are all zero or not finite; the message counts rows from 0.
    """
    direction_VD = np.ascontiguousarray(direction_VD, np.float32)
    if direction_VD.ndim != 2 or direction_VD.shape[1] != dim:
        raise DataError(f"{what} must have {dim} numbers each, got an array of shape {direction_VD.shape}")
    wrong_V = ~(np.isfinite(direction_VD).all(axis=1) & direction_VD.any(axis=1))
    if wrong_V.any():
        rows = ", ".join(map(str, np.flatnonzero(wrong_V)[:10]))
        raise DataError(f"{what} must be finite and not all zero; they are not in rows {rows}")
    return direction_VD
