"""Concepts a phantom voxel can be tuned to: groups of drawings, and when a caption is taken to name them.

A concept is one or more of the data's own subcategories (the table below; related small ones are merged, so that a concept has
eight drawings or more). What names a concept is generated from the drawings' published names, never written by hand:

* the full name of one of its drawings, longest names first, so that `hot dog` names a dish and no mammal;
* else a noun of the concept: a content word, in the singular, of its drawings' names or its subcategories. A noun that two
  concepts would share is dropped from both, so no word counts twice.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache

from scuba_ray.phantom.scenes import Drawings, load_drawings

PAPER_ROIS = ("faces", "bodies", "places", "words", "food")
ROIS = (*PAPER_ROIS, "objects")
"""The paper's five regions, and one for everything else."""

# concept: its region and the subcategories it is made of
_TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "smiling faces": ("faces", ("face-smiling", "face-affection", "face-tongue", "face-glasses", "face-hat")),
    "troubled faces": ("faces", ("face-concerned", "face-unwell", "face-sleepy")),
    "strange faces": ("faces", ("face-costume", "face-negative")),
    "heads": ("faces", ("person",)),
    "hands": (
        "bodies",
        ("hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands", "hand-prop"),
    ),
    "body parts": ("bodies", ("body-parts",)),
    "people at work": ("bodies", ("person-role",)),
    "people at sports": ("bodies", ("person-sport",)),
    "people in motion": ("bodies", ("person-activity",)),
    "fabled people": ("bodies", ("person-fantasy",)),
    "buildings": ("places", ("place-building", "place-religious")),
    "scenery": ("places", ("place-geographic", "place-other")),
    "sky": ("places", ("sky & weather",)),
    "letters": ("words", ("alphanum",)),
    "digits and marks": ("words", ("keycap", "math", "punctuation")),
    "signs": ("words", ("transport-sign", "warning")),
    "writing": ("words", ("book-paper", "writing", "mail")),
    "fruit": ("food", ("food-fruit",)),
    "vegetables": ("food", ("food-vegetable",)),
    "dishes": ("food", ("food-prepared", "food-asian")),
    "sweets": ("food", ("food-sweet",)),
    "drinks": ("food", ("drink",)),
    "mammals": ("objects", ("animal-mammal",)),
    "birds": ("objects", ("animal-bird",)),
    "small animals": ("objects", ("animal-bug", "animal-reptile", "animal-amphibian")),
    "sea animals": ("objects", ("animal-marine",)),
    "plants": ("objects", ("plant-flower", "plant-other")),
    "road vehicles": ("objects", ("transport-ground",)),
    "ships and planes": ("objects", ("transport-water", "transport-air")),
    "clothes": ("objects", ("clothing",)),
    "household": ("objects", ("household",)),
    "tools": ("objects", ("tool",)),
    "music": ("objects", ("musical-instrument", "music", "sound")),
}

_STOP_WORDS = """
a about above after all an and another any are as at back be before behind below between both but by down each few first for from
front half have he her here his i in into is it its last left low many me middle more most much my new no non not of off on one
only or other our out over own part right same she single so some than that the their them there these they this those through to
together top toward two three four five six seven eight nine ten under up upside us very was way we were what when where which
while who will with without you your facing getting holding wearing playing using
"""
"""Words that name nothing: function words, and words of order, place and number."""
_STOP = frozenset(_STOP_WORDS.split())
_IRREGULAR = {
    **{"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth"},
    **{"mice": "mouse", "geese": "goose", "leaves": "leaf", "knives": "knife", "wolves": "wolf", "scarves": "scarf"},
    **{"oxen": "ox", "buses": "bus", "shoes": "shoe", "clothes": "clothes", "series": "series"},
}


def singular(word: str) -> str:
    """The singular of a noun, by rule; words that only look plural (`bus`, `grass`, `iris`) stay."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word.endswith(("ss", "us", "is", "os")) or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


def words(text: str) -> list[str]:
    """Words of a caption or a name: lower case, split at all that is not a letter or digit, in the singular, possessives off."""
    return [singular(word) for word in re.findall(r"[a-z0-9]+", re.sub(r"['’]s?\b", "", text.lower()))]


@dataclass(frozen=True)
class Concept:
    """A group of drawings. `nouns` are its own content words, in the singular; `drawings` are published names."""

    name: str
    roi: str
    subcategories: tuple[str, ...]
    drawings: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Which words name which concept. `others` are the names of drawings that belong to none: they name nothing."""

    concepts: tuple[Concept, ...]
    others: tuple[str, ...]

    def named(self, caption: str) -> set[str]:
        """Names of the concepts a caption names: by a drawing's full name (longest first), else by nouns of their own."""
        found: set[str] = set()
        said = words(caption)
        place = 0
        while place < len(said):
            length = min(self._longest, len(said) - place)
            while length and tuple(said[place : place + length]) not in self._phrases:
                length -= 1
            name = self._phrases[tuple(said[place : place + length])] if length else self._nouns.get(said[place])
            if name is not None:
                found.add(name)
            place += max(length, 1)
        return found

    @cached_property
    def _nouns(self) -> dict[str, str]:
        return {noun: concept.name for concept in self.concepts for noun in concept.nouns}

    @cached_property
    def _phrases(self) -> dict[tuple[str, ...], str | None]:
        """Words of every drawing's name, to its concept: None for drawings of no concept, or where two concepts' names agree."""
        owners = [(concept.name, name) for concept in self.concepts for name in concept.drawings]
        phrases: dict[tuple[str, ...], str | None] = {tuple(words(name)): None for name in self.others}
        for owner, name in owners:
            key = tuple(words(name))
            phrases[key] = owner if phrases.get(key, owner) == owner else None
        phrases.pop((), None)
        return phrases

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._phrases))


@lru_cache(maxsize=1)
def load_vocabulary() -> Vocabulary:
    """Concepts and nouns of the packaged drawings."""
    return make_vocabulary(load_drawings())


def make_vocabulary(drawings: Drawings) -> Vocabulary:
    """Group drawings into concepts and generate their nouns."""
    of_subcategory = {subcategory: name for name, (_, subcategories) in _TABLE.items() for subcategory in subcategories}
    members: dict[str, list[str]] = {name: [] for name in _TABLE}
    others = []
    for name, subcategory in zip(drawings.names, drawings.subcategory, strict=True):
        members[of_subcategory[subcategory]].append(name) if subcategory in of_subcategory else others.append(name)
    content = {name: _content_words([*members[name], *_TABLE[name][1]]) for name in _TABLE}
    shared = {word for word, count in Counter(word for own in content.values() for word in own).items() if count > 1}
    concepts = tuple(
        Concept(name, roi, subcategories, tuple(members[name]), tuple(sorted(content[name] - shared)))
        for name, (roi, subcategories) in _TABLE.items()
    )
    return Vocabulary(concepts, tuple(others))


def _content_words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in words(text) if len(word) > 2 and not word.isdigit() and word not in _STOP}
