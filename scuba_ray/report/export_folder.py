"""A folder that is complete or not there: written beside its place, then renamed; only an earlier export is replaced."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scuba_ray.errors import ConfigError

LIST = ".scuba_export.json"
"""Names every file of an export: what an export may be replaced by knowing."""


@contextmanager
def complete_folder(out: str) -> Iterator[Path]:
    """Give an empty folder to write in; when the block ends without an error it takes the place of `out`.

    Raises
    ------
    ConfigError
        If `out` is no local path, or there is something at it that is neither an empty folder nor an export as it was written.
    """
    if "://" in out:
        raise ConfigError(f"--out must be a folder on a local or mounted disk, got {out}: copy the folder there afterwards")
    place = Path(out).expanduser().absolute()
    check_replaceable(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        (new / LIST).write_text(json.dumps({"files": _files(new)}, indent=1), encoding="utf-8")
        check_replaceable(place)
        if place.exists():
            place.rename(old)
        try:
            new.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise


def check_replaceable(place: Path) -> None:
    """Raise ConfigError unless nothing is lost when a folder takes this place."""
    if not place.exists() and not place.is_symlink():
        return
    if place.is_symlink() or not place.is_dir():
        raise ConfigError(f"{place} is no folder; give another --out")
    there = _files(place)
    if not any(place.iterdir()):
        return
    try:
        listed = json.loads((place / LIST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{place} holds something else than an export ({there[0] if there else 'folders'}): give another --out"
        ) from error
    others = sorted(set(there) - {*listed, LIST})
    if others:
        raise ConfigError(f"{place} is an export, but {others[0]} in it is not part of it: move it away, or give another --out")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
