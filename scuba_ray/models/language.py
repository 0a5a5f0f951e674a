"""Language models as LaVCa uses them: asked for a short list, of keywords or of sentences, and held to it.

What is asked is here, whoever answers: `language_http` (an OpenAI-compatible service) or `language_local` (a model on this
machine). A prompt is part of a result's fingerprint, as is the model's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from scuba_ray.config import LavcaConfig
from scuba_ray.errors import DataError

KEYWORDS = """Below are descriptions of {count} pictures that drive one place of the visual cortex most.
List up to {wanted} short keywords (nouns of one or two words) for what many of the pictures share, the most common first.
Answer with JSON only, like {{"keywords": ["dog", "grass"]}}.

{material}
"""
SENTENCES = """Keywords: {material}
Write {wanted} different short sentences, each describing one picture that shows these keywords and nothing else.
Answer with JSON only, like {{"sentences": ["A dog runs on grass."]}}.
"""
_LONGEST = {"keywords": 40, "sentences": 300}
"""Characters of an entry; a longer one is no keyword or no sentence, and is left out."""


@dataclass(frozen=True)
class Question:
    """One list to ask for."""

    field: Literal["keywords", "sentences"]
    text: str


@dataclass(frozen=True)
class Refusal:
    """No list, why, and whether it is worth asking again another day."""

    reason: str
    retry: bool


class LanguageModel(Protocol):
    """Whoever answers. Picklable; `load` makes it ready on a worker."""

    def fingerprint(self) -> Mapping[str, Any]:
        """What can change an answer, beside the prompts."""
        ...

    def load(self, device: str) -> LanguageModel:
        """Ready to answer, on this worker."""
        ...

    def lists(self, questions: Sequence[Question]) -> list[list[str] | Refusal]:
        """An answer to each question, in order."""
        ...


def ask_for_keywords(descriptions: Sequence[str], wanted: int) -> Question:
    """Ask what the pictures have in common."""
    material = "\n".join(f"- {description}" for description in descriptions)
    return Question("keywords", KEYWORDS.format(count=len(descriptions), wanted=wanted, material=material))


def ask_for_sentences(keywords: Sequence[str], wanted: int) -> Question:
    """Ask for sentences with the keywords in them."""
    return Question("sentences", SENTENCES.format(wanted=wanted, material=", ".join(keywords)))


def read_list(answer: str, field: str) -> list[str]:
    """The list in a model's answer: of the first JSON object in it that has the field, whatever stands around.

    Raises
    ------
    DataError
        If there is no such JSON object, its `field` is not a list of texts, or nothing usable is in the list.
    """
    decoder, missing = json.JSONDecoder(), object()
    entries: Any = missing
    start = answer.find("{")
    while start >= 0 and entries is missing:
        with suppress(ValueError):  # it may be a brace of the prose around
            entries = decoder.raw_decode(answer, start)[0].get(field, missing)
        start = answer.find("{", start + 1)
    if entries is missing:
        raise DataError(f"the answer is not JSON with a list {field!r}: {answer[:80]!r}")
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"{field!r} in the answer must be a list of texts, got {json.dumps(entries)[:80]}")
    return clean(entries, field)


def clean(entries: Sequence[str], field: str) -> list[str]:
    """Entries without surplus space, each once, keywords in lower case. Raises DataError if none is left."""
    tidy = [re.sub(r"\s+", " ", entry).strip(" .,;:-") if field == "keywords" else entry.strip() for entry in entries]
    tidy = [entry.lower() for entry in tidy] if field == "keywords" else tidy
    kept = [entry for entry in dict.fromkeys(tidy) if 0 < len(entry) <= _LONGEST[field]]
    if not kept:
        raise DataError(f"the list of {field} in the answer is empty")
    return kept


def make_language_model(settings: LavcaConfig, location: str) -> LanguageModel | None:
    """The model that finds keywords in a run at `location`; none for `keywords: frequency`. Reads no weights.

    Raises
    ------
    ConfigError
        If a local model is not there, or the environment lacks the key of a service.
    """
    from scuba_ray.models.language_http import EndpointModel
    from scuba_ray.models.language_local import LocalModel

    if settings.keywords == "endpoint":
        assert settings.endpoint is not None, "LavcaConfig has the group of its choice"
        return EndpointModel(settings.endpoint, location)
    if settings.keywords == "local":
        assert settings.local is not None, "LavcaConfig has the group of its choice"
        return LocalModel(settings.local)
    return None
