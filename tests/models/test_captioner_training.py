"""A captioner trained on a planted task must learn it, resume bit for bit, and come back from its directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.caption_text import PAD, caption_tokens, load_tokenizer, stop_token, train_caption_tokenizer
from scuba_ray.models.captioner_directory import captioner_fingerprint, read_captioner, write_model_card
from scuba_ray.models.captioner_training import Batches, TrainingSettings, learning_rate, small_gpt2, train_captioner

THINGS = ["a red fox", "a blue bus", "two apples", "an old tall house", "pizza on a plate", "St. Bernard dogs"]
DIM = 12
SETTINGS = TrainingSettings(
    dim=DIM,
    trained_for="feedfacefeedface",
    backbone="tiny",
    steps=30,
    prefix_length=3,
    max_tokens=12,
    learning_rate=3e-3,
    warmup=5,
)


def pairs(first: int, size: int = 16) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Each thing has a direction; its embedding is that direction, scaled and noisy. A step's batch depends on the step only."""
    direction = torch.randn(len(THINGS), DIM, generator=torch.Generator().manual_seed(0)) * 3
    step = first
    while True:
        generator = torch.Generator().manual_seed(1000 + step)
        which = torch.randint(len(THINGS), (size,), generator=generator)
        yield direction[which] + 0.3 * torch.randn(size, DIM, generator=generator), [THINGS[i] for i in which]
        step += 1


def train(
    out: Path, settings: TrainingSettings = SETTINGS, batches: Batches = pairs, dropout: float = 0.1, **keywords: object
) -> Path:
    tokenizer = train_caption_tokenizer(THINGS, 320)
    config = small_gpt2(tokenizer, n_embd=24, n_layer=2, n_head=2, dropout=dropout)
    return train_captioner(batches, settings, tokenizer=tokenizer, language_model=config, out=out, **keywords)  # type: ignore[arg-type]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {**load_file(directory / "prefix.safetensors"), **load_file(directory / "gpt2" / "model.safetensors")}


def test_it_learns_the_planted_task(tmp_path: Path) -> None:
    losses: list[float] = []
    settings = TrainingSettings(**{**SETTINGS.__dict__, "steps": 250})
    train(tmp_path, settings, dropout=0.0, report=lambda _, loss: losses.append(loss), report_every=50)
    assert losses[-1] < 0.1 * losses[0]
    model = read_captioner(tmp_path).eval()
    tokenizer = load_tokenizer(tmp_path / "gpt2")
    embedding, captions = next(iter(pairs(10_000, 64)))
    tokens = caption_tokens(tokenizer, captions, max_tokens=12)
    with torch.no_grad():
        predicted = model(embedding, tokens.clamp_min(0)).argmax(-1)
    assert (predicted == tokens)[tokens != PAD].float().mean() > 0.95
    assert {path.name for path in tmp_path.iterdir()} == {"captioner.json", "prefix.safetensors", "gpt2"}


def test_resuming_continues_bit_for_bit(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def killed_at(stop: int) -> Batches:
        def batches(first: int) -> Iterator[tuple[torch.Tensor, list[str]]]:
            for number, batch in enumerate(pairs(first), first):
                if number == stop:
                    raise KilledError
                yield batch

        return batches

    whole = train(tmp_path / "whole", checkpoint_every=8)
    for stop in (13, 21):
        with pytest.raises(KilledError):
            train(tmp_path / "parts", batches=killed_at(stop), checkpoint_every=8)
        assert len(list((tmp_path / "parts").glob("checkpoint-*"))) == 1
        assert not (tmp_path / "parts" / "captioner.json").exists()
    starts: list[int] = []
    train(tmp_path / "parts", batches=lambda first: (starts.append(first), pairs(first))[1], checkpoint_every=8)  # type: ignore[func-returns-value]
    assert starts == [16]
    expected, got = weights(whole), weights(tmp_path / "parts")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert captioner_fingerprint(whole) == captioner_fingerprint(tmp_path / "parts")


def test_a_finished_captioner_is_not_trained_again_nor_overwritten(tmp_path: Path) -> None:
    train(tmp_path)
    before = captioner_fingerprint(tmp_path)
    train(tmp_path, batches=lambda _: pytest.fail("trained again"))
    assert captioner_fingerprint(tmp_path) == before
    with pytest.raises(ConfigError, match="other settings"):
        train(tmp_path, TrainingSettings(**{**SETTINGS.__dict__, "steps": 31}))


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ended after 12 of 30 steps"):
        train(
            tmp_path,
            batches=lambda first: [batch for batch, _ in zip(pairs(first), range(12), strict=False)],
            checkpoint_every=10,
        )
    with pytest.raises(ConfigError, match="learning_rate"):
        train(tmp_path, TrainingSettings(**{**SETTINGS.__dict__, "learning_rate": 1e-4}))


def test_tokenised_batches_train_as_captions_do(tmp_path: Path) -> None:
    tokenizer = train_caption_tokenizer(THINGS, 320)

    def tokenised(first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for embedding, captions in pairs(first):
            yield embedding, caption_tokens(tokenizer, captions, max_tokens=SETTINGS.max_tokens)

    a, b = weights(train(tmp_path / "a")), weights(train(tmp_path / "b", batches=tokenised))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_gpt2_directory_is_fine_tuned(tmp_path: Path) -> None:
    base = train(tmp_path / "base") / "gpt2"
    short = TrainingSettings(**{**SETTINGS.__dict__, "steps": 1, "learning_rate": 1e-8})
    tuned = train_captioner(pairs, short, tokenizer=load_tokenizer(base), language_model=base, out=tmp_path / "tuned")
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "gpt2" / "model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)


def test_data_and_settings_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(B, 12\)"):
        train(tmp_path, batches=lambda _: [(torch.zeros(4, 5), ["a"] * 4)])
    with pytest.raises(DataError, match="loss is nan"):
        train(tmp_path, batches=lambda _: [(torch.full((4, DIM), torch.nan), ["a"] * 4)] * 30)
    with pytest.raises(ConfigError, match="positions"):
        train(tmp_path, TrainingSettings(**{**SETTINGS.__dict__, "max_tokens": 120}))


def test_captions_end_in_exactly_one_stop_token() -> None:
    tokenizer = train_caption_tokenizer(THINGS, 320)
    end = stop_token(tokenizer, ".")
    rows = caption_tokens(tokenizer, ["St. Bernard dogs", " pizza . ", "pizza", "", "two apples " * 30], max_tokens=12)
    assert (rows == end).sum(1).tolist() == [1] * 5
    assert torch.equal(rows[1], rows[2])
    assert rows[3].tolist() == [end] + [PAD] * 11
    assert rows[4, -1] == end
    for row in rows:
        kept = row[row != PAD]
        assert kept[-1] == end
    assert tokenizer.decode(rows[0][rows[0] != PAD]) == "St Bernard dogs."
    with pytest.raises(ConfigError, match="one token"):
        stop_token(tokenizer, "stop here")


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, SETTINGS) for step in range(SETTINGS.steps)]
    assert rates[4] == SETTINGS.learning_rate == max(rates)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.02 * SETTINGS.learning_rate


def test_the_model_card_says_what_was_measured(tmp_path: Path) -> None:
    train(tmp_path)
    before = captioner_fingerprint(tmp_path)
    write_model_card(tmp_path, title="Tiny", data="Six things.", scores={"exact": 0.875, "pairs": "64"})
    card = (tmp_path / "README.md").read_text()
    assert all(words in card for words in ("# Tiny", "Six things.", "exact: 0.875", "pairs: 64", "steps: 30", "feedfacefeedface"))
    assert captioner_fingerprint(tmp_path) == before, "the card is no part of what makes captions"
    settings = json.loads((tmp_path / "captioner.json").read_text())
    assert settings["prefix_length"] == 3
