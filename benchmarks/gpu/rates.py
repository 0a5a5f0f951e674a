"""What one GPU does per second: encoding, fitting, projecting, captioning, each beside the thing it should be compared with.

    python benchmarks/gpu/rates.py --out benchmarks/gpu/rates.json

Models have random weights at published sizes (ViT-B/32, CLIPCap on GPT-2 small) and the phantom's own; data are random. Every
figure is the median of repeated runs between device synchronisations, after a warm-up. Needs torch, transformers and open_clip.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import GPT2Config

from scuba_ray.core.beam import beam_search
from scuba_ray.core.projection import empty_state, finish, update
from scuba_ray.core.ridge import fold_of_images, prepare_gram, ridge
from scuba_ray.models.cached_gpt2 import CachedGPT2
from scuba_ray.models.captioner_directory import read_captioner
from scuba_ray.models.files import packaged
from scuba_ray.models.prefix_model import PrefixModel

DEVICE = "cuda"
NEVER = -1
"""A stop token that no beam meets: every sentence has the full number of tokens."""


def median_seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """Median of `rounds` runs, waiting for the device around each; one more goes first."""
    seconds = []
    for turn in range(rounds + 1):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if turn:
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def encode_rates(batch: int = 1024) -> dict[str, Any]:
    """Images per second through the vision towers, float32 and under bf16 autocast, pixels on the device."""
    from open_clip.factory import create_model

    rates: dict[str, Any] = {"batch": batch}
    for name, side, loaded in (
        ("ViT-B-32-quickgelu", 224, create_model("ViT-B-32-quickgelu")),
        ("phantom clip", 64, create_model(f"local-dir:{packaged('clip')}")),
    ):
        model = loaded.to(DEVICE).eval()
        pixels = torch.randn(batch, 3, side, side, device=DEVICE)
        for precision, enabled in (("float32", False), ("bf16", True)):
            with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=enabled):
                rates[f"{name} {precision} images/s"] = batch / median_seconds(lambda m=model, p=pixels: m.encode_image(p))
    return rates


def projection_rates(voxels: int = 4096, images: int = 500_000, dim: int = 512, tile: int = 8192) -> dict[str, Any]:
    """The whole projection (five partitions, 64 nearest, n_eff) against the bare products of the same tiles."""
    unit_KD = normalize(torch.randn(images, dim, device=DEVICE), dim=1)
    norm_K = torch.rand(images, device=DEVICE) + 9
    partition_K = torch.arange(images, device=DEVICE) * 5 // images
    direction_VD = normalize(torch.randn(voxels, dim, device=DEVICE), dim=1)

    def ours() -> torch.Tensor:
        state = empty_state(voxels, dim, device=DEVICE)
        update(state, direction_VD, unit_KD, norm_K, partition_K, offset=0, beta=150.0, tile=tile)
        return finish(state, direction_VD).embedding_PVD[-1]

    def bare() -> torch.Tensor:
        total_VD = torch.zeros_like(direction_VD)
        for unit_ND in unit_KD.split(tile):
            total_VD.addmm_(direction_VD @ unit_ND.T, unit_ND)
        return total_VD

    def published() -> torch.Tensor:
        p_VK = torch.softmax(150.0 * (direction_VD[:256] @ unit_KD.T), dim=1)
        return p_VK @ unit_KD

    results: dict[str, Any] = {"voxels": voxels, "images": images, "dim": dim, "tile": tile}
    results["published_form_ms_per_1000_voxels"] = median_seconds(published, 3) / 256 * 1e6
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        mine, products = median_seconds(ours, 3), median_seconds(bare, 3)
        reached = 4 * voxels * images * dim / mine / 1e12
        results[name] = {"seconds": mine, "bare_seconds": products, "over_bare": mine / products, "tflops": reached}
    torch.backends.cuda.matmul.allow_tf32 = True
    rough = ours()
    torch.backends.cuda.matmul.allow_tf32 = False
    results["tf32_one_minus_cosine"] = float((1 - torch.cosine_similarity(rough, ours(), dim=1)).max())
    return results


def caption_rates(tokens: int = 12, beams: int = 5) -> dict[str, Any]:
    """Captions per second by batch size and precision, with the same number of forced tokens in every sentence."""
    results: dict[str, Any] = {"tokens": tokens, "beams": beams}
    torch.manual_seed(0)
    for name, read in (
        ("phantom captioner", read_captioner(packaged("captioner"))),
        ("GPT-2 small", PrefixModel(512, 10, GPT2Config())),
    ):
        model = read.to(DEVICE).eval().requires_grad_(False)
        said: dict[torch.dtype, torch.Tensor] = {}
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for batch in (1, 64, 256, 1024):
                language = CachedGPT2(model.gpt, dtype)  # one for each: it keeps the memory of its cache
                noise = torch.randn(batch, model.dim, generator=torch.Generator().manual_seed(batch))
                prefix = model.prefix(noise.to(DEVICE) * 3)

                def run(language: CachedGPT2 = language, prefix: torch.Tensor = prefix) -> torch.Tensor:
                    with torch.inference_mode():
                        return beam_search(language, prefix, stop=NEVER, beams=beams, max_tokens=tokens).token_VML[:, 0]

                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
                label = f"{name} {dtype} batch {batch}".replace("torch.", "")
                results[f"{label} captions/s"] = batch / median_seconds(run, 3)
                results[f"{label} peak MiB"] = (torch.cuda.max_memory_allocated() - held) / 2**20
                said[dtype] = run()
            same = (said[dtype] == said[torch.float32]).all(dim=1).float().mean()
            results[f"{name} {dtype} same sentence as float32".replace("torch.", "")] = float(same)
    return results


def ridge_rates(stimuli: int = 9000, dim: int = 512, voxels: int = 20_000) -> dict[str, Any]:
    """A subject's whole fit: 20 alphas, 5 folds."""
    X_SD = normalize(torch.randn(stimuli, dim, device=DEVICE), dim=1)
    Y_SV = torch.randn(stimuli, voxels, device=DEVICE)
    folds_S = fold_of_images(stimuli, 5, seed=0).to(DEVICE)
    alphas_A = torch.logspace(-2, 5, 20, device=DEVICE)
    seconds = median_seconds(lambda: ridge(prepare_gram(X_SD, folds_S), X_SD, Y_SV, alphas_A), 3)
    return {"stimuli": stimuli, "dim": dim, "voxels": voxels, "seconds": seconds, "voxels_per_second": voxels / seconds}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    content: dict[str, Any] = {
        "benchmark": "gpu/rates",
        "device": torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda},
    }
    for name, measure in (
        ("captions", caption_rates),
        ("projection", projection_rates),
        ("encode", encode_rates),
        ("ridge", ridge_rates),
    ):
        content[name] = measure()
        print(name, json.dumps(content[name], indent=1), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
