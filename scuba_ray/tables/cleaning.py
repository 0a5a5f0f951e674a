"""What a run's folder holds that nothing uses any more, and its deletion.

A part is of use while its fingerprint is: that of a finished unit (a manifest has it), of a step that `run.json` records, or of a
unit that was begun and is to be resumed. Units are taken off their manifest before their parts, and nothing else that a manifest
names is touched, so whoever is killed while cleaning leaves a run that reads and resumes as before. Only the folders of a run's
own tables are looked at: another run, a copy or a bank that somebody keeps inside the folder is none of this run's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import files, manifest
from scuba_ray.tables.parts import QUARANTINE_FOLDER, key_of
from scuba_ray.tables.record import BEGUN
from scuba_ray.tables.schemas import KEYS
from scuba_ray.tables.store import RunFolder

SCRATCH = {"sessions": "responses"}
"""Tables that are made for the one other that reads them, and are of no use once that is finished."""
STALE, TEMPORARY, QUARANTINED, MADE_FOR, UNNAMED = (
    "parts of other settings",
    "unfinished files",
    "quarantine of other settings",
    "made for a finished table",
    "not in the configuration",
)
_PART = re.compile(r"-([0-9a-f]{12})\.parquet$")
_TABLES = {*KEYS, *SCRATCH, QUARANTINE_FOLDER}


@dataclass(frozen=True)
class Leftover:
    """Something that nothing uses: a file, or with `key` a whole unit of a table."""

    table: str
    why: str
    name: str
    """Of the file inside the table's folder, or the unit's key."""
    files: int
    bytes: int
    unit: bool = False


@dataclass(frozen=True)
class Leftovers:
    """What was found, and what was left out of it because nobody can tell."""

    found: tuple[Leftover, ...]
    notes: tuple[str, ...]


def clean(location: str, *, everything: bool = False, dry: bool = False) -> Leftovers:
    """Delete what the run at `location` has no use for, or with `dry` only look; return it.

    Parameters
    ----------
    everything : bool
        Also units that the configuration no longer names (another subject's, another backbone's), finished or only begun.

    Raises
    ------
    ConfigError
        If there is no run at `location`, or a driver is at work in it.
    DataError
        If `run.json` is damaged.
    """
    run = RunFolder(location)
    if "config" not in run.read_run_json():
        raise ConfigError(f"{location} holds no run (a run.json with a configuration), so nothing in it is deleted")
    with run.lock():
        leftovers = _look(run)
        for one in () if dry else leftovers.found:
            if one.why == UNNAMED and not everything:
                continue
            if one.unit:
                run.remove(one.table, one.name)
            else:
                files.delete(run.location, f"{one.table}/{one.name}".lstrip("/"))
    return leftovers


def _look(run: RunFolder) -> Leftovers:
    """Find everything that is of no use; call it under the lock."""
    record = run.read_run_json()
    there = {path: size for path, size in files.walk(run.location).items() if _is_ours(path.rpartition("/")[0])}
    units, notes = dict[tuple[str, str], manifest.UnitEntry](), list[str]()
    damaged = set[str]()
    for table in sorted(path.removesuffix(f"/{manifest.NAME}") for path in there if path.endswith(f"/{manifest.NAME}")):
        try:
            units |= {(table, key): entry for key, entry in manifest.load(run.location, table).items()}
        except DataError as error:
            damaged.add(table)
            notes.append(f"{table} is left as it is: {error}")
    steps = {(step["table"], name.partition(" ")[2]): step for name, step in record.get("steps", {}).items() if "table" in step}
    begun: dict[str, str] = record.get(BEGUN, {})
    made = {unit: entry.fingerprint for unit, entry in units.items()}
    used = {(*unit, one[:12]) for unit, one in (*made.items(), *((unit, step["fingerprint"]) for unit, step in steps.items()))}
    resumed: set[Any] = {(*unit.split(" ", 1), one[:12]) for unit, one in begun.items()}
    if not record.get("complete"):
        used |= resumed
    # rows in quarantine are of any table
    spared = {*damaged, QUARANTINE_FOLDER} if damaged else set[str]()
    found = [one for one in _files(there, used, resumed) if one.table not in spared]
    whole = [(unit, MADE_FOR) for unit in _scratch(there, units) if " ".join(unit) not in begun]
    if record.get("complete"):
        gone = {unit for unit, _ in whole}
        whole += [(unit, UNNAMED) for unit in sorted(units) if unit not in steps and unit not in gone]
    else:
        notes.append("the run is not complete: which finished tables its configuration no longer names is known when it is")
    found += [_unit(there, *unit, why) for unit, why in whole]
    return Leftovers(tuple(found), tuple(notes))


def _is_ours(folder: str) -> bool:
    """Whether a run writes to a folder inside its own, by the names of its tables."""
    analysis = folder.startswith("analyses/") and folder.count("/") == 1
    return analysis or folder in {"", *_TABLES} or folder.partition("/")[0] == "report"


def _files(there: dict[str, int], used: set[Any], begun: set[Any]) -> list[Leftover]:
    """Files of no generation (table, key, digits) in use, and those that a killed writer left.

    A complete run has nothing half done but what another configuration has `begun`: two subjects, of which one is left.
    """
    found = []
    for path, size in sorted(there.items()):
        folder, _, name = path.rpartition("/")
        digits, key = _PART.search(name), key_of(name)
        if files.is_temporary(name):
            found.append(Leftover(folder, TEMPORARY, name, 1, size))
        elif digits and key is not None and not _is_of(folder, key, digits[1], used):
            stale = QUARANTINED if folder == QUARANTINE_FOLDER else STALE
            why = UNNAMED if _is_of(folder, key, digits[1], begun) else stale
            found.append(Leftover(folder, why, name, 1, size))
    return found


def _is_of(folder: str, key: str, digits: str, generations: set[Any]) -> bool:
    """Whether a part is of one of these generations; rows in quarantine have a table's digits, and not its name."""
    if folder == QUARANTINE_FOLDER:
        return digits in {one[2] for one in generations}
    return (folder, key, digits) in generations


def _scratch(there: dict[str, int], units: dict[tuple[str, str], Any]) -> list[tuple[str, str]]:
    """Units of scratch tables, finished or not, whose reader is finished."""
    return sorted(
        {
            (table, key)
            for table, reader in SCRATCH.items()
            for path in there
            if path.startswith(f"{table}/") and (key := key_of(path.rpartition("/")[2])) and (reader, key) in units
        }
    )


def _unit(there: dict[str, int], table: str, key: str, why: str) -> Leftover:
    sizes = [size for path, size in there.items() if path.rpartition("/")[0] == table and key_of(path.rpartition("/")[2]) == key]
    return Leftover(table, why, key, len(sizes), sum(sizes), unit=True)
