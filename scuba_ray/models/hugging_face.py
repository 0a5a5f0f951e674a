"""Models of Hugging Face by directory or name, from this machine alone: nothing is downloaded while a run computes."""

from __future__ import annotations

from pathlib import Path

from scuba_ray.errors import ConfigError
from scuba_ray.models.files import digest_files

_PARTS = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model", "*.jinja")
"""Files that decide what a model says: configuration, weights, tokenizer, chat template."""


def model_directory(model: str, setting: str) -> Path:
    """Where a model lies: itself a directory, or a name in the local cache. Raises ConfigError, naming `setting`, if nowhere."""
    directory = Path(model).expanduser().absolute()
    if (directory / "config.json").is_file():
        return directory
    if directory.is_dir():
        raise ConfigError(f"{setting}: {directory} has no config.json; it should be a Hugging Face model directory")
    from transformers.utils import cached_file

    try:
        return Path(cached_file(model, "config.json", local_files_only=True)).parent
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{setting}: {model!r} is neither a model directory nor in the cache of Hugging Face on this machine; "
            f"download it first (`hf download {model}`), or give a directory"
        ) from error


def model_fingerprint(directory: Path) -> str:
    """16 hex digits over the files of a model. Reads them all, unless the cache has named them by the commit they are of."""
    if directory.parent.name == "snapshots":
        return directory.name[:16]
    return digest_files(sorted(path for kind in _PARTS for path in directory.glob(kind))).hexdigest()[:16]
