"""Taggers: which words of a caption are nouns and verbs, and who does what to what.

    dictionary      `models.nouns` and `models.verbs`: lemminflect's table and short rules; offline, one answer everywhere
    spacy:PIPELINE  an installed spaCy pipeline, whose parser also gives relations
    auto            spaCy's `en_core_web_sm` where it is installed, else the dictionary

Which one it was is a column of every table made with it and part of the table's fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from scuba_ray.errors import ConfigError
from scuba_ray.models.nouns import nouns_of
from scuba_ray.models.verbs import verbs_of
from scuba_ray.registry import resolve

PIPELINE = "en_core_web_sm"
_SUBJECTS, _OBJECTS = frozenset({"nsubj"}), frozenset({"dobj", "obj"})


class Tagger(Protocol):
    """Terms of an English caption, as lemmas in lower case, in order of appearance, each once."""

    name: str
    fingerprint: str
    """Changes with the answers."""
    parses: bool
    """Whether it knows relations."""

    def nouns(self, caption: str) -> list[str]:
        """Each part of a compound is one."""
        ...

    def verbs(self, caption: str) -> list[str]:
        """What happens: no auxiliaries, and no participles that only describe a noun."""
        ...

    def relations(self, caption: str) -> list[str]:
        """`subject verb object`, for each verb that has both. Empty throughout if it does not parse."""
        ...


class DictionaryTagger:
    """The default: rules that can be read. Picklable, no state."""

    name = "dictionary"
    fingerprint = "dictionary 1"
    parses = False

    def nouns(self, caption: str) -> list[str]:
        """See `models.nouns`."""
        return nouns_of(caption)

    def verbs(self, caption: str) -> list[str]:
        """See `models.verbs`."""
        return verbs_of(caption)

    def relations(self, caption: str) -> list[str]:
        """None: it does not parse."""
        return []


class SpacyTagger:
    """An installed spaCy pipeline with a tagger, a lemmatizer and a parser.

    Raises
    ------
    ConfigError
        If spaCy or the pipeline is not installed, or the pipeline lacks one of them.
    """

    parses = True

    def __init__(self, pipeline: str = PIPELINE) -> None:
        if not installed(pipeline):
            raise ConfigError(
                f"tagger spacy:{pipeline}: spaCy or this pipeline is not installed; install both, or use tagger: dictionary"
            )
        self._language = import_module("spacy").load(pipeline, exclude=["ner"])
        lacking = {"tagger", "parser", "lemmatizer"} - set(self._language.pipe_names)
        if lacking:
            raise ConfigError(f"tagger spacy:{pipeline}: this pipeline has no {', '.join(sorted(lacking))}")
        self.name = f"spacy:{pipeline}"
        self.fingerprint = f"{self.name} {self._language.meta['version']}"

    def nouns(self, caption: str) -> list[str]:
        """Lemmas of NOUN and PROPN."""
        return _once(token.lemma_ for token in self._language(caption) if token.pos_ in {"NOUN", "PROPN"})

    def verbs(self, caption: str) -> list[str]:
        """Lemmas of VERB (auxiliaries have a class of their own), without those that only describe a noun (`amod`)."""
        return _once(token.lemma_ for token in self._language(caption) if token.pos_ == "VERB" and token.dep_ != "amod")

    def relations(self, caption: str) -> list[str]:
        """Subject, verb and object; the subject of a participle that describes a noun (`a man riding`) is that noun."""
        return _once(self._triples(caption))

    def _triples(self, caption: str) -> Iterator[str]:
        for verb in self._language(caption):
            if verb.pos_ == "VERB":
                subjects = [child for child in verb.children if child.dep_ in _SUBJECTS]
                subjects += [verb.head] if verb.dep_ == "acl" and not subjects else []
                objects = [child for child in verb.children if child.dep_ in _OBJECTS]
                yield from (f"{one.lemma_} {verb.lemma_} {other.lemma_}" for one in subjects for other in objects)


def installed(pipeline: str) -> bool:
    """Whether spaCy and one of its pipelines can be imported."""
    return find_spec("spacy") is not None and find_spec(pipeline) is not None


def make_tagger(name: str) -> Tagger:
    """The tagger that a configuration names.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    if name == "auto":
        name = f"spacy:{PIPELINE}" if installed(PIPELINE) else "dictionary"
    kind, _, pipeline = name.partition(":")
    maker: Any = resolve("tagger", kind if kind == "spacy" else name)
    return cast(Tagger, maker(pipeline) if kind == "spacy" else maker())


def _once(terms: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(term.lower() for term in terms))
