"""The published optimiser against torch's own loop, and the jitter against its definition."""

import pytest
import torch

from scuba_ray.core.sgd import jitter, sgd


def problem(images=70, dim=6, voxels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X_SD = torch.nn.functional.normalize(torch.randn(images, dim, generator=generator) + 0.5, dim=1)
    Y_SV = X_SD @ torch.randn(dim, voxels, generator=generator) + 0.1 * torch.randn(images, voxels, generator=generator)
    return X_SD, Y_SV


def test_equals_a_plain_training_loop_from_the_same_start():
    X_SD, Y_SV = problem()
    fitted = sgd(lambda epoch: X_SD * (1 + epoch / 10), Y_SV, seed=4, epochs=7, batch=16, learning_rate=1e-2)
    head = torch.nn.Linear(6, 5)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1.5e-2)
    generator = torch.Generator().manual_seed(4)
    for epoch in range(7):
        optimiser.param_groups[0]["lr"] = 1e-2 * 0.5 ** (epoch / 100)
        for rows in torch.randperm(70, generator=generator).split(16):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(head(X_SD[rows] * (1 + epoch / 10)), Y_SV[rows]).backward()
            optimiser.step()
    # the reference averages over voxels; AdamW divides that factor out but for its epsilon
    torch.testing.assert_close(fitted.weights_DV, head.weight.detach().T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.bias_V, head.bias.detach(), rtol=1e-4, atol=1e-5)


def test_approaches_least_squares():
    X_SD, Y_SV = problem(images=200)
    fitted = sgd(lambda _: X_SD, Y_SV, seed=0, epochs=150, learning_rate=1e-2, weight_decay=0)
    design = torch.cat([X_SD, torch.ones(200, 1)], 1)
    solution = torch.linalg.lstsq(design, Y_SV).solution
    torch.testing.assert_close(fitted.weights_DV, solution[:6], rtol=0.1, atol=0.05)
    assert (fitted.loss_V < 0.02).all()


def test_blocks_of_voxels_give_what_all_give_together():
    X_SD, Y_SV = problem(voxels=9)
    together = sgd(lambda _: X_SD, Y_SV, seed=1, epochs=30)
    for start, stop in ((0, 1), (1, 6), (6, 9)):
        block = sgd(lambda _: X_SD, Y_SV[:, start:stop], seed=1, epochs=30)
        torch.testing.assert_close(block.weights_DV, together.weights_DV[:, start:stop], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(block.bias_V, together.bias_V[start:stop], rtol=1e-4, atol=1e-6)


def test_deterministic_by_seed():
    X_SD, Y_SV = problem()
    first, again, other = (sgd(lambda _: X_SD, Y_SV, seed=seed, epochs=2) for seed in (3, 3, 4))
    assert torch.equal(first.weights_DV, again.weights_DV)
    assert not torch.equal(first.weights_DV, other.weights_DV)


def test_constant_voxel_is_finite():
    X_SD, Y_SV = problem()
    Y_SV[:, 2] = 0.0
    fitted = sgd(lambda _: X_SD, Y_SV, seed=0, epochs=3)
    assert fitted.weights_DV.isfinite().all()
    assert (fitted.weights_DV[:, 2] == 0).all()
    assert fitted.bias_V[2] == 0


def test_what_is_refused():
    X_SD, Y_SV = problem()
    with pytest.raises(ValueError, match=r"features of epoch 0 must be \(70, 6\), got \(60, 6\)"):
        sgd(lambda _: X_SD[:60], Y_SV, seed=0)
    with pytest.raises(ValueError, match="epochs and batch"):
        sgd(lambda _: X_SD, Y_SV, seed=0, epochs=0)
    Y_SV[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 5 voxels"):
        sgd(lambda _: X_SD, Y_SV, seed=0)


MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])


def jittered(pictures_B3HW, seed=0):
    normalised = (pictures_B3HW - MEAN[:, None, None]) / STD[:, None, None]
    result = jitter(normalised, torch.Generator().manual_seed(seed), mean_3=MEAN, std_3=STD)
    return result * STD[:, None, None] + MEAN[:, None, None]


def test_jitter_scales_the_picture_itself_and_adds_noise_after_normalisation():
    level = torch.tensor([0.0, 0.2, 1.0])
    pictures = level[:, None, None, None].expand(3, 3, 64, 64)
    result = jittered(pictures)
    gain = result.mean((1, 2, 3))[1:] / level[1:]
    assert ((gain > 0.945) & (gain < 1.055)).all()
    assert gain[0] != pytest.approx(gain[1].item(), abs=1e-3)
    assert abs(result[0].mean().item()) < 1e-3  # black stays black
    noise = (result - result.mean((2, 3), keepdim=True)).std((0, 2, 3)) / STD
    torch.testing.assert_close(noise, torch.full((3,), 0.05), rtol=0.03, atol=0)


def test_jitter_shifts_the_whole_batch_by_at_most_four_pixels_and_repeats_the_edge():
    ramp = torch.linspace(0, 10, 41).expand(2, 3, 41, 41)  # steps of .25, five times the noise
    shifts = set()
    for seed in range(80):
        result = jittered(ramp, seed)
        gain = (result[:, :, :, -8:-4].mean((1, 2, 3)) - result[:, :, :, 8:12].mean((1, 2, 3))) / 6.25
        row = result.mean((1, 2)) / gain[:, None]
        shift = ((row[:, 5:36] - ramp[0, 0, 0, 5:36]).mean(1) / 0.25).round()
        assert shift[0] == shift[1]
        shifts.add(int(shift[0]))
        if shift[0] < 0:
            assert row[:, : -int(shift[0])].abs().max() < 0.02  # the first column, which is black, repeated
    assert shifts == set(range(-4, 5))


def test_jitter_is_deterministic_by_generator():
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(jittered(pictures, 5), jittered(pictures, 5))
    assert not torch.equal(jittered(pictures, 5), jittered(pictures, 6))
