"""Checkpoints of a captioner's training: weights, optimiser state, random state and step, in one directory that appears at once.

`OUT/checkpoint-00001000/`: model.safetensors, optimizer.pt (read with `weights_only=True`), state.json. The newest one is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from scuba_ray.errors import ConfigError

_PATTERN = "checkpoint-????????"


def save_checkpoint(
    out: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> None:
    """Write the checkpoint of `step` beside its final name, rename it, and remove older ones."""
    partial = out / "checkpoint-partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # cloned: safetensors refuses tensors that share memory, and GPT-2's input and output embeddings do
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, partial / "model.safetensors")
    cuda = [torch.cuda.get_rng_state(device) for device in range(torch.cuda.device_count())]
    torch.save({"optimizer": optimizer.state_dict(), "random": torch.get_rng_state(), "cuda": cuda}, partial / "optimizer.pt")
    (partial / "state.json").write_text(json.dumps({"step": step, "settings": settings}), encoding="utf-8")
    older = list(out.glob(_PATTERN))
    partial.rename(out / f"checkpoint-{step:08d}")
    for path in older:
        shutil.rmtree(path)


def load_checkpoint(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]) -> int:
    """Restore the newest checkpoint in `out` and return its step; 0, and nothing changed, where there is none.

    Raises
    ------
    ConfigError
        If the checkpoint was made with other settings.
    """
    found = sorted(out.glob(_PATTERN))
    if not found:
        return 0
    state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
    if state["settings"] != dict(settings):
        changed = sorted(name for name, value in settings.items() if state["settings"].get(name) != value)
        raise ConfigError(f"{found[-1]} was made with other settings ({', '.join(changed)}); choose another --out, or remove it")
    model.load_state_dict(load_file(found[-1] / "model.safetensors"))
    kept = torch.load(found[-1] / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["random"])
    if len(kept["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(kept["cuda"])
    return int(state["step"])


def drop_checkpoints(out: Path) -> None:
    """Remove every checkpoint in `out`."""
    for path in [*out.glob(_PATTERN), out / "checkpoint-partial"]:
        shutil.rmtree(path, ignore_errors=True)
