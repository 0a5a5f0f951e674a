"""Settings before they are checked: read from YAML, changed by `--set a.b=c`. What they may be is `config`'s business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from scuba_ray.errors import ConfigError


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings. Raises ConfigError if it is missing, not YAML, or holds anything else."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    try:
        settings = yaml.load(text, Loader=_EachKeyOnce)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_in_words(error)}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold settings (`key: value` lines), got {type(settings).__name__}")
    return settings


def apply_override(settings: dict[str, Any], override: str) -> None:
    """Set one `a.b=c` in nested settings, in place. Raises ConfigError if there is nothing of that name to set."""
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set wants a.b=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is not a YAML value: {_in_words(error)}") from error
    *parents, last = path.split(".")
    here: Any = settings
    for depth, word in enumerate(parents):
        if isinstance(here, dict) and here.get(word) is None:
            here[word] = {}
        here = here[word] if isinstance(here, dict) else _item(here, word, ".".join(parents[: depth + 1]))
    if isinstance(here, dict):
        here[last] = value
    else:
        _item(here, last, path)
        here[int(last)] = value


def _item(sequence: Any, word: str, path: str) -> Any:
    if not isinstance(sequence, list):
        raise ConfigError(f"--set {path}: there is nothing to set inside {sequence!r}")
    if not word.isdigit() or int(word) >= len(sequence):
        raise ConfigError(f"--set {path}: got {word!r}, the list has items 0 to {len(sequence) - 1}")
    return sequence[int(word)]


class _EachKeyOnce(yaml.SafeLoader):
    """Safe YAML in which a key given twice in one group is an error; PyYAML itself silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in keys[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def _in_words(error: yaml.YAMLError) -> str:
    """The heart of a YAML error, and where it lies."""
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{getattr(error, 'problem', None) or str(error)}{where}"
