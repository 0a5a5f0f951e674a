"""What a language model is asked, and what counts as its list."""

from __future__ import annotations

import pytest

from scuba_ray.errors import DataError
from scuba_ray.models.language import ask_for_keywords, ask_for_sentences, clean, read_list


def test_questions_hold_their_material() -> None:
    question = ask_for_keywords(["a dog.", "a cat {and} a dog."], 7)
    assert question.field == "keywords"
    assert "2 pictures" in question.text and "up to 7" in question.text and "- a cat {and} a dog." in question.text
    question = ask_for_sentences(["dog", "grass"], 4)
    assert question.field == "sentences"
    assert "dog, grass" in question.text and "4 different" in question.text and '{"sentences"' in question.text


@pytest.mark.parametrize(
    "answer",
    [
        '{"keywords": ["Dog", "green  grass", "dog."]}',
        'Here you are:\n```json\n{"keywords": ["dog", "green grass"]}\n```\nEnjoy {it}!',
        'Pictures {of pets} or {"kind": "wild"}? {"keywords": ["dog", "green grass"]}',
    ],
)
def test_the_list_is_found_whatever_stands_around(answer: str) -> None:
    assert read_list(answer, "keywords") == ["dog", "green grass"]


def test_an_entry_that_is_no_keyword_is_left_out() -> None:
    assert clean(["dog", "x" * 41, "", "DOG", "a-b"], "keywords") == ["dog", "a-b"]
    assert clean(["A dog, twice.", "A dog, twice."], "sentences") == ["A dog, twice."], "sentences stay as they are"
    with pytest.raises(DataError, match="list of keywords in the answer is empty"):
        clean(["x" * 41], "keywords")
