"""A diffusion model's networks into memory: by the classes it names, complete, on one device, without chatter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scuba_ray.config.synthesis import DiffusionConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.batches import is_out_of_memory
from scuba_ray.models.diffusion_files import DiffusionFiles
from scuba_ray.protocols import ImageRequest

if TYPE_CHECKING:
    import numpy as np
    import torch

_PRECISION_KEYWORD = {"diffusers": "torch_dtype", "transformers": "dtype"}


def load_pipeline(
    files: DiffusionFiles, settings: DiffusionConfig, device: str, reader: str = "AutoPipelineForText2Image"
) -> Any:
    """Return diffusers' pipeline, on `device`, in the precision asked for, with the sampler asked for.

    No safety checker, no watermark. A network that lacks weights is refused: it would go on with random ones. `reader` is the
    class of diffusers that makes it: text-to-image models only, or `DiffusionPipeline` for any.

    Raises
    ------
    ConfigError
        If its classes are unknown or its weights do not fit them.
    """
    import diffusers
    import torch
    from safetensors import SafetensorError

    given: dict[str, Any] = dict.fromkeys(files.unused)
    if "safety_checker" in given:
        given["requires_safety_checker"] = False
    dtype = getattr(torch, settings.precision)
    with quiet():
        try:
            networks = {name: _network(files, name, dtype) for name in files.networks}
            maker = getattr(diffusers, reader)
            pipeline = maker.from_pretrained(files.directory, local_files_only=True, **networks, **given)
            if settings.scheduler == "dpm-solver++" and not files.keeps_sampler:
                pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
                    pipeline.scheduler.config, algorithm_type="dpmsolver++", solver_order=2
                )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError) as error:
            if is_out_of_memory(error):
                raise
            raise ConfigError(
                f"synthesize.diffusion.model: diffusers cannot load {files.directory} ({files.pipeline}) with {reader}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None  # Stable Diffusion XL hides one where a package for it happens to be installed
    pipeline.set_progress_bar_config(disable=True)
    with quiet():
        return pipeline.to(device)


def _network(files: DiffusionFiles, name: str, dtype: Any) -> Any:
    library, kind = files.parts[name]
    network, told = getattr(import_module(library), kind).from_pretrained(
        files.directory / name, use_safetensors=True, local_files_only=True, variant=files.networks[name],
        output_loading_info=True, **{_PRECISION_KEYWORD[library]: dtype},
    )  # fmt: skip
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise ValueError(f"{len(missing)} weights of {name} are in none of its files: {missing[0]}, ...")
    return network


def pixels_of(pictures_B3HW: torch.Tensor, batch: Sequence[ImageRequest], remedy: str) -> list[np.ndarray]:
    """Return pictures in [0, 1] as uint8 (H, W, 3) each.

    Raises
    ------
    DataError
        If one is not finite; `remedy` says what to do.
    """
    import torch

    finite_B = pictures_B3HW.isfinite().flatten(1).all(1).tolist()
    if not all(finite_B):
        seeds = sorted({request.seed for request, finite in zip(batch, finite_B, strict=True) if not finite})
        raise DataError(f"pictures of {len(seeds)} seeds have no finite pixels (the first is {seeds[0]}); set {remedy}")
    return list((pictures_B3HW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy())


@contextmanager
def quiet() -> Iterator[None]:
    """Neither progress bars nor advice from diffusers and transformers; both are as they were afterwards."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    found = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in (of_diffusers, of_transformers)]
    for library, _, _ in found:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in found:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
