"""PrefixCaptioner: the three layouts it loads, whom it reads, and that a row's caption is its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from scuba_ray.config import CaptionConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.captioner_training import TrainingSettings
from scuba_ray.models.clipcap import PUBLISHED_BACKBONE, PrefixCaptioner, make_captioner
from scuba_ray.models.prefix_model import PrefixModel
from scuba_ray.protocols import CaptionBeam, Captioner
from tests.models.published import token_of, write_clipcap, write_gpt2
from tests.models.test_captioner_training import DIM, SETTINGS, THINGS, pairs, train
from tests.parity.published_beam import generate_beam


@dataclass
class Encoder:
    """As much of a backbone as a captioner looks at."""

    name: str
    dim: int
    fingerprint: str
    model: str = "local-dir:somewhere"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = TrainingSettings(**{**SETTINGS.__dict__, "steps": 250})
    return train(tmp_path_factory.mktemp("captioner") / "six", settings, dropout=0.0)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("published")
    config = write_gpt2(place / "gpt2")
    write_clipcap(place / "coco_weights.pt", config, dim=16, prefix_length=4)
    return place / "coco_weights.pt", place / "gpt2"


def test_a_trained_captioner_says_what_it_learned(trained: Path) -> None:
    captioner = make_captioner(CaptionConfig(model=str(trained))).load("cpu")
    embedding, things = next(iter(pairs(77_777, 40)))
    beams = captioner.captions(embedding)
    said = [row[0].text for row in beams]
    wanted = [thing.replace("St.", "St") + "." for thing in things]
    assert sum(a == b for a, b in zip(said, wanted, strict=True)) >= 38
    for row in beams:
        assert len(row) == 5
        assert [beam.logprob for beam in row] == sorted((beam.logprob for beam in row), reverse=True)
    assert len({said[i] for i in range(40)}) == len(THINGS)


def test_a_rows_beams_are_its_own(trained: Path) -> None:
    embedding = torch.cat([next(iter(pairs(5, 30)))[0], torch.randn(10, DIM)])
    whole = PrefixCaptioner(str(trained), batch=64).load("cpu").captions(embedding)
    small = PrefixCaptioner(str(trained), batch=7).load("cpu")
    assert [[beam.text for beam in row] for row in small.captions(embedding)] == [[beam.text for beam in row] for row in whole]
    order = torch.randperm(40)
    shuffled = small.captions(embedding[order])
    assert [row[0].text for row in shuffled] == [whole[int(i)][0].text for i in order]
    twice = small.captions(torch.cat([embedding[:3], embedding[:3]]))
    assert twice[:3] == twice[3:]
    assert small.captions(embedding[:0]) == []


def test_greedy_is_one_beam(trained: Path) -> None:
    embedding = torch.cat([next(iter(pairs(5, 20)))[0], torch.randn(10, DIM)])
    greedy = make_captioner(CaptionConfig(model=str(trained), rule="greedy")).load("cpu").captions(embedding)
    one = make_captioner(CaptionConfig(model=str(trained), beams=1)).load("cpu").captions(embedding)
    assert greedy == one and {len(row) for row in greedy} == {1}


def test_samples_are_the_voxels_own(trained: Path) -> None:
    settings = CaptionConfig(model=str(trained), rule="nucleus", samples=4, top_p=0.95, temperature=2.0, max_tokens=12, batch=7)
    captioner = make_captioner(settings).load("cpu")
    embedding = torch.randn(20, DIM)
    keys = [f"s1/clip/{voxel}/-1" for voxel in range(20)]
    together = captioner.captions(embedding, keys)
    for row in together:
        assert len(row) == 4
        assert [beam.logprob for beam in row] == sorted((beam.logprob for beam in row), reverse=True)
    assert len({beam.text for row in together for beam in row}) > 30, "varied"
    order = torch.randperm(20).tolist()
    shuffled = captioner.captions(embedding[order], [keys[voxel] for voxel in order])
    assert texts(shuffled) == texts([together[voxel] for voxel in order])
    same = captioner.captions(embedding[:1].expand(3, -1), ["a", "b", "a"])
    assert same[0] == same[2] != same[1], "equal embeddings of different voxels draw independently"
    unnamed = captioner.captions(embedding[[0, 1, 0]])
    assert unnamed[0] == unnamed[2] != unnamed[1]
    other = make_captioner(settings.model_copy(update={"seed": 1})).load("cpu").captions(embedding, keys)
    assert texts(other) != texts(together)


def texts(rows: list[list[CaptionBeam]]) -> list[list[str]]:
    return [[beam.text for beam in row] for row in rows]


def test_the_batch_is_made_to_fit_the_memory(trained: Path) -> None:
    embedding = torch.randn(30, DIM)
    free = make_captioner(CaptionConfig(model=str(trained))).load("cpu")
    tight = make_captioner(CaptionConfig(model=str(trained), memory_gib=0.01)).load("cpu")
    assert isinstance(free, PrefixCaptioner) and isinstance(tight, PrefixCaptioner)
    assert 1 <= tight._batch < free._batch == 64
    assert texts(tight.captions(embedding)) == texts(free.captions(embedding))
    half = PrefixCaptioner(str(trained), memory_gib=0.01, precision="bfloat16")
    assert half._batch > tight._batch
    with pytest.raises(ConfigError, match=r"caption\.memory_gib must be >= .* for one voxel of"):
        make_captioner(CaptionConfig(model=str(trained), memory_gib=1e-6))


def test_half_precision_says_what_was_learned(trained: Path) -> None:
    embedding = next(iter(pairs(77_777, 40)))[0]
    full = make_captioner(CaptionConfig(model=str(trained))).load("cpu").captions(embedding)
    half = make_captioner(CaptionConfig(model=str(trained), precision="bfloat16")).load("cpu").captions(embedding)
    assert sum(a[0].text == b[0].text for a, b in zip(full, half, strict=True)) >= 36


def test_embeddings_that_are_not_numbers(trained: Path) -> None:
    captioner = PrefixCaptioner(str(trained)).load("cpu")
    bad = torch.zeros(4, DIM)
    bad[2, 0] = torch.nan
    with pytest.raises(DataError, match=r"rows \[2\]"):
        captioner.captions(bad)


def test_the_published_layout_decodes_as_the_published_loop(published: tuple[Path, Path]) -> None:
    checkpoint, gpt2 = published
    captioner = PrefixCaptioner(f"clipcap:{checkpoint}", language_model=str(gpt2), max_tokens=12, batch=4)
    assert (captioner.dim, captioner.trained_for) == (16, PUBLISHED_BACKBONE)
    captioner.load("cpu")
    embedding = torch.randn(9, 16) * 5
    network: PrefixModel = captioner._network  # type: ignore[assignment]
    stop = token_of(gpt2, ".")
    margins = []
    for row, beams in zip(embedding, captioner.captions(embedding), strict=True):
        reference = generate_beam(network.gpt, network.prefix(row[None]), stop, entry_length=12)
        margins.append(reference.margin)
        if reference.margin > 1e-5:
            assert [captioner._tokenizer.decode(tokens).strip() for tokens in reference.tokens] == [beam.text for beam in beams]
            assert [beam.logprob for beam in beams] == pytest.approx(reference.logprobs, abs=1e-5)
    assert sum(margin > 1e-5 for margin in margins) >= 6


def test_a_captioner_reads_its_own_backbone_only(trained: Path) -> None:
    captioner = PrefixCaptioner(str(trained))
    captioner.check_backbone(Encoder("tiny", DIM, "feedfacefeedface"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"trained for tiny \(fingerprint feedfacefeedface\), not for backbone other"):
        captioner.check_backbone(Encoder("other", DIM, "0123456789abcdef"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"length 12, not those of backbone other .*dim 512"):
        captioner.check_backbone(Encoder("other", 512, "feedfacefeedface"))  # type: ignore[arg-type]


def test_the_published_checkpoint_wants_the_published_name_or_a_stated_fingerprint(published: tuple[Path, Path]) -> None:
    checkpoint, gpt2 = published
    model = f"clipcap:{checkpoint}"
    hub = Encoder("clip", 16, "aaaaaaaaaaaaaaaa", PUBLISHED_BACKBONE)
    copy = Encoder("clip", 16, "bbbbbbbbbbbbbbbb")
    captioner = PrefixCaptioner(model, language_model=str(gpt2))
    captioner.check_backbone(hub)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"caption\.trained_for: bbbbbbbbbbbbbbbb"):
        captioner.check_backbone(copy)  # type: ignore[arg-type]
    stated = make_captioner(CaptionConfig(model=model, language_model=str(gpt2), trained_for="bbbbbbbbbbbbbbbb"))
    stated.check_backbone(copy)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bbbbbbbbbbbbbbbb"):
        stated.check_backbone(hub)  # type: ignore[arg-type]


def test_fingerprints_follow_content_not_place(trained: Path, published: tuple[Path, Path], tmp_path: Path) -> None:
    captioner: Captioner = PrefixCaptioner(str(trained))
    moved = copytree(trained, tmp_path / "moved")
    assert PrefixCaptioner(str(moved)).fingerprint == captioner.fingerprint
    weights = load_file(moved / "prefix.safetensors")
    weights["clip_project.model.2.bias"] += 1
    save_file(weights, moved / "prefix.safetensors")
    assert PrefixCaptioner(str(moved)).fingerprint != captioner.fingerprint
    checkpoint, gpt2 = published
    first = PrefixCaptioner(f"clipcap:{checkpoint}", language_model=str(gpt2)).fingerprint
    write_clipcap(tmp_path / "other.pt", write_gpt2(tmp_path / "gpt2"), dim=16, prefix_length=4, seed=1)
    assert PrefixCaptioner(f"clipcap:{tmp_path / 'other.pt'}", language_model=str(gpt2)).fingerprint != first


def test_directories_that_are_not_captioners(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        make_captioner(CaptionConfig(model=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match=r"has no captioner\.json"):
        make_captioner(CaptionConfig(model=str(tmp_path)))
    with pytest.raises(ConfigError, match="ships with scuba_ray"):
        make_captioner(CaptionConfig(model="phantom:no-such-captioner"))
    with pytest.raises(ConfigError, match="cannot load NoClass"):
        make_captioner(CaptionConfig(model="no_such_module:NoClass"))
    for missing in ("prefix.safetensors", "gpt2/model.safetensors", "gpt2/tokenizer.json"):
        place = copytree(trained, tmp_path / missing.replace("/", "-"))
        (place / missing).unlink()
        with pytest.raises(ConfigError, match=missing):
            make_captioner(CaptionConfig(model=str(place)))
    with pytest.raises(ConfigError, match="for clipcap: only"):
        make_captioner(CaptionConfig(model=str(trained), language_model="gpt2"))
    with pytest.raises(ConfigError, match=r"caption\.max_tokens must be <= 96"):
        make_captioner(CaptionConfig(model=str(trained), max_tokens=97))
    with pytest.raises(ConfigError, match=r"caption\.beams must be <= "):
        make_captioner(CaptionConfig(model=str(trained), beams=1000))
    with pytest.raises(ConfigError, match=r"caption\.stop"):
        make_captioner(CaptionConfig(model=str(trained), stop="the end")).load("cpu")


def test_checkpoints_that_are_not_published_ones(published: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, gpt2 = published

    def refusal(path: Path, language_model: Path | None) -> str:
        with pytest.raises(ConfigError) as caught:
            PrefixCaptioner(f"clipcap:{path}", language_model=str(language_model) if language_model else None).load("cpu")
        return str(caught.value)

    assert "caption.language_model" in refusal(checkpoint, None)
    assert "config.json" in refusal(checkpoint, tmp_path)
    assert "no such file" in refusal(tmp_path / "nowhere.pt", gpt2)
    (tmp_path / "text.pt").write_text("not weights")
    assert "cannot be read" in refusal(tmp_path / "text.pt", gpt2) or "read safely" in refusal(tmp_path / "text.pt", gpt2)
    torch.save({"clip_project.transformer.x": torch.zeros(1)}, tmp_path / "transformer.pt")
    assert "transformer mapping network" in refusal(tmp_path / "transformer.pt", gpt2)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickle.pt")
    assert "read safely" in refusal(tmp_path / "pickle.pt", gpt2)
    write_gpt2(tmp_path / "wide", n_embd=64)
    assert "width 32" in refusal(checkpoint, tmp_path / "wide")
    write_gpt2(tmp_path / "deep", n_layer=3)
    assert "does not fit" in refusal(checkpoint, tmp_path / "deep")
