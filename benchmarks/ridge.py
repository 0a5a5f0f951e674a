"""How fast is a fit with one alpha per voxel? Ours against himalaya's RidgeCV: same folds, alphas, threads and process.

himalaya runs on its torch backend in float32, as its users run it, whole and with alphas in batches; the faster of the two
counts. Ours is float64 inside. Coefficients are compared with himalaya's in float64.
"""

from __future__ import annotations

import _report

settings = _report.arguments(__doc__, images=4500, dim=512, voxels=1000, alphas=20, folds=5, rounds=3)

import torch  # noqa: E402  (after the thread count is set)
from himalaya.backend import set_backend  # noqa: E402
from himalaya.ridge import RidgeCV  # noqa: E402
from sklearn.model_selection import PredefinedSplit  # noqa: E402

from scuba_ray.core.ridge import RidgeFit, fold_of_images, prepare_gram, ridge  # noqa: E402


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings with the falling spectrum and the common direction of CLIP's, voxels from nearly noiseless to noise."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    basis_DD = torch.linalg.qr(randn(settings.dim, settings.dim)).Q
    X_SD = (randn(settings.images, settings.dim) * torch.logspace(0, -1.5, settings.dim)) @ basis_DD + 0.2
    X_SD = torch.nn.functional.normalize(X_SD, dim=1)
    signal_SV = X_SD @ randn(settings.dim, settings.voxels)
    return X_SD, signal_SV / signal_SV.std(0) + torch.linspace(0.5, 6, settings.voxels) * randn(*signal_SV.shape)


def himalaya(
    X_SD: torch.Tensor, Y_SV: torch.Tensor, alphas_A: torch.Tensor, folds_S: torch.Tensor, alphas_batch: int | None = None
) -> RidgeCV:
    params = {"local_alpha": True, "warn": False, "n_alphas_batch": alphas_batch}
    model = RidgeCV(alphas=alphas_A, fit_intercept=True, cv=PredefinedSplit(folds_S.numpy()), solver_params=params)
    return model.fit(X_SD, Y_SV)


def agreement(fit: RidgeFit, reference: RidgeCV) -> dict[str, float]:
    same_V = torch.isclose(fit.alpha_V.double(), reference.best_alphas_, rtol=1e-5)
    error_V = (fit.weights_DV - reference.coef_).norm(dim=0) / reference.coef_.norm(dim=0)
    return {
        "share_of_voxels_with_the_same_alpha": float(same_V.double().mean()),
        "coefficients_relative": float(error_V[same_V].max()),
        "intercept": float((fit.bias_V - reference.intercept_)[same_V].abs().max()),
        "distinct_alphas_chosen": len(fit.alpha_V.unique()),
    }


def main() -> None:
    torch.set_num_threads(settings.threads)
    set_backend("torch")
    X_SD, Y_SV = problem()
    alphas_A = torch.logspace(-2, 5, settings.alphas)
    folds_S = fold_of_images(settings.images, settings.folds, seed=0)
    gram = prepare_gram(X_SD, folds_S)
    seconds = _report.side_by_side(
        {
            "ours, Gram once a subject": lambda: prepare_gram(X_SD, folds_S),
            "ours, a block of voxels": lambda: ridge(gram, X_SD, Y_SV, alphas_A),
            "ours": lambda: ridge(prepare_gram(X_SD, folds_S), X_SD, Y_SV, alphas_A),
            "himalaya": lambda: himalaya(X_SD, Y_SV, alphas_A, folds_S),
            "himalaya, alphas in batches of 5": lambda: himalaya(X_SD, Y_SV, alphas_A, folds_S, 5),
        },
        settings.rounds,
    )
    seconds["himalaya, faster"] = [min(pair) for pair in zip(*(seconds[n] for n in seconds if "himalaya" in n), strict=True)]
    fit = ridge(gram, X_SD, Y_SV, alphas_A)
    reference = himalaya(X_SD.double(), Y_SV.double(), alphas_A.double(), folds_S)
    _report.report(
        settings,
        seconds,
        himalaya_over_ours=_report.ratio(seconds, "himalaya, faster", "ours"),
        agreement_with_himalaya_float64=agreement(fit, reference),
    )


if __name__ == "__main__":
    main()
