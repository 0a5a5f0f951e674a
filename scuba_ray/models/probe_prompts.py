"""Prompts of the five-way probe: which of five kinds of things a picture shows, by a network that reads text.

BrainDiVE's probe has 9 prompts for faces, 6 for bodies, 12 for places, 1 for food and 8 for words (METHOD section 5). The counts
are its own, because the maximum over prompts depends on them; the wording is ours.
"""

from __future__ import annotations

PAPER_PROMPTS: dict[str, tuple[str, ...]] = {
    "faces": (
        "a photo of a face",
        "a photo of a person's face",
        "a portrait of a man",
        "a portrait of a woman",
        "a close-up of a child's face",
        "a picture of people looking at the camera",
        "a picture of a smiling face",
        "a photo of the head of a person",
        "a photo of the face of an animal",
    ),
    "bodies": (
        "a photo of a human body",
        "a photo of a person's torso",
        "a photo of arms and hands",
        "a photo of legs and feet",
        "a picture of people playing sports",
        "a picture of a person's whole body, seen from afar",
    ),
    "places": (
        "a photo of a room",
        "a photo of a kitchen",
        "a photo of a bedroom",
        "a photo of a bathroom",
        "a photo of a building",
        "a photo of a house",
        "a photo of a street",
        "a photo of a city from above",
        "a photo of a landscape",
        "a photo of mountains",
        "a photo of a beach",
        "a picture of a place without people",
    ),
    "food": ("a photo of food",),
    "words": (
        "a photo of words",
        "a photo of written text",
        "a photo of letters",
        "a photo of numbers",
        "a photo of a sign with words on it",
        "a picture of a page of a book",
        "a picture of a logo with letters",
        "a photo of handwriting",
    ),
}
"""Prompts by category."""
