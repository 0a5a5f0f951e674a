"""Is projecting on the bank as cheap as its two matrix products? Ours against the published loop and against bare products.

Ours computes everything a run needs: five partitions and the whole bank, the 64 nearest images of each, n_eff. The published
loop (four voxels at a time over the whole bank) computes one projection. Bare products are the same tiles without a softmax.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import _report

settings = _report.arguments(__doc__, voxels=256, images=50_000, dim=512, tile=8192, beta=150.0, rounds=5)

import torch  # noqa: E402  (after the thread count is set)
from torch.nn.functional import normalize  # noqa: E402

from scuba_ray.core.projection import Projection, empty_state, finish, update  # noqa: E402
from scuba_ray.core.vectors import cosine  # noqa: E402

Bank = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def make_bank(images: int) -> Bank:
    generator = torch.Generator().manual_seed(0)
    unit_KD = torch.empty(images, settings.dim).normal_(generator=generator)
    norm_K = torch.linalg.vector_norm(unit_KD, dim=1)
    unit_KD /= norm_K[:, None]
    return unit_KD, norm_K / settings.dim**0.5 * 10, torch.arange(images) * 5 // images


def bare(bank: Bank, directions_VD: torch.Tensor) -> torch.Tensor:
    buffer_N = torch.empty(len(directions_VD) * settings.tile)
    total_VD = torch.zeros_like(directions_VD)
    for part_KD in bank[0].tensor_split(5):
        for unit_ND in part_KD.split(settings.tile):
            scores_VN = buffer_N[: len(directions_VD) * len(unit_ND)].view(len(directions_VD), len(unit_ND))
            torch.mm(directions_VD, unit_ND.T, out=scores_VN)
            total_VD.addmm_(scores_VN, unit_ND)
    return total_VD


def ours(bank: Bank, directions_VD: torch.Tensor) -> Projection:
    state = empty_state(*directions_VD.shape)
    update(state, directions_VD, *bank, offset=0, beta=settings.beta, tile=settings.tile)
    return finish(state, directions_VD)


def published(bank: Bank, directions_VD: torch.Tensor) -> torch.Tensor:
    unit_KD, norm_K, _ = bank
    results = []
    for start in range(0, len(directions_VD), 4):
        p_VK = torch.softmax(settings.beta * (directions_VD[start : start + 4] @ unit_KD.T), dim=1)
        direction_VD = normalize(p_VK @ unit_KD, dim=1)
        results.append(direction_VD * (p_VK @ norm_K)[:, None])
    return torch.cat(results)


def accuracy(bank: Bank, directions_VD: torch.Tensor) -> dict[str, float]:
    """Against the one-shot formula in float64."""
    unit_KD, norm_K, _ = (part.double() for part in bank)
    p_VK = torch.softmax(settings.beta * directions_VD.double() @ unit_KD.T, dim=1)
    expected_VD = normalize(p_VK @ unit_KD, dim=1) * (p_VK @ norm_K)[:, None]
    got_VD = ours(bank, directions_VD).embedding_PVD[-1].double()
    return {
        "one_minus_cosine": float((1 - cosine(got_VD, expected_VD)).max()),
        "norm_relative": float((got_VD.norm(dim=1) / expected_VD.norm(dim=1) - 1).abs().max()),
    }


def make_directions() -> torch.Tensor:
    return normalize(torch.randn(settings.voxels, settings.dim, generator=torch.Generator().manual_seed(1)), dim=1)


def extra_memory(images: int) -> float:
    """MiB beside the bank. Asked of a fresh process: one that has run before holds memory it can use again."""
    torch.set_num_threads(settings.threads)
    bank, directions_VD = make_bank(images), make_directions()
    with _report.peak_memory() as peak:
        ours(bank, directions_VD)
    return peak["mib"]


def main() -> None:
    torch.set_num_threads(settings.threads)
    sizes = (settings.images, 4 * settings.images)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        memory = dict(zip(map(str, sizes), fresh.map(extra_memory, sizes), strict=True))
    bank, directions_VD = make_bank(settings.images), make_directions()
    contenders = {"bare products": bare, "ours": ours, "published loop": published}
    seconds = _report.side_by_side(
        {name: lambda run=run: run(bank, directions_VD) for name, run in contenders.items()},  # type: ignore[misc]
        settings.rounds,
    )
    _report.report(
        settings,
        seconds,
        published_over_ours=_report.ratio(seconds, "published loop", "ours"),
        ours_over_bare=_report.ratio(seconds, "ours", "bare products"),
        extra_memory_mib_by_images=memory,
        error_against_float64=accuracy(bank, directions_VD),
    )


if __name__ == "__main__":
    main()
