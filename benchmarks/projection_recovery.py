"""Does the projection give back what a weight pointed at? Known embeddings of held-out pictures plus noise, projected on a bank.

    python benchmarks/projection_recovery.py --out benchmarks/results/projection_recovery.json

The direct test that reviewers of such systems asked for. A direction is the unit embedding of a picture that neither the backbone
nor the bank has seen, turned away from it until its cosine with the truth is a stated value; its projection is held against the
truth. Noise is `isotropic` (the same in every direction of the space) or `natural` (with the covariance of the bank's embeddings,
so that it looks like content). Pictures and backbone are the phantom's; each seed range is used for one thing. A figure is drawn
beside the report.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import _report

settings = _report.arguments(__doc__, threads=1, images=200, bank=16_384, seed=0)

import torch  # noqa: E402  (after the thread count is set)
from PIL import Image  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from scuba_ray.core.projection import Projection, empty_state, finish, update  # noqa: E402
from scuba_ray.core.vectors import cosine, unit_and_norm  # noqa: E402
from scuba_ray.models.clip import OpenClipBackbone  # noqa: E402
from scuba_ray.phantom.clip_scores import MEAN, STD  # noqa: E402
from scuba_ray.phantom.scenes import Drawings, load_drawings, render, sample_drawings, sample_scenes  # noqa: E402
from scuba_ray.phantom.seeds import BANK, HELD_OUT, SUBJECT, generator  # noqa: E402
from scuba_ray.tables.schemas import PARTITIONS  # noqa: E402

COSINES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1)
"""How near the noisy direction is to the truth."""
BETAS = (10.0, 25.0, 50.0, 100.0, 150.0, 400.0)
PUBLISHED = 150.0
NOISES = ("isotropic", "natural")
SHRINK = (16, 4, 1)
"""Banks are the first 1/16, 1/4 and all of the pictures."""
BATCH = 256


def embed(network: OpenClipBackbone, drawings: Drawings, purpose: range, count: int) -> torch.Tensor:
    """Raw embeddings (count, D) of scenes from a range of seeds, drawings as they come."""
    random = generator(purpose, settings.seed)
    scenes = sample_scenes(random, sample_drawings(random, count, drawings))
    pixels = (render(scenes[start : start + BATCH], drawings).float() for start in range(0, count, BATCH))
    return torch.cat([network.embed_images((part / 255 - MEAN) / STD) for part in pixels])


def noisy(truth_VD: torch.Tensor, unit_KD: torch.Tensor, noise: str, level: float) -> torch.Tensor:
    """Directions (V, D) whose cosine with the truth is `level`, the rest of them noise orthogonal to it."""
    random = generator(SUBJECT, settings.seed)
    if noise == "isotropic":
        other_VD = torch.randn(truth_VD.shape, generator=random)
    else:
        weights_VK = torch.randn(len(truth_VD), len(unit_KD), generator=random)
        other_VD = weights_VK @ (unit_KD - unit_KD.mean(0))
    other_VD = normalize(other_VD - (other_VD * truth_VD).sum(1, keepdim=True) * truth_VD, dim=1)
    return level * truth_VD + (1 - level**2) ** 0.5 * other_VD


def project(directions_VD: torch.Tensor, bank: tuple[torch.Tensor, torch.Tensor], beta: float) -> Projection:
    """On five parts of a bank, as a run has them, and on the whole of it."""
    unit_KD, norm_K = bank
    state = empty_state(*directions_VD.shape, PARTITIONS, nearest=1)
    update(state, directions_VD, unit_KD, norm_K, torch.arange(len(unit_KD)) % PARTITIONS, offset=0, beta=beta)
    return finish(state, directions_VD)


def percentile(guess_VD: torch.Tensor, truth_VD: torch.Tensor) -> torch.Tensor:
    """Share of the other held-out pictures that the guess is less like than the true one, (V,): 1 is found, .5 is chance."""
    similar_VV = normalize(guess_VD, dim=1) @ truth_VD.T
    own_V1 = similar_VV.diagonal()[:, None]
    return (similar_VV < own_V1).float().sum(1) / (len(truth_VD) - 1)


def mean(values_V: torch.Tensor) -> float:
    return round(float(values_V.mean()), 4)


def standard_error(values_V: torch.Tensor) -> float:
    return round(float(values_V.std() / len(values_V) ** 0.5), 4)


def conditions(truth_VD: torch.Tensor, unit_KD: torch.Tensor, norm_K: torch.Tensor) -> Iterator[dict[str, Any]]:
    """One result for each noise, level, bank size and beta."""
    for noise in NOISES:
        for level in COSINES:
            directions_VD = noisy(truth_VD, unit_KD, noise, level)
            before_V = percentile(directions_VD, truth_VD)
            for size in (len(unit_KD) // part for part in SHRINK):
                for beta in BETAS:
                    found = project(directions_VD, (unit_KD[:size], norm_K[:size]), beta)
                    guess_VD = found.embedding_PVD[-1]
                    after_V = cosine(guess_VD, truth_VD)
                    yield {
                        "noise": noise,
                        "cosine_before": level,
                        "bank": size,
                        "beta": beta,
                        "cosine_after": mean(after_V),
                        "cosine_after_se": standard_error(after_V),
                        "share_nearer_than_before": mean((after_V > level).float()),
                        "percentile_before": mean(before_V),
                        "percentile_after": mean(percentile(guess_VD, truth_VD)),
                        "n_eff_median": round(float(found.n_eff_PV[-1].median()), 2),
                        "half_agreement_median": round(float(found.half_agreement_V.median()), 4),
                    }


def references(truth_VD: torch.Tensor, unit_KD: torch.Tensor) -> dict[str, Any]:
    """To judge the cosines by: what the bank's mean direction has, and what the bank's picture most like the truth has."""
    sizes = [len(unit_KD) // part for part in SHRINK]
    return {
        "mean_direction_of_bank": mean(cosine(unit_KD.mean(0), truth_VD)),
        "most_similar_bank_picture": {str(size): mean((truth_VD @ unit_KD[:size].T).amax(1)) for size in sizes},
    }


def draw(rows: list[dict[str, Any]], chance: float) -> Image.Image:
    """Four questions, a row of panels for each kind of noise."""
    from matplotlib.figure import Figure

    largest = max(row["bank"] for row in rows)
    figure = Figure(figsize=(15.5, 7.6), layout="constrained")
    for panels, noise in zip(figure.subplots(2, 4), NOISES, strict=True):
        own = [row for row in rows if row["noise"] == noise]
        published = [row for row in own if row["beta"] == PUBLISHED]
        large = [row for row in own if row["bank"] == largest]
        _gain(panels[0], published, chance)
        _found(panels[1], [row for row in large if row["beta"] == PUBLISHED])
        _by_beta(panels[2], large, "cosine_after", "mean cosine of projection with truth")
        _by_beta(panels[3], large, "half_agreement_median", "cosine of two half-banks' projections")
        panels[3].legend(
            frameon=False, fontsize=8, loc="lower left", ncols=2, title="cosine of direction with truth", title_fontsize=8
        )
        sized = f"bank of {largest:,}"
        titles = (
            f"{noise} noise: nearer the truth?",
            f"which picture? (beta 150, {sized})",
            f"which beta? ({sized})",
            f"stable? ({sized})",
        )
        for panel, title in zip(panels, titles, strict=True):
            panel.set_title(title, loc="left", fontsize=10, fontweight="bold" if panel is panels[0] else "normal")
            panel.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return Image.open(buffer).convert("RGB").quantize(96)


def _gain(panel: Any, rows: list[dict[str, Any]], chance: float) -> None:
    for size, colour in zip(sorted({row["bank"] for row in rows}), ("#56B4E9", "#0072B2", "#000000"), strict=True):
        own = [row for row in rows if row["bank"] == size]
        after = [row["cosine_after"] for row in own]
        panel.plot([row["cosine_before"] for row in own], after, "o-", ms=3, color=colour, label=f"bank of {size:,}")
    panel.plot([0, 1], [0, 1], color="#9A9A9A", lw=1)
    panel.text(0.03, 0.93, "above the grey line:\nnearer than before", color="#6A6A6A", fontsize=8, va="center")
    panel.axhline(chance, color="#D55E00", ls=":", lw=1.2)
    panel.text(1.0, chance - 0.05, "the bank's mean", color="#D55E00", fontsize=8, ha="right")
    panel.set(
        xlim=(0, 1.02), ylim=(0, 1.02), xlabel="cosine of direction with truth", ylabel="mean cosine of projection with truth"
    )
    panel.legend(frameon=False, fontsize=8, loc="lower right", title="beta 150", title_fontsize=8)


def _found(panel: Any, rows: list[dict[str, Any]]) -> None:
    level = [row["cosine_before"] for row in rows]
    for name, colour, label in (("before", "#9A9A9A", "direction itself"), ("after", "#000000", "projection")):
        panel.plot(level, [row[f"percentile_{name}"] for row in rows], "o-", ms=3, color=colour, label=label)
    panel.axhline(0.5, color="#D55E00", ls=":", lw=1.2)
    panel.text(1.0, 0.51, "chance", color="#D55E00", fontsize=8, ha="right")
    panel.set(xlim=(0, 1.02), ylim=(0.45, 1.02))
    panel.set(xlabel="cosine of direction with truth", ylabel="share of other pictures it is less like")
    panel.legend(frameon=False, fontsize=8, loc="center right")


def _by_beta(panel: Any, rows: list[dict[str, Any]], field: str, label: str) -> None:
    colours = ("#000000", "#332288", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
    for level, colour in zip(COSINES, colours, strict=True):
        own = [row for row in rows if row["cosine_before"] == level]
        panel.plot([row["beta"] for row in own], [row[field] for row in own], "o-", ms=3, color=colour, label=f"{level:g}")
    panel.axvline(PUBLISHED, color="#9A9A9A", lw=0.8)
    panel.set(xscale="log", ylim=(0, 1.02), xlabel="beta (published: 150)", ylabel=label)
    panel.set_xticks(BETAS, [f"{beta:g}" for beta in BETAS], fontsize=8)
    panel.minorticks_off()


def main() -> None:
    torch.set_num_threads(settings.threads)
    network, drawings = OpenClipBackbone("clip", "phantom:clip").load("cpu"), load_drawings()
    truth_VD, _ = unit_and_norm(embed(network, drawings, HELD_OUT, settings.images))
    unit_KD, norm_K = unit_and_norm(embed(network, drawings, BANK, settings.bank))
    rows, reference = list(conditions(truth_VD, unit_KD, norm_K)), references(truth_VD, unit_KD)
    _report.report(settings, {}, references=reference, conditions=rows)
    if settings.out:
        draw(rows, reference["mean_direction_of_bank"]).save(settings.out.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
