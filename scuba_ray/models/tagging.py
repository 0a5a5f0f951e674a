"""Taggers: which words of a caption are nouns and verbs, and who does what to what.

    dictionary      `models.nouns` and `models.verbs`: lemminflect's table and short rules; offline, one answer everywhere
    spacy:PIPELINE  an installed spaCy pipeline, whose parser also gives relations
    auto            spaCy's `en_core_web_sm` where it is installed, else the dictionary

Which one it was is a column of every table made with it and part of the table's fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from scuba_ray.errors import ConfigError
from scuba_ray.models.nouns import nouns_of
from scuba_ray.models.verbs import verbs_of
from scuba_ray.registry import resolve

PIPELINE = "en_core_web_sm"
_OBJECTS, _NOUNS = frozenset({"dobj", "obj"}), frozenset({"NOUN", "PROPN", "PRON"})
_RELATIVE = frozenset({"WDT", "WP"})


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
    fingerprint = "dictionary 2"
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
        self.fingerprint = f"{self.name} {self._language.meta['version']} relations 2"

    def nouns(self, caption: str) -> list[str]:
        """Lemmas of NOUN and PROPN."""
        return _once(token.lemma_ for token in self._language(caption) if token.pos_ in {"NOUN", "PROPN"})

    def verbs(self, caption: str) -> list[str]:
        """Lemmas of VERB (auxiliaries have a class of their own), without those that only describe a noun (`amod`)."""
        return _once(token.lemma_ for token in self._language(caption) if token.pos_ == "VERB" and token.dep_ != "amod")

    def relations(self, caption: str) -> list[str]:
        """See `relations_of`."""
        return _once(relations_of(self._language(caption)))


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


def relations_of(parsed: Iterable[Any]) -> Iterator[str]:
    """Lemmas of who does what to what, in a sentence as spaCy parses it: passives are turned around, joined words parted."""
    for verb in parsed:
        if verb.pos_ == "VERB":
            done_to = _joined(_done_to(verb))
            yield from (f"{who.lemma_} {verb.lemma_} {what.lemma_}" for who in _joined(_doers(verb)) for what in done_to)


def _doers(verb: Any) -> list[Any]:
    """Its subjects; of a passive the agents, of `a man riding` that noun, of a second verb what the first one is said of."""
    found = [_meant(child, verb) for child in verb.children if child.dep_ == "nsubj"]
    found += [noun for by in verb.children if by.dep_ == "agent" for noun in by.children if noun.dep_ == "pobj"]
    if found or _is_passive(verb):
        return found
    if verb.dep_ == "acl":
        return [verb.head]
    if verb.dep_ == "conj" and verb.head.pos_ == "VERB":
        return _done_to(verb.head) if _is_passive(verb.head) else _doers(verb.head)
    return []


def _done_to(verb: Any) -> list[Any]:
    """Its objects; of a passive what it is said of."""
    found = [_meant(child, verb) for child in verb.children if child.dep_ in _OBJECTS or child.dep_ == "nsubjpass"]
    return [verb.head] if not found and verb.dep_ == "acl" and _is_passive(verb) else found


def _is_passive(verb: Any) -> bool:
    return verb.tag_ == "VBN" and (verb.dep_ == "acl" or any(child.dep_ in {"nsubjpass", "auxpass"} for child in verb.children))


def _meant(word: Any, verb: Any) -> Any:
    """The noun that `that` or `who` stands for."""
    return verb.head if word.tag_ in _RELATIVE and verb.dep_ == "relcl" else word


def _joined(words: Iterable[Any]) -> list[Any]:
    """Each word and the nouns that `and` joins to it."""
    return [one for word in words for one in (word, *(other for other in word.conjuncts if other.pos_ in _NOUNS))]


def _once(terms: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(term.lower() for term in terms))
