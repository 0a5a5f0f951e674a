"""A local language model: one that learnt its answer gives it, alone or in a batch, as text or as chat; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.config import LocalModelConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.caption_text import train_caption_tokenizer
from scuba_ray.models.language import Question, Refusal
from scuba_ray.models.language_local import LocalModel

ANSWERS = {"a fox.": ["red", "fox"], "two buses and a very long street.": ["blue bus", "street"]}
CHAT = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"


def write_model(folder: Path, *, chat: bool = False, learn: bool = True) -> Path:
    """A GPT-2 of a thousand weights that has learnt to answer two prompts."""
    marks = ["<user>", "</user><model>"] if chat else ["", "\n"]
    texts = [f'{marks[0]}{prompt}{marks[1]}{{"keywords": ["' + '", "'.join(words) + '"]}' for prompt, words in ANSWERS.items()]
    tokenizer = train_caption_tokenizer(texts, 300)
    tokenizer.chat_template = CHAT if chat else None
    torch.manual_seed(0)
    settings = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **settings))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80 if learn else 0):
        for text in texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [False, True])
def test_it_answers_what_it_learnt_alone_and_in_a_batch(tmp_path: Path, chat: bool) -> None:
    folder = write_model(tmp_path / "model", chat=chat)
    asked = [Question("keywords", prompt) for prompt in ANSWERS]
    for batch in (1, 2):
        model = LocalModel(LocalModelConfig(model=str(folder), batch=batch, max_tokens=24)).load("cpu")
        assert model.lists(asked) == list(ANSWERS.values())
    short = LocalModel(LocalModelConfig(model=str(folder), max_tokens=1)).load("cpu")
    assert isinstance(short.lists(asked)[0], Refusal), "no whole word in one token"
    assert not short.lists(asked)[0].retry, "what a model on this machine says does not change"
    assert model.lists([]) == []


def test_an_answer_that_runs_out_of_tokens_is_cut_after_its_last_whole_entry(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (prompt, words), *_ = ANSWERS.items()
    full = LocalModel(LocalModelConfig(model=str(folder), max_tokens=24)).load("cpu")
    cut = [
        LocalModel(LocalModelConfig(model=str(folder), max_tokens=n)).load("cpu").lists([Question("keywords", prompt)])[0]
        for n in range(2, 12)
    ]
    assert words[:1] in cut and full.lists([Question("keywords", prompt)])[0] == words
    assert all(isinstance(one, Refusal) or one == words[: len(one)] for one in cut), "never half a word"


def test_a_question_longer_than_the_model_reads_costs_itself_alone(tmp_path: Path) -> None:
    model = LocalModel(LocalModelConfig(model=str(write_model(tmp_path / "model")), max_tokens=24)).load("cpu")
    asked = [Question("keywords", prompt) for prompt in ANSWERS]
    first, endless, last = model.lists([asked[0], Question("keywords", "a fox. " * 60), asked[1]])
    assert [first, last] == list(ANSWERS.values())
    assert isinstance(endless, Refusal) and not endless.retry
    assert "24 for the answer, the model reads 128: lower lavca.pictures" in endless.reason


def test_its_files_are_its_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", learn=False)
    settings = LocalModelConfig(model=str(folder))
    one = LocalModel(settings).fingerprint()
    (tmp_path / "moved").symlink_to(folder)
    assert LocalModel(LocalModelConfig(model=str(tmp_path / "moved"), batch=3)).fingerprint() == one
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert LocalModel(settings).fingerprint() != one


def test_a_model_that_is_not_here_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"lavca.local.model: 'someone/nothing' is neither .*hf download someone/nothing"):
        LocalModel(LocalModelConfig(model="someone/nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"lavca.local.model: .*empty has no config.json"):
        LocalModel(LocalModelConfig(model=str(tmp_path / "empty")))
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"lavca.local.model: transformers cannot load"):
        LocalModel(LocalModelConfig(model=str(tmp_path / "empty"))).load("cpu")
