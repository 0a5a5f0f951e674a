"""How fast steps were on machines that were measured: what estimates are made of.

Every rate names its source, a file of `benchmarks/`; a test holds the two together. A rate is work per second of one CPU core, or
of one H100. Work is counted in what a step's time grows with: pictures, trials, sentences, voxels x images x length of embedding.
Steps that are not in here were not measured. Another machine, model or disk has other rates.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Work per second."""

    per_second: float
    work: str
    """What it counts."""
    source: str


_CPU = "two cores of an AMD EPYC"
CPU = {
    "read": Rate(750 / 4.117206, "trials of NSD, 15,000 voxels each", f"results/nsd_session.json, {_CPU}"),
    "fit": Rate(1_000 * 4_500 * 512 / (2 * 0.924447), "voxels x images x length", f"results/permutations.json, {_CPU}"),
    "project": Rate(512 * 1e6 * 512 / 22.384332, "voxels x images x length", f"results/projection_million.json, {_CPU}"),
    "caption": Rate(8.067396 / 2, "sentences of GPT-2 small", f"results/captions.json, {_CPU}"),
    "caption phantom": Rate(338.017403 / 2, "sentences of the phantom's captioner", f"results/captions.json, {_CPU}"),
    "encode phantom": Rate(337.749082, "pictures through the phantom's network", f"results/bank_build.json, {_CPU}"),
}
"""Per second of one core."""
CUDA = {
    "fit": Rate(20_000 * 9_000 * 512 / 0.05695081, "voxels x images x length", "gpu/rates.json, one H100"),
    "project": Rate(4_096 * 500_000 * 512 / 0.211481419, "voxels x images x length", "gpu/rates.json, one H100"),
    "caption": Rate(1_126.769906, "sentences of GPT-2 small", "gpu/rates.json, one H100"),
    "caption phantom": Rate(15_442.208372, "sentences of the phantom's captioner", "gpu/rates.json, one H100"),
    "encode": Rate(19_448.866603, "pictures through ViT-B/32, decoded already", "gpu/rates.json, one H100"),
    "encode phantom": Rate(200_419.589371, "pictures through the phantom's network, decoded already", "gpu/rates.json, one H100"),
}
"""Per second of one GPU. Decoding of pictures is not in here: it is CPU work, and the disk's."""


def rate_of(step: str, device: str, *, phantom: bool = False) -> Rate | None:
    """The rate of a step on `device`, with `phantom` of the phantom's small networks; None where it was not measured."""
    rates = CPU if device == "cpu" or step == "read" else CUDA
    return rates.get(f"{step} phantom" if phantom and step in {"encode", "caption"} else step)
