"""The nouns a reader would name, on captions as CLIPCap and the phantom write them."""

from __future__ import annotations

import pytest

from scuba_ray.models.nouns import lemma, nouns_of

CAPTIONS = {
    "A man riding a wave on top of a surfboard.": ["man", "wave", "surfboard"],
    "a group of people playing frisbee in the park": ["group", "people", "frisbee", "park"],
    "A plate of food with meat and vegetables.": ["plate", "food", "meat", "vegetable"],
    "two zebras standing in the grass": ["zebra", "grass"],
    "a smiling woman in glasses holding a t-shirt": ["woman", "glasses", "t-shirt"],
    "a bathroom with a white toilet and sink": ["bathroom", "toilet", "sink"],
    "a man standing next to a tall building": ["man", "building"],
    "a couple of kids play a game": ["couple", "kid", "game"],
    "an animal, pet, puppy": ["animal", "pet", "puppy"],
    "grinning face": ["face"],
    "tiger and hamburger": ["tiger", "hamburger"],
    "building": ["building"],
    "a wedding ring": ["ring"],
    "a man's shoe and the women's room": ["shoe", "room"],
    "a dog and a dog and two dogs": ["dog"],
    "a naïve dog eats crème brûlée at a café": ["dog", "creme", "brulee", "cafe"],
    "a man’s hat": ["hat"],
    "": [],
    "...": [],
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_nouns(caption: str) -> None:
    assert nouns_of(caption) == CAPTIONS[caption]


def test_lemmas() -> None:
    assert [lemma(word) for word in ("men", "buses", "glasses", "children", "frisbee")] == [
        "man",
        "bus",
        "glasses",
        "child",
        "frisbee",
    ]
