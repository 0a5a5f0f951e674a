"""The nouns of a caption, by dictionary and place in the sentence: no statistical tagger, no download, one answer everywhere.

Words and lemmas come from lemminflect's table (the NIH SPECIALIST lexicon). A word that it knows as a noun only is one. A word
that may be several things is a noun unless its place speaks against it:

- before another such word it is a modifier, except where it can only be a noun: `orange cat` -> cat, `pizza box` -> pizza, box;
- a form in -ing that may be a verb is one, unless it stands alone or closes a phrase: `a man riding a horse` -> man, horse;
  `a tall building` -> building;
- a possessive is a modifier: `a man's shoe` -> shoe;
- before an article a word that may be a verb is one, and so is it after `to`, a pronoun or a modal: `they play a game` -> game.

Words are taken without their accents, as the lexicon has them, so that `café` and `cafe` are one.

BrainSCUBA's own tagger is not published. Agreement with any other is not claimed; the rules are short so that they can be read.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from lemminflect import getAllLemmas

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[.,;:!?]")
_BREAKS = frozenset({"", *".,;:!?"})
_ARTICLE_WORDS = "a an the this that these those his her its their our my your some any each every no"
_BEFORE_VERB_WORDS = "to that i you he she it we they who which can could will would shall should may might must not"
_OTHER_WORDS = """
and or but nor so yet if as than then of in on at by for from with without into onto over under up down off out about above
across after against along among around before behind below beneath beside between beyond during inside near outside past
through toward towards underneath upon within is are was were be been being am has have had having do does did doing there
here what when where why how all both few many more most much other another several such one two three four five six seven
eight nine ten very too just also only while next like them him us
"""
_ARTICLES, _BEFORE_VERBS = frozenset(_ARTICLE_WORDS.split()), frozenset(_BEFORE_VERB_WORDS.split())
# closed classes, and words of number and place that the lexicon lists as nouns too
CLOSED = _ARTICLES | _BEFORE_VERBS | frozenset(_OTHER_WORDS.split())


def nouns_of(caption: str) -> list[str]:
    """Lemmas of the nouns in an English caption, in order of appearance, each once, in lower case."""
    words, is_noun = words_and_nouns(caption)
    return list(dict.fromkeys(lemma(word) for word, noun in zip(words, is_noun, strict=True) if noun))


def words_and_nouns(caption: str) -> tuple[list[str], list[bool]]:
    """Words and punctuation of a caption, in lower case without accents, and which of them are nouns."""
    letters = unicodedata.normalize("NFKD", caption.lower().replace("’", "'"))
    words = _WORD.findall("".join(letter for letter in letters if not unicodedata.combining(letter)))
    neighbours = zip(words, ["", *words], [*words[1:], ""], strict=False)
    return words, [_is_noun(word, before, after) for word, before, after in neighbours]


@lru_cache(maxsize=50_000)
def lemma(word: str) -> str:
    """The singular of a noun: dogs -> dog, men -> man, glasses -> glasses (a thing of its own)."""
    lemmas = getAllLemmas(word, upos="NOUN").get("NOUN", (word,))
    return word if word in lemmas else str(lemmas[0])


def _is_noun(word: str, before: str, after: str) -> bool:
    if word.endswith("'s"):
        return False
    classes = classes_of(word)
    if "NOUN" not in classes:
        return False
    if classes == {"NOUN"}:
        return True
    modifies = "NOUN" in classes_of(after) and not _participle(after)
    if _participle(word):
        opens = before in _ARTICLES or "ADJ" in classes_of(before)
        return (opens and not modifies) or (before in _BREAKS and after in _BREAKS)
    if "VERB" in classes and (after in _ARTICLES or before in _BEFORE_VERBS):
        return False
    return not ("ADJ" in classes and modifies)


@lru_cache(maxsize=50_000)
def _participle(word: str) -> bool:
    """Whether it may be a verb's form in -ing: running, building; not ring."""
    return word.endswith("ing") and word not in getAllLemmas(word, upos="VERB").get("VERB", (word,))


@lru_cache(maxsize=50_000)
def classes_of(word: str) -> frozenset[str]:
    """What a word may be: NOUN, VERB, ADJ, ADV, ... A word the lexicon lacks, such as `t-shirt`, is taken for a noun."""
    if word in CLOSED or len(word) < 2:
        return frozenset()
    return frozenset(getAllLemmas(word)) or frozenset({"NOUN"})
