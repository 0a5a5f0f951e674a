"""Subjects and pictures as data: layouts on disk behind `SubjectDataset`, pictures behind `ImageSource`.

A layout is named in the configuration and found through the registry; the rest of the system sees the protocols only.
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.registry import resolve

if TYPE_CHECKING:
    from scuba_ray.config import SubjectConfig
    from scuba_ray.protocols import ImageSource, SubjectDataset

_PAUSES = (1.0, 3.0)
"""Seconds before a store that failed while a data set was opened is asked again."""


def make_dataset(config: SubjectConfig) -> SubjectDataset:
    """Open the data set a subject's configuration names.

    Raises
    ------
    ConfigError
        If the layout is unknown, the path is not there, the layout has no such option, or an option is not of the type that
        the layout's constructor is annotated with.
    DataError
        If the files are not what the layout promises.
    """
    if config.path is None:
        raise ConfigError(f"subject {config.name} has no data set: its weights were fitted elsewhere and `path` is not given")
    layout = resolve("dataset", config.dataset)
    _check_options(config, layout)
    return _opened(layout, config)


def _opened(layout: type[SubjectDataset], config: SubjectConfig) -> SubjectDataset:
    """The data set; a store that fails is asked again, in a worker's setup and in the driver alike."""
    from scuba_ray.datasets.store_file import StoreError

    for pause in (*_PAUSES, None):
        try:
            return layout(subject=config.name, path=config.path, **config.options)  # type: ignore[call-arg]
        except StoreError as error:
            if pause is None:
                raise DataError(f"subject {config.name} could not be opened, {len(_PAUSES) + 1} times: {error}") from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _check_options(config: SubjectConfig, layout: type[SubjectDataset]) -> None:
    """Hold options against the names and annotations of the layout's constructor. Raises ConfigError."""
    if not config.options:
        return
    # not at the top: processes that decode pictures import this package and need none of it
    from pydantic import TypeAdapter, ValidationError

    try:
        parameters = inspect.signature(layout, eval_str=True).parameters
    except NameError as error:
        raise ConfigError(
            f"subject {config.name}: the types of layout {config.dataset!r}'s options cannot be read ({error}); in its module, "
            "import what its constructor is annotated with outside of `if TYPE_CHECKING`"
        ) from error
    known = {name: one.annotation for name, one in parameters.items() if name not in {"subject", "path"}}
    unknown = sorted(set(config.options) - set(known))
    if unknown:
        choices = ", ".join(known) or "none"
        raise ConfigError(
            f"subject {config.name}: layout {config.dataset!r} has no option {unknown[0]!r}; its options: {choices}"
        )
    for name, value in config.options.items():
        kind = Any if known[name] is inspect.Parameter.empty else known[name]
        try:
            TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            wanted = inspect.formatannotation(kind).replace("collections.abc.", "").replace("typing.", "")
            raise ConfigError(f"subject {config.name}: option {name} is {value!r}, wanted {wanted}") from error


def make_images(name: str, path: str) -> ImageSource:
    """Open a registered image source (`folder`, ...) at `path`.

    Raises
    ------
    ConfigError
        If the source is unknown or the path is not there.
    DataError
        If it holds no pictures.
    """
    source: ImageSource = resolve("images", name)(path)
    return source
