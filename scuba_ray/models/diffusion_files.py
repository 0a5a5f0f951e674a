"""A diffusion model on disk: where it lies, which files make it what it is, whether they are all there, and their fingerprint.

    model_index.json         the pipeline's class; library and class of each part
    scheduler/               scheduler_config.json
    tokenizer*/              tokenizer.json, or vocab.json and merges.txt, or spiece.model
    unet/ vae/ text_encoder*/ transformer/
                             config.json and diffusion_pytorch_model.safetensors or model.safetensors, whole or in shards

Nothing is downloaded, no pickled weights and no code that a model brings along are read, and no diffusers is needed here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scuba_ray.config.synthesis import DiffusionConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.files import digest_files, packaged
from scuba_ray.tables.fingerprint import fingerprint

_INDEX = "model_index.json"
_SETTING = "synthesize.diffusion"
_HUB_NAME = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
_LIBRARIES = ("diffusers", "transformers")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that a text-to-image model may name and that are not loaded: a picture of the brain's is not replaced by a black one."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")
_PICKLED = (".bin", ".ckpt", ".pt", ".pth")
_VARIANTS = (None, "fp16")
"""Names of sets of weights, in order of preference; some models are published in half precision only."""
_TO_SAFETENSORS = (
    "pickled weights can run code, so they are not read; where you trust them, convert them once with diffusers: "
    "`DiffusionPipeline.from_pretrained(OLD, use_safetensors=False).save_pretrained(NEW)`"
)


@dataclass(frozen=True)
class DiffusionFiles:
    """A complete diffusers directory."""

    directory: Path
    pipeline: str
    """Class of the pipeline."""
    parts: Mapping[str, tuple[str, str]]
    """Library and class of each part that is loaded, by name."""
    unused: tuple[str, ...]
    """Parts of `UNUSED` that the pipeline expects to be given."""
    commit: str | None = None
    """Hub names only: the commit that lies in the cache."""
    repository: str | None = None

    @cached_property
    def networks(self) -> dict[str, str | None]:
        """Parts with weights, and which set of weights is read."""
        return {name: _variant(self.directory / name) for name in self.parts if _has_weights(name)}

    def fingerprint(self) -> str:
        """16 hex digits over everything that can change a picture, the same wherever the directory lies.

        A model of the hub is named by its commit and by which of its sets of weights lie here; a directory's files are all read
        (seconds for Stable Diffusion).
        """
        if self.repository is not None:
            return fingerprint("hub", self.commit, self.networks)[:16]
        files = [self.directory / _INDEX]
        for name in sorted(self.parts):
            folder = self.directory / name
            files += sorted(path for kind in ("*.json", "*.txt", "*.model") for path in folder.glob(kind))
            if name in self.networks:
                files += _weights(folder, self.networks[name])
        return digest_files(files).hexdigest()[:16]

    @property
    def keeps_sampler(self) -> bool:
        """Whether it was trained by flow matching (FLUX, SD 3) or on EDM's scale of noise: DPM-Solver++ does not sample it."""
        return "FlowMatch" in self.parts["scheduler"][1] or self.parts["scheduler"][1].startswith("EDM")

    def settings(self, name: str) -> dict[str, Any]:
        """Return what a part's config.json says."""
        settings: dict[str, Any] = json.loads((self.directory / name / "config.json").read_text(encoding="utf-8"))
        return settings

    def check_size(self, size: int | None) -> None:
        """Raise ConfigError unless the model makes square pictures of `size` pixels, or has a size of its own for none."""
        if size is None and "unet" in self.parts and self.settings("unet").get("sample_size") is None:
            raise ConfigError(f"{_SETTING}.size: {self.directory.name} states no size of its own; set one")
        # an autoencoder halves the sides between its blocks; a UNet of pixels does, and wants sides that can be halved
        halving = next((name for name in ("vae", "unet") if name in self.parts), None)
        shrinks = 2 ** (len(self.settings(halving).get("block_out_channels", [1])) - 1) if halving else 1
        # transformers read latents in patches of 2 x 2; Stable Diffusion's pipeline wants multiples of 8 whatever the autoencoder
        step = math.lcm(8, shrinks * (2 if "transformer" in self.parts else 1))
        if size is not None and size % step:
            near = max(step, round(size / step) * step)
            raise ConfigError(f"{_SETTING}.size must be a multiple of {step} for {self.directory.name}, got {size}; try {near}")


def find_diffusion(settings: DiffusionConfig) -> DiffusionFiles:
    """Find a model on this machine and check that its files are there. No weights are read.

    Raises
    ------
    ConfigError
        If it is nowhere, a hub name is not pinned, a part is missing, or its weights or classes are of a kind that is not read.
    """
    if settings.model.startswith("phantom:"):
        directory = packaged(settings.model.removeprefix("phantom:"))
    else:
        try:
            directory = Path(settings.model).expanduser().absolute()
        except RuntimeError as error:
            raise ConfigError(f"{_SETTING}.model: {settings.model!r} begins with the home of nobody here: {error}") from error
    if directory.is_dir():
        if settings.revision is not None:
            raise ConfigError(f"{_SETTING}.revision is for names on the hub, and {settings.model} is a directory; leave it out")
        return _checked(directory)
    if not _HUB_NAME.fullmatch(settings.model):
        raise ConfigError(
            f"{_SETTING}.model: {settings.model!r} is no directory on this machine, no name on the Hugging Face hub (OWNER/NAME) "
            "and not phantom:diffusion"
        )
    return _in_cache(settings.model, settings.revision)


def _in_cache(name: str, revision: str | None) -> DiffusionFiles:
    """A pinned model in Hugging Face's cache."""
    if revision is None:
        raise ConfigError(
            f"{_SETTING}.model: {name!r} is no directory on this machine; for the hub's model of that name set "
            f"{_SETTING}.revision, so that the same pictures can be made again. `hf models info {name}` shows the newest commit "
            "as `sha`"
        )
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    again = f"`hf download {name} --revision {revision}`"
    try:
        directory = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise ConfigError(
            f"{_SETTING}.model: {name!r} at revision {revision} is not in the cache of Hugging Face on this machine "
            f"({constants.HF_HUB_CACHE}); a run downloads no models. Where there is a network run {again}, and copy the cache "
            "(HF_HOME) to every machine that makes pictures; or give a directory"
        ) from error
    return _checked(directory, name, f"; {again} gets what is missing")


def _checked(directory: Path, repository: str | None = None, remedy: str = "; copy the whole directory again") -> DiffusionFiles:
    where = f"{_SETTING}.model: {repository or directory}"
    index = _read_index(directory, where, remedy)
    if not isinstance(index.get("_class_name"), str):
        raise ConfigError(f"{where} brings its own pipeline code ({index.get('_class_name')!r}), which is not run")
    named = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2 and any(value)}
    parts = {name: (str(library), str(kind)) for name, (library, kind) in named.items() if name not in UNUSED}
    foreign = [f"{name} ({library}: {kind})" for name, (library, kind) in parts.items() if library not in _LIBRARIES]
    if foreign:
        raise ConfigError(f"{where} needs classes outside diffusers and transformers, which are not run: {', '.join(foreign)}")
    if "scheduler" not in parts or not any(name in parts for name in ("unet", "transformer")):
        raise ConfigError(
            f"{where}: {_INDEX} names {', '.join(parts) or 'nothing'}; wanted a scheduler and a unet or transformer"
        )
    missing = [problem for name in parts if (problem := _problem(directory / name))]
    if any(problem.endswith("pickled weights") for problem in missing):
        raise ConfigError(f"{where}: {', '.join(missing)}; {_TO_SAFETENSORS}")
    if missing:
        raise ConfigError(f"{where} is not complete: {', '.join(missing)}{remedy}")
    unused = tuple(name for name in UNUSED if name in index)
    commit = directory.name if repository else None
    return DiffusionFiles(directory, index["_class_name"], parts, unused, commit, repository)


def _read_index(directory: Path, where: str, remedy: str) -> dict[str, Any]:
    try:
        index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
        if not isinstance(index, dict):
            raise ValueError("not an object")
    except FileNotFoundError as error:
        hint = remedy
        for path in directory.iterdir():
            if path.suffix in (".safetensors", *_PICKLED):
                hint = (
                    f"; {path.name} is a single-file checkpoint, which diffusers' from_single_file and save_pretrained make one"
                )
        raise ConfigError(f"{where} has no {_INDEX}: not a diffusers directory{hint}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {_INDEX} cannot be read: {error}{remedy}") from error
    return index


def _has_weights(name: str) -> bool:
    return not name.startswith(("scheduler", "tokenizer"))


def _problem(folder: Path) -> str | None:
    """What is wrong with a part's folder, in words; none if nothing is."""
    name = folder.name
    if not folder.is_dir():
        return f"{name}/ is missing"
    if name.startswith("tokenizer"):
        return None if any((folder / file).is_file() for file in _TOKENIZER_FILES) else f"{name}/ has no {_TOKENIZER_FILES[0]}"
    settings = "scheduler_config.json" if name.startswith("scheduler") else "config.json"
    try:
        if not isinstance(json.loads((folder / settings).read_text(encoding="utf-8")), dict):
            return f"{name}/{settings} is no object"
    except FileNotFoundError:
        return f"{name}/ has no {settings}"
    except ValueError:
        return f"{name}/{settings} cannot be read"
    return _problem_of_weights(folder) if _has_weights(name) else None


def _problem_of_weights(folder: Path) -> str | None:
    files = _weights(folder, _variant(folder))
    if not files:
        pickled = any(path.suffix in _PICKLED for path in folder.iterdir())
        return f"{folder.name}/ has only pickled weights" if pickled else f"{folder.name}/ has no safetensors weights"
    shards = re.search(r"-of-(\d{5})", files[0].name)
    if shards and len(files) < int(shards[1]):
        return f"{folder.name}/ has {len(files)} of {int(shards[1])} shards"
    dangling = next((file for file in files if not file.exists()), None)
    if dangling:
        return f"{folder.name}/{dangling.name} is a link to a file that is gone"
    return next((f"{folder.name}/{file.name} is cut off" for file in files if not _is_whole(file)), None)


def _variant(folder: Path) -> str | None:
    return next((variant for variant in _VARIANTS if _weights(folder, variant)), None)


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """A part's weight files, in order."""
    mark = rf"\.{variant}" if variant else ""
    named = re.compile(rf"(diffusion_pytorch_model|model){mark}(-\d{{5}}-of-\d{{5}})?\.safetensors")
    return sorted(path for path in folder.iterdir() if named.fullmatch(path.name))


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its first bytes say it is. Its tensors are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            return True
    except SafetensorError:
        return False
