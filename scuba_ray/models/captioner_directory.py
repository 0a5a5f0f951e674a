"""A captioner on disk.

    captioner.json       format, the backbone it reads (fingerprint and name), shapes, how it was trained
    prefix.safetensors   clip_project.model.{0,2}.{weight,bias}: the published names
    gpt2/                a Hugging Face directory: config.json, model.safetensors, tokenizer.json
    README.md            the model card

The fingerprint covers everything but the card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scuba_ray.errors import ConfigError
from scuba_ray.models.files import digest_files
from scuba_ray.models.prefix_model import PrefixModel

FORMAT = "scuba_ray captioner 1"
_ABOUT, _PREFIX, _GPT2 = "captioner.json", "prefix.safetensors", "gpt2"
_TIED = "gpt.lm_head.weight"


@dataclass(frozen=True)
class CaptionerAbout:
    """What `captioner.json` says."""

    trained_for: str
    """Fingerprint of the backbone whose raw embeddings it reads."""
    backbone: str
    """That backbone's name, for messages."""
    dim: int
    prefix_length: int
    hidden: int
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings it was trained with."""


def write_captioner(
    out: Path, model: PrefixModel, tokenizer: Any, about: CaptionerAbout, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write a captioner directory, `captioner.json` last: a directory without it is not a captioner yet."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    prefix = {name: tensor for name, tensor in state.items() if name.startswith("clip_project.")}
    save_file(prefix, out / _PREFIX, metadata={"format": "pt"})
    # lm_head shares the tensor of the input embedding: Hugging Face directories leave it out and tie it on loading
    gpt = {name[4:]: tensor for name, tensor in state.items() if name.startswith("gpt.") and name != _TIED}
    model.gpt.config.save_pretrained(out / _GPT2)
    save_file(gpt, out / _GPT2 / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(out / _GPT2)
    text = json.dumps({"format": FORMAT, **asdict(about)}, indent=2)
    (out / _ABOUT).write_text(text + "\n", encoding="utf-8")


def read_about(directory: Path) -> CaptionerAbout:
    """Read `captioner.json` and check that the files it speaks of are there.

    Raises
    ------
    ConfigError
        If this is not a complete captioner directory.
    """
    if not directory.is_dir():
        raise ConfigError(f"captioner {directory}: no such directory; `scuba captioner train` writes one")
    try:
        settings = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        if settings.pop("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT!r}")
        about = CaptionerAbout(**settings)
    except FileNotFoundError as error:
        raise ConfigError(f"captioner {directory} has no {_ABOUT}: not a captioner, or its training has not ended") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"captioner {directory}: {_ABOUT} cannot be read: {type(error).__name__} {error}") from error
    for path in (_PREFIX, f"{_GPT2}/config.json", f"{_GPT2}/model.safetensors", f"{_GPT2}/tokenizer.json"):
        if not (directory / path).is_file():
            raise ConfigError(f"captioner {directory}: {path} is missing; copy the whole directory again")
    return about


def captioner_fingerprint(directory: Path) -> str:
    """Return 16 hex digits over everything that can change a caption, the same wherever the directory lies."""
    parts = [_ABOUT, _PREFIX, f"{_GPT2}/config.json", f"{_GPT2}/model.safetensors", f"{_GPT2}/tokenizer.json"]
    return digest_files(directory / part for part in parts).hexdigest()[:16]


def read_captioner(directory: Path) -> PrefixModel:
    """Load a captioner's network in float32, on the CPU.

    Raises
    ------
    ConfigError
        If the directory is incomplete or its weights do not fit its settings.
    """
    about = read_about(directory)
    from transformers import GPT2Config

    model = PrefixModel(about.dim, about.prefix_length, GPT2Config.from_pretrained(directory / _GPT2), about.hidden)
    try:
        state = load_file(directory / _PREFIX)
        state |= {f"gpt.{name}": tensor for name, tensor in load_file(directory / _GPT2 / "model.safetensors").items()}
        state.setdefault(_TIED, state["gpt.transformer.wte.weight"])
        model.load_state_dict(state)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ConfigError(f"captioner {directory}: its weights do not fit its settings: {error}") from error
    return model


def gpt2_directory(directory: Path) -> Path:
    """Return where a captioner's language model and tokenizer lie."""
    return directory / _GPT2


def write_model_card(directory: Path, *, title: str, data: str, scores: Mapping[str, float | str]) -> None:
    """Write README.md: what the captioner was trained on, how, and how well it does.

    Parameters
    ----------
    directory
        A captioner directory.
    title
        Heading of the card.
    data
        Prose: the pairs it saw, and what was held out.
    scores
        Name of a measure to its value; may be empty when nothing was measured.
    """
    about = read_about(directory)
    lines = [
        f"# {title}",
        "",
        f"A CLIPCap-style captioner: an MLP turns a raw embedding of **{about.backbone}** (fingerprint `{about.trained_for}`, "
        f"{about.dim} numbers) into {about.prefix_length} vectors that a GPT-2 continues to a sentence. "
        "It reads no other backbone's embeddings.",
        "",
        "## Data",
        "",
        data,
        "",
        "## Training",
        "",
        *[f"- {name.replace('_', ' ')}: {value}" for name, value in about.training.items()],
        "",
        "## Scores",
        "",
        *([f"- {name}: {value:.3f}" if isinstance(value, float) else f"- {name}: {value}" for name, value in scores.items()]
          or ["Not measured."]),
    ]  # fmt: skip
    (directory / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
