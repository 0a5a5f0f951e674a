"""Do 1,000 permutations cost less than the fit they test? Ours, in the fit's process, and a loop over permutations."""

from __future__ import annotations

import _report

settings = _report.arguments(
    __doc__, images=4500, test_images=1000, dim=512, voxels=1000, alphas=20, folds=5, permutations=1000, rounds=5
)

import torch  # noqa: E402  (after the thread count is set)

from scuba_ray.core.ridge import fold_of_images, prepare_gram, ridge  # noqa: E402
from scuba_ray.core.statistics import permutation_p  # noqa: E402


def loop(Y_SV: torch.Tensor, P_SV: torch.Tensor) -> torch.Tensor:
    """Separately drawn permutations, one by one."""
    generator = torch.Generator().manual_seed(0)
    Y_SV, P_SV = Y_SV - Y_SV.mean(0), P_SV - P_SV.mean(0)
    observed_V = (Y_SV * P_SV).sum(0)
    reached_V = torch.ones_like(observed_V)
    for _ in range(settings.permutations):
        order_S = torch.randperm(len(Y_SV), generator=generator)
        reached_V += (Y_SV[order_S] * P_SV).sum(0) >= observed_V
    return reached_V / (1 + settings.permutations)


def main() -> None:
    torch.set_num_threads(settings.threads)
    generator = torch.Generator().manual_seed(0)
    X_SD = torch.randn(settings.images + settings.test_images, settings.dim, generator=generator)
    Y_SV = X_SD @ torch.randn(settings.dim, settings.voxels, generator=generator) / settings.dim**0.5
    Y_SV += torch.linspace(1, 60, settings.voxels) * torch.randn(Y_SV.shape, generator=generator)
    X_SD, test_SD = X_SD.split([settings.images, settings.test_images])
    Y_SV, test_SV = Y_SV.split([settings.images, settings.test_images])
    alphas_A = torch.logspace(-2, 5, settings.alphas)
    folds_S = fold_of_images(settings.images, settings.folds, seed=0)
    gram = prepare_gram(X_SD, folds_S)
    fit = ridge(gram, X_SD, Y_SV, alphas_A)
    P_SV = test_SD @ fit.weights_DV + fit.bias_V
    seconds = _report.side_by_side(
        {
            "fit": lambda: ridge(prepare_gram(X_SD, folds_S), X_SD, Y_SV, alphas_A),
            "fit of a block, Gram ready": lambda: ridge(gram, X_SD, Y_SV, alphas_A),
            "permutations": lambda: permutation_p(test_SV, P_SV, permutations=settings.permutations, seed=0),
            "loop over permutations": lambda: loop(test_SV, P_SV),
        },
        settings.rounds,
    )
    difference_V = permutation_p(test_SV, P_SV, permutations=settings.permutations, seed=0) - loop(test_SV, P_SV)
    _report.report(
        settings,
        seconds,
        permutations_over_fit=_report.ratio(seconds, "permutations", "fit"),
        permutations_over_block_fit=_report.ratio(seconds, "permutations", "fit of a block, Gram ready"),
        loop_over_permutations=_report.ratio(seconds, "loop over permutations", "permutations"),
        p_minus_loop={"mean": float(difference_V.mean()), "largest": float(difference_V.abs().max())},
    )


if __name__ == "__main__":
    main()
