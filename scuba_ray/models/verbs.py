"""The verbs of a caption, by dictionary and place in the sentence, beside `models.nouns`: no tagger, no download.

A word that lemminflect's table lists as a verb is one if its place says so:

- a form in -ing after a noun, a pronoun, an adverb in -ly or a form of be; at the start, or after `and` or `while`, if no noun
  follows: `a man riding a wave`, `sitting on a bench`;
- a past form in the same places, if no noun follows: `a plate topped with food`, `is parked`, `a man threw a ball`;
- any other form if it is no noun by the noun rules, or a base form after a plural: `she rides a horse`, `people walk by`.

A participle before the noun it describes is an adjective: `a parked car`, `grinning face`. Forms of be, have and do are left out:
they do not tell what happens. How often the rules err is measured in `tests/models/test_verbs.py`: on 150 captions of the
phantom's captioner that no rule was adjusted on, one verb in five is none (`waning moon`, `crying face`), and one in twenty is
missed.
"""

from __future__ import annotations

from functools import lru_cache

from lemminflect import getAllLemmas

from scuba_ray.models.nouns import CLOSED, classes_of, lemma, words_and_nouns

_LINKS = frozenset({"is", "are", "was", "were", "be", "been", "being", "am"})
_SUBJECTS = frozenset({"i", "you", "he", "she", "it", "we", "they", "who", "which", "that"})
_MODALS = frozenset({"to", "can", "could", "will", "would", "shall", "should", "may", "might", "must"})
_OPENINGS = frozenset({"", *".,;:!?", "and", "while", "or"})
_NEVER = frozenset({"be", "have", "do"})


def verbs_of(caption: str) -> list[str]:
    """Lemmas of the verbs in an English caption, in order of appearance, each once, in lower case."""
    words, is_noun = words_and_nouns(caption)
    found: list[str] = []
    for index, word in enumerate(words):
        infinitive = _infinitive(word)
        if infinitive and infinitive not in _NEVER:
            before, noun_before = (words[index - 1], is_noun[index - 1]) if index else ("", False)
            noun_after = index + 1 < len(words) and is_noun[index + 1]
            if _is_verb(word, infinitive, before, noun_before, noun=is_noun[index], noun_after=noun_after):
                found.append(infinitive)
    return list(dict.fromkeys(found))


def _is_verb(word: str, infinitive: str, before: str, noun_before: bool, *, noun: bool, noun_after: bool) -> bool:
    follows = noun_before or before in _LINKS or before in _SUBJECTS or before.endswith("ly")
    opens = before in _OPENINGS
    if word.endswith("ing") and word != infinitive:
        return not noun and (follows or (opens and not noun_after))
    if word not in {infinitive, f"{infinitive}s", f"{infinitive}es", f"{infinitive[:-1]}ies"}:
        return not noun and not noun_after and follows
    if word == infinitive:
        joined = before == "and" and "ADJ" not in classes_of(word)
        plural = noun_before and (before == "people" or lemma(before) != before)
        return (plural and not noun_after) or before in _MODALS or (not noun and (before in _SUBJECTS or joined))
    return not noun and (noun_before or before in _SUBJECTS or before == "and")


@lru_cache(maxsize=50_000)
def _infinitive(word: str) -> str:
    """Of a form of a verb; empty for what is none."""
    lemmas = getAllLemmas(word, upos="VERB").get("VERB", ()) if word not in CLOSED and word[0].isalpha() else ()
    return str(lemmas[0]) if lemmas else ""
