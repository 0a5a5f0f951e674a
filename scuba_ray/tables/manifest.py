"""A table folder's list of what is finished: per key its parts, with their rows and checksums.

`_manifest.json` (underscore: readers of a folder of Parquet files skip it) is written last, so a key it names is complete. One
table folder holds several keys (subjects and backbones); a key's entry is replaced without touching the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from scuba_ray.errors import DataError
from scuba_ray.tables import files

NAME = "_manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class PartEntry:
    """One part of a finished unit: the chunk `[start, stop)` it was made from, its rows and the sha256 of its bytes."""

    name: str
    chunk: int
    start: int
    stop: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class UnitEntry:
    """One finished key of a table; parts in chunk order."""

    step: str
    fingerprint: str
    parts: tuple[PartEntry, ...]

    @property
    def rows(self) -> int:
        """Rows of all its parts."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """Size of all its parts."""
        return sum(part.bytes for part in self.parts)


def load(location: str, table: str) -> dict[str, UnitEntry]:
    """The finished keys of a table, none if there is no manifest.

    Raises
    ------
    DataError
        If the manifest is there and cannot be read as one.
    """
    try:
        document = json.loads(files.read(location, f"{table}/{NAME}"))
        if document["format"] != FORMAT:
            raise DataError(f"{location}/{table}/{NAME} has format {document['format']}, this version reads {FORMAT}")
        return {
            key: UnitEntry(unit["step"], unit["fingerprint"], tuple(PartEntry(**part) for part in unit["parts"]))
            for key, unit in document["units"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{location}/{table}/{NAME} is damaged ({error}); running the run again rebuilds it") from error


def save(location: str, table: str, units: Mapping[str, UnitEntry]) -> None:
    """Write the manifest, atomically."""
    document = {
        "format": FORMAT,
        "table": table,
        "units": {
            key: {
                "step": unit.step,
                "fingerprint": unit.fingerprint,
                "rows": unit.rows,
                "parts": [asdict(part) for part in unit.parts],
            }
            for key, unit in sorted(units.items())
        },
    }
    files.write(location, f"{table}/{NAME}", json.dumps(document, indent=1).encode())
