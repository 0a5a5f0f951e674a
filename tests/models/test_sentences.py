"""A sentence encoder as a judge: mean pooling without padding, directories that are none, and no pictures."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from scuba_ray.errors import ConfigError
from scuba_ray.models.clip_export import train_text_tokenizer
from scuba_ray.models.sentences import SentenceEncoder
from tests.models.tiny import WORDS


def write_encoder(out: Path, seed: int = 0) -> Path:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_text_tokenizer(WORDS, 300), pad_token="<end_of_text>")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    BertModel(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    made = SentenceEncoder("sts", f"sentences:{write_encoder(tmp_path_factory.mktemp('encoder'))}")
    travelled: SentenceEncoder = pickle.loads(pickle.dumps(made))
    assert (travelled.dim, len(travelled.fingerprint)) == (16, 16)
    return travelled.load("cpu")


def test_a_sentence_does_not_depend_on_those_beside_it(encoder: SentenceEncoder) -> None:
    texts = ["a dog", "a plate of food and a spoon on a table", "a dog " * 40]
    together = encoder.embed_texts(texts)
    assert together.shape == (3, 16) and together.dtype == torch.float32
    alone = torch.cat([encoder.embed_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert encoder.embed_texts([]).shape == (0, 16)


def test_other_weights_are_another_fingerprint(encoder: SentenceEncoder, tmp_path: Path) -> None:
    other = SentenceEncoder("sts", f"sentences:{write_encoder(tmp_path, seed=1)}")
    assert other.fingerprint != encoder.fingerprint


def test_what_cannot_work_is_said(encoder: SentenceEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        SentenceEncoder("sts", f"sentences:{tmp_path}")
    with pytest.raises(ConfigError, match="reads no pictures"):
        encoder.preprocess(Image.new("RGB", (8, 8)))
