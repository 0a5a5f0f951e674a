"""Scores of captions beside scipy's ranks and the formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import percentileofscore, spearmanr

from scuba_ray.core.scoring import caption_scores, centred_ranks, drive_percentiles, drives


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_scores_are_spearmans_correlation() -> None:
    text_CD, image_SD = unit(5, 16, 0), unit(40, 16, 1)
    response_SV = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)).round(decimals=1)  # with ties
    pairs = torch.tensor([(c, v) for v in range(3) for c in range(5)])
    got = caption_scores(text_CD, image_SD, response_SV, pairs)
    similarity = (text_CD @ image_SD.T).numpy()
    for (c, v), value in zip(pairs.tolist(), got.tolist(), strict=True):
        assert value == pytest.approx(spearmanr(similarity[c], response_SV[:, v]).statistic, abs=1e-6)


def test_what_does_not_vary_has_no_score() -> None:
    assert torch.isnan(centred_ranks(torch.tensor([[1.0, 1.0, 1.0]]))).all()
    assert torch.isnan(centred_ranks(torch.tensor([[1.0]]))).all()
    image_SD, response_SV = unit(10, 4, 0), torch.stack([torch.zeros(10), torch.arange(10.0)], dim=1)
    got = caption_scores(unit(1, 4, 1), image_SD, response_SV, torch.tensor([[0, 0], [0, 1]]))
    assert torch.isnan(got[0]) and torch.isfinite(got[1])
    assert len(caption_scores(unit(1, 4, 1), image_SD, response_SV, torch.empty(0, 2, dtype=torch.int64))) == 0


def test_drives_and_their_percentiles_are_the_formulas() -> None:
    weight_VD, image_SD, text_CD = torch.randn(3, 8), unit(50, 8, 1), unit(6, 8, 2)
    pairs = torch.tensor([(c, v) for v in range(3) for c in range(6)])
    np.testing.assert_allclose(drives(weight_VD, text_CD, pairs), (weight_VD @ text_CD.T).flatten(), rtol=1e-5, atol=1e-6)
    got = drive_percentiles(weight_VD, image_SD, text_CD, pairs)
    images_VS = (weight_VD @ (image_SD - image_SD.mean(0)).T).numpy()
    texts_VC = (weight_VD @ (text_CD - text_CD.mean(0)).T).numpy()
    for (c, v), value in zip(pairs.tolist(), got.tolist(), strict=True):
        assert value == pytest.approx(percentileofscore(images_VS[v], texts_VC[v, c], kind="mean"), abs=1e-4)
