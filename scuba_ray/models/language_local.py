"""A causal language model of Hugging Face on this machine: greedy, in batches, with its chat template if it has one.

The answer is begun for it (`{"keywords": ["`) and ends at the closing bracket, so that a model that only continues text gives a
list, too. One that runs out of tokens first is cut after its last whole entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scuba_ray.config import LocalModelConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.hugging_face import model_directory, model_fingerprint
from scuba_ray.models.language import Question, Refusal, clean

_END = "]"
_ENTRY = re.compile(r'"((?:[^"\\]|\\.)*)"')


class LocalModel:
    """A causal language model. Raises ConfigError if it is not on this machine."""

    def __init__(self, settings: LocalModelConfig) -> None:
        self._settings = settings
        self._directory = model_directory(settings.model, "lavca.local.model")
        self._model: Any = None
        self._tokenizer: Any = None

    def fingerprint(self) -> Mapping[str, Any]:
        """The model's files, and how it is asked."""
        settings = self._settings.model_dump(mode="json", include={"max_tokens", "precision"})
        return {"model": model_fingerprint(self._directory), **settings}

    def load(self, device: str) -> LocalModel:
        """Read the weights onto `device`. Raises ConfigError if transformers cannot."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        dtype = getattr(torch, self._settings.precision)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._directory, padding_side="left", local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(self._directory, dtype=dtype, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"lavca.local.model: transformers cannot load {self._directory}: {error}") from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = model.to(device).eval()
        return self

    def lists(self, questions: Sequence[Question]) -> list[list[str] | Refusal]:
        """Answer all questions, `batch` at a time. What a model says does not change: no refusal is worth asking again."""
        too_long = {question: self._too_long(question) for question in questions}
        fitting = [question for question in questions if too_long[question] is None]
        texts: list[str] = []
        for start in range(0, len(fitting), self._settings.batch):
            texts += self._continued(fitting[start : start + self._settings.batch])
        answers = iter(texts)
        return [too_long[question] or _list(next(answers), question) for question in questions]

    def _too_long(self, question: Question) -> Refusal | None:
        """Why the model cannot read a question and answer it: position embeddings end, and on a GPU the process with them."""
        limit = getattr(self._model.config, "max_position_embeddings", None)
        plain = self._tokenizer.chat_template is None
        length = len(self._tokenizer(self._prompt(question), add_special_tokens=plain)["input_ids"])
        if limit is None or length + self._settings.max_tokens <= limit:
            return None
        needed = f"{length} tokens and {self._settings.max_tokens} for the answer"
        return Refusal(
            f"the question has {needed}, the model reads {limit}: lower lavca.pictures or lavca.local.max_tokens", False
        )

    @torch.inference_mode()
    def _continued(self, questions: Sequence[Question]) -> list[str]:
        prompts = [self._prompt(question) for question in questions]
        plain = self._tokenizer.chat_template is None  # a chat template has the special tokens in it
        tokens = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=plain).to(self._model.device)
        tokens.pop("token_type_ids", None)
        written = self._model.generate(
            **tokens, do_sample=False, max_new_tokens=self._settings.max_tokens, stop_strings=[_END], tokenizer=self._tokenizer,
            pad_token_id=self._tokenizer.pad_token_id,
        )  # fmt: skip
        texts: list[str] = self._tokenizer.batch_decode(written[:, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    def _prompt(self, question: Question) -> str:
        begun = f'{{"{question.field}": ["'
        if self._tokenizer.chat_template is None:
            return f"{question.text}\n{begun}"
        message = [{"role": "user", "content": question.text}]
        return f"{self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)}{begun}"


def _list(text: str, question: Question) -> list[str] | Refusal:
    try:
        return clean(_ENTRY.findall('"' + text.partition(_END)[0]), question.field)
    except DataError as error:
        return Refusal(str(error), retry=False)
