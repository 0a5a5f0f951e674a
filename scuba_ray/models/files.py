"""Files of models: where those that ship with scuba_ray lie, and what identifies a file's content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from scuba_ray.errors import ConfigError

_BLOCK = 1 << 20


def packaged(name: str) -> Path:
    """Return the directory of a model that ships with scuba_ray (`phantom:NAME`).

    Raises
    ------
    ConfigError
        If no such model ships; the message lists those that do.
    """
    root = Path(str(files("scuba_ray"))) / "phantom" / "weights"
    if not name or not (root / name).is_dir():
        known = ", ".join(sorted(path.name for path in root.glob("*") if path.is_dir())) or "none"
        raise ConfigError(f"phantom:{name}: no model of that name ships with scuba_ray; there are: {known}")
    return root / name


def digest_files(paths: Iterable[Path]) -> hashlib._Hash:
    """Return a sha256 over the names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}:{path.stat().st_size}\n".encode())
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest
