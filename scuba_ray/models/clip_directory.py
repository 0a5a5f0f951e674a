"""A backbone on disk: which files of an open_clip directory make it what it is, whether they are there, and their fingerprint.

An open_clip directory is what `local-dir:PATH` means to open_clip itself: `open_clip_config.json` (`model_cfg` and
`preprocess_cfg`), one checkpoint (`open_clip_model.safetensors` first), and a tokenizer where `text_cfg.hf_tokenizer_name` is
set (its value is never looked up: open_clip then reads the tokenizer from the directory itself). No open_clip is needed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scuba_ray.errors import ConfigError
from scuba_ray.models.files import digest_files

CONFIG_FILE = "open_clip_config.json"
# open_clip's own order of preference (open_clip.factory._find_checkpoint_in_dir)
_CHECKPOINTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def read_model_config(directory: Path) -> dict[str, Any]:
    """Return `model_cfg` of an open_clip directory, once the directory is known to be complete.

    Raises
    ------
    ConfigError
        If the directory, its configuration, its checkpoint or its tokenizer is missing or unreadable.
    """
    if not directory.is_dir():
        raise ConfigError(f"local-dir:{directory}: no such directory; it should hold {CONFIG_FILE} and a checkpoint")
    try:
        settings = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        config = settings["model_cfg"]
        text, _ = config["text_cfg"], config["vision_cfg"]
        int(config["embed_dim"])
    except FileNotFoundError as error:
        raise ConfigError(f"local-dir:{directory} has no {CONFIG_FILE}; open_clip's push_to_hf_hub writes one") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"local-dir:{directory}: {CONFIG_FILE} must hold model_cfg with embed_dim, vision_cfg and text_cfg; "
            f"problem: {type(error).__name__} {error}"
        ) from error
    checkpoint_in(directory)
    if text.get("hf_tokenizer_name") and not any((directory / name).is_file() for name in _TOKENIZER_FILES):
        raise ConfigError(
            f"local-dir:{directory}: text_cfg.hf_tokenizer_name is set, so the tokenizer must lie in the directory "
            "(tokenizer.json and tokenizer_config.json); copy it there"
        )
    return dict(config)


def read_preprocessing(directory: Path) -> dict[str, Any]:
    """Return what an open_clip directory states about preprocessing (`preprocess_cfg`), perhaps nothing."""
    settings = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    return dict(settings.get("preprocess_cfg") or {})


def checkpoint_in(directory: Path) -> Path:
    """Return the checkpoint that open_clip would load from `directory`. Raises ConfigError if there is none."""
    found = sorted(path for suffix in ("safetensors", "bin", "pth") for path in directory.glob(f"*.{suffix}"))
    if not found:
        raise ConfigError(f"local-dir:{directory} has no checkpoint; put {_CHECKPOINTS[0]} there")
    preferred = [directory / name for name in _CHECKPOINTS if directory / name in found]
    safe = [path for path in found if path.suffix == ".safetensors"]
    return (preferred or safe or found)[0]


def directory_fingerprint(directory: Path) -> str:
    """Return 16 hex digits over configuration, checkpoint and tokenizer: the same wherever the directory lies.

    Nothing is remembered between calls, so a changed file always shows (0.5 s for the 600 MB of a ViT-B/32).
    """
    read_model_config(directory)
    tokenizer = [directory / name for name in _TOKENIZER_FILES if (directory / name).is_file()]
    return digest_files([directory / CONFIG_FILE, checkpoint_in(directory), *tokenizer]).hexdigest()[:16]
