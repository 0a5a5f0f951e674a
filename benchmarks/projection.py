"""Is projecting on the bank as cheap as its two matrix products? Ours against the published loop and against bare products.

Ours computes everything a run needs: five partitions and the whole bank, the 64 nearest images of each, n_eff, agreement of
partitions and halves. The published loop (four voxels at a time over the whole bank) computes one projection. Bare products are
the same tiles without a softmax. All three have the bank in memory as float32; `ours, from disk` is what a run does: shards on
disk in float16, read anew, cut into segments, brought to unit length. Memory is asked of it, for a bank and one ten times larger.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tempfile import TemporaryDirectory

import _report

settings = _report.arguments(__doc__, voxels=256, images=50_000, dim=512, tile=8192, beta=150.0, rounds=5)

import torch  # noqa: E402  (after the thread count is set)
from _bank import directions, project_from_disk, stage_at, stored_bank, write_bank  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from scuba_ray.core.projection import Projection, empty_state, finish, update  # noqa: E402
from scuba_ray.core.vectors import cosine  # noqa: E402

Bank = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


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


def extra_memory(folder: str) -> float:
    """MiB that projecting from disk needs at its peak. Asked of a fresh process: an older one holds memory it can use again."""
    torch.set_num_threads(settings.threads)
    stage, directions_VD = stage_at(folder, settings), directions(settings)
    with _report.peak_memory() as peak:
        project_from_disk(stage, directions_VD)
    return peak["mib"]


def main() -> None:
    torch.set_num_threads(settings.threads)
    directions_VD = directions(settings)
    with TemporaryDirectory() as small, TemporaryDirectory() as large:
        sizes = {settings.images: small, 10 * settings.images: large}
        for images, folder in sizes.items():
            write_bank(folder, images, settings.dim)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
            memory = dict(zip(map(str, sizes), fresh.map(extra_memory, sizes.values()), strict=True))
        bank, stage = stored_bank(stage_at(small, settings).bank), stage_at(small, settings)
        seconds = _report.side_by_side(
            {
                "bare products": lambda: bare(bank, directions_VD),
                "ours": lambda: ours(bank, directions_VD),
                "ours, from disk": lambda: project_from_disk(stage, directions_VD),
                "published loop": lambda: published(bank, directions_VD),
            },
            settings.rounds,
        )
    _report.report(
        settings,
        seconds,
        published_over_ours=_report.ratio(seconds, "published loop", "ours"),
        ours_over_bare=_report.ratio(seconds, "ours", "bare products"),
        from_disk_over_bare=_report.ratio(seconds, "ours, from disk", "bare products"),
        extra_memory_mib_by_images_on_disk=memory,
        error_against_float64=accuracy(bank, directions_VD),
    )


if __name__ == "__main__":
    main()
