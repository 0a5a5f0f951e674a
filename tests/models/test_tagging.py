"""Which tagger a name gives, and what a run is told when it is not there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from scuba_ray.errors import ConfigError
from scuba_ray.models import tagging
from scuba_ray.models.tagging import PIPELINE, DictionaryTagger, installed, make_tagger, relations_of


def test_the_dictionary_needs_nothing() -> None:
    tagger = make_tagger("dictionary")
    assert tagger.nouns("A man riding a horse") == ["man", "horse"] and tagger.verbs("A man riding a horse") == ["ride"]
    assert not tagger.parses and tagger.relations("A man riding a horse") == []


def test_auto_is_spacy_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "installed", lambda name: False)
    assert make_tagger("auto").name == "dictionary"


def test_a_pipeline_that_is_not_installed_is_told() -> None:
    assert not installed("no_such_pipeline")
    with pytest.raises(ConfigError, match="install both, or use tagger: dictionary"):
        make_tagger("spacy:no_such_pipeline")
    with pytest.raises(ConfigError, match="no tagger is called 'guess'"):
        make_tagger("guess")


def test_a_plugin_works_by_its_path() -> None:
    assert isinstance(make_tagger("scuba_ray.models.tagging:DictionaryTagger"), DictionaryTagger)


@dataclass
class Word:
    """A word of a parsed sentence with what spaCy's tokens say of it."""

    lemma_: str
    pos_: str
    tag_: str
    dep_: str
    head: Word = field(init=False, repr=False)
    children: list[Word] = field(default_factory=list, repr=False)

    @property
    def conjuncts(self) -> list[Word]:
        return [one for child in self.children if child.dep_ == "conj" for one in (child, *child.conjuncts)]


def parsed(text: str) -> list[Word]:
    """Words written as lemma/pos/tag/dep/place of the head."""
    rows = [row.split("/") for row in text.split()]
    words = [Word(*row[:4]) for row in rows]
    for word, row in zip(words, rows, strict=True):
        word.head = words[int(row[4])]
        if word.head is not word:
            word.head.children.append(word)
    return words


# as spaCy 3.8 and its small English pipeline parse them, without articles
PARSED = {
    "giraffe is eating leaves": (
        "giraffe/NOUN/NN/nsubj/2 be/AUX/VBZ/aux/2 eat/VERB/VBG/ROOT/2 leaf/NOUN/NNS/dobj/2",
        ["giraffe eat leaf"],
    ),
    "man riding wave": ("man/NOUN/NN/ROOT/0 ride/VERB/VBG/acl/0 wave/NOUN/NN/dobj/1", ["man ride wave"]),
    "horse ridden by man": (
        "horse/NOUN/NN/ROOT/0 ride/VERB/VBN/acl/0 by/ADP/IN/agent/1 man/NOUN/NN/pobj/2",
        ["man ride horse"],
    ),
    "dog was chased by boy": (
        "dog/NOUN/NN/nsubjpass/2 be/AUX/VBD/auxpass/2 chase/VERB/VBN/ROOT/2 by/ADP/IN/agent/2 boy/NOUN/NN/pobj/3",
        ["boy chase dog"],
    ),
    "people and dogs watch train and bus": (
        "people/NOUN/NNS/nsubj/3 and/CCONJ/CC/cc/0 dog/NOUN/NNS/conj/0 watch/VERB/VBP/ROOT/3 train/NOUN/NN/dobj/3 "
        "and/CCONJ/CC/cc/4 bus/NOUN/NN/conj/4",
        ["people watch train", "people watch bus", "dog watch train", "dog watch bus"],
    ),
    "boy that throws ball": (
        "boy/NOUN/NN/ROOT/0 that/PRON/WDT/nsubj/2 throw/VERB/VBZ/relcl/0 ball/NOUN/NN/dobj/2",
        ["boy throw ball"],
    ),
    "man pulled by boat and holding rope": (
        "man/NOUN/NN/nsubjpass/2 be/AUX/VBG/auxpass/2 pull/VERB/VBN/ROOT/2 by/ADP/IN/agent/2 boat/NOUN/NN/pobj/3 "
        "and/CCONJ/CC/cc/2 hold/VERB/VBG/conj/2 rope/NOUN/NN/dobj/6",
        ["boat pull man", "man hold rope"],
    ),
    "plate topped with meat": ("plate/NOUN/NN/ROOT/0 top/VERB/VBN/acl/0 with/ADP/IN/prep/1 meat/NOUN/NN/pobj/2", []),
    "cat sleeps": ("cat/NOUN/NN/nsubj/1 sleep/VERB/VBZ/ROOT/1", []),
}


@pytest.mark.parametrize("sentence", PARSED)
def test_who_does_what_to_what(sentence: str) -> None:
    text, expected = PARSED[sentence]
    assert list(relations_of(parsed(text))) == expected


@pytest.mark.skipif(not installed(PIPELINE), reason="spaCy and its small English pipeline are optional")
def test_spacy_knows_relations() -> None:
    tagger = make_tagger("auto")
    assert tagger.name == f"spacy:{PIPELINE}" and tagger.parses
    assert tagger.relations("The giraffe is eating leaves.") == ["giraffe eat leaf"]
    assert tagger.relations("The dog was chased by a boy.") == ["boy chase dog"]
    assert tagger.verbs("A woman is holding a parked bike") == ["hold"]
