from __future__ import annotations

from collections import Counter

import pytest

from scuba_ray.phantom.concepts import PAPER_ROIS, load_vocabulary, singular, words
from scuba_ray.phantom.scenes import load_drawings


def test_every_region_of_the_paper_has_three_concepts_or_more() -> None:
    concepts = load_vocabulary().concepts
    assert 24 <= len(concepts) <= 40
    regions = Counter(concept.roi for concept in concepts)
    assert all(regions[roi] >= 3 for roi in PAPER_ROIS)


def test_drawings_are_dealt_out_by_published_subcategory() -> None:
    drawings, vocabulary = load_drawings(), load_vocabulary()
    subcategory = dict(zip(drawings.names, drawings.subcategory, strict=True))
    names = [name for concept in vocabulary.concepts for name in concept.drawings] + list(vocabulary.others)
    assert sorted(names) == sorted(drawings.names)
    for concept in vocabulary.concepts:
        assert len(concept.drawings) >= 8
        assert {subcategory[name] for name in concept.drawings} == set(concept.subcategories)


def test_no_noun_belongs_to_two_concepts_and_each_keeps_enough() -> None:
    vocabulary = load_vocabulary()
    counts = Counter(noun for concept in vocabulary.concepts for noun in concept.nouns)
    assert max(counts.values()) == 1
    assert min(len(concept.nouns) for concept in vocabulary.concepts) >= 8


def test_nouns_are_words_of_published_names() -> None:
    for concept in load_vocabulary().concepts:
        published = {word for text in (*concept.drawings, *concept.subcategories) for word in words(text)}
        assert set(concept.nouns) <= published


def test_a_drawing_is_named_by_its_own_name_in_any_company() -> None:
    vocabulary = load_vocabulary()
    for concept in vocabulary.concepts:
        for name in concept.drawings:
            assert vocabulary.named(f"A photo of {name}") == {concept.name}
            assert vocabulary.named(f"{name} and hamburger.") == {concept.name, "dishes"}
    for name in vocabulary.others:
        assert vocabulary.named(name) == set()


@pytest.mark.parametrize(
    ("caption", "concepts"),
    [
        ("hot dog and two tigers", {"dishes", "mammals"}),
        ("a dog", {"mammals"}),
        ("computer mouse", set()),
        ("smiling face with heart - eyes", {"smiling faces"}),
        ("woman's hat", {"clothes"}),
        ("", set()),
        ("of the and", set()),
    ],
)
def test_captions(caption: str, concepts: set[str]) -> None:
    assert load_vocabulary().named(caption) == concepts


@pytest.mark.parametrize(
    ("plural", "one"),
    [("tigers", "tiger"), ("cherries", "cherry"), ("buses", "bus"), ("glass", "glass"), ("children", "child"),
     ("brushes", "brush"), ("boxes", "box"), ("rhinoceros", "rhinoceros"), ("pies", "pie"),
     ("houses", "house"), ("watch", "watch")],
)  # fmt: skip
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one
