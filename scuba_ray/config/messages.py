"""What is wrong with a configuration, in the words of the file: the path of the setting, what it must be, what was got.

Pydantic says where a problem lies; this turns it into `project.beta must be > 0, got 0.0; the paper uses 150`. The
words after the semicolon are the field's description; where text must follow a pattern, the description says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

_WORDS = {
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than_equal": "must be <= {le:g}",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must be {advice}",
    "literal_error": "must be {expected}",
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("string_too_short", "too_short"), "must not be empty"),
    "string_type": "must be text",
    **dict.fromkeys(("model_type", "dict_type"), "must be a group of settings (`key: value` lines)"),
    "tuple_type": "must be a list",
}


def in_words(error: ValidationError, root: type[BaseModel]) -> str:
    """One line per problem that `root.model_validate` found."""
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    # a list whose items failed is reported as empty, too: only the items' problems are news
    news = [p for p in problems if not any(len(place) > len(p["loc"]) and place[: len(p["loc"])] == p["loc"] for place in places)]
    return "\n".join(_line(problem, root) for problem in news)


def _line(problem: Mapping[str, Any], root: type[BaseModel]) -> str:
    place = problem["loc"]
    kind = problem["type"]
    path = ".".join(str(word) for word in place)
    fields = _fields_beside(place, root)
    if kind == "extra_forbidden":
        return f"{path}: no such setting; known here: {', '.join(sorted(fields))}"
    if kind == "missing":
        return f"{path}: required, and not given"
    name = next((word for word in reversed(place) if isinstance(word, str)), None)
    advice = fields[name].description if name else None
    words = problem["msg"].removeprefix("Value error, ")
    if kind in _WORDS:
        words = _WORDS[kind].format(advice=advice, **problem.get("ctx", {}))
    start = path + (" " if words.startswith("must") else ": ") if path else ""
    got = "" if isinstance(problem["input"], dict | list) else f", got {problem['input']!r}"
    after = f"; {advice}" if advice and advice not in words else ""
    return f"{start}{words}{got}{after}"


def _fields_beside(place: tuple[Any, ...], root: type[BaseModel]) -> Mapping[str, Any]:
    """Fields of the group that the last name in `place` belongs to."""
    names = [word for word in place if isinstance(word, str)]
    group: Any = root
    for name in names[:-1]:
        annotation = group.model_fields[name].annotation
        while not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            annotation = annotation.__args__[0]
        group = annotation
    return dict(group.model_fields)
