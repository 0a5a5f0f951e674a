"""The run folder: tables as folders of Parquet parts, resumed by looking up which parts are there.

A step asks `begin` for its unit, `missing` for the chunks still to do, lets an engine write them, and calls `finish`, which
writes the manifest last. What readers see are finished units only. Every method that writes is called under `lock`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from scuba_ray.errors import ConfigError, DataError, WorkerError
from scuba_ray.protocols import BadRow, Chunk, Receipt
from scuba_ray.tables import files, lock, manifest, parts
from scuba_ray.tables.columns import concatenated
from scuba_ray.tables.manifest import PartEntry, UnitEntry
from scuba_ray.tables.parts import QUARANTINE_FOLDER, Unit
from scuba_ray.tables.schemas import QUARANTINE

__all__ = ["RunFolder", "Unit"]

_CLAIM = "claim.json"
_RUN = "run.json"
_READERS = 4
"""Parts read at once when checksums are verified: peak memory is this times a part."""
_ENDS = 32
"""Files of which only the last bytes are read at once: a store that is far away answers many as fast as one."""
_VERIFIED = 4 << 30
"""Bytes of a finished unit up to which every run holds its content against the checksums; of a larger one it looks whether
all parts are there and of the right size. Damage inside is still found when pages are read."""


class RunFolder:
    """One run's results at a local path or any pyarrow.fs URI. Holds the location only, so it travels to workers.

    With `verify` the content of every finished part is held against its checksum, however large a unit is.
    """

    def __init__(self, location: str, *, verify: bool = False) -> None:
        self.location = files.normalise(location)
        self.verify = verify

    def __repr__(self) -> str:
        return f"RunFolder({self.location!r})"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder for this driver. Raises ConfigError if another driver holds it."""
        return lock.hold(self.location)

    def claim(self, identity: Mapping[str, str]) -> None:
        """Record whose data the folder holds ({subject: fingerprint of its dataset}); call it under the lock.

        Raises
        ------
        ConfigError
            If a subject is recorded with other data: results of two data sets never share a folder.
        """
        known = self.check_claim(identity)
        for folder in ("", "report", QUARANTINE_FOLDER):
            files.clean(self.location, folder)
        self._save_json(_CLAIM, {**known, **identity})

    def check_claim(self, identity: Mapping[str, str]) -> dict[str, str]:
        """Return whose data the folder holds; raises ConfigError like `claim`, and writes nothing."""
        known: dict[str, str] = self._json(_CLAIM) or {}
        for subject, print_ in identity.items():
            if known.get(subject, print_) != print_:
                raise ConfigError(
                    f"{self.location} holds the run of another data set: {subject} was {known[subject][:12]}, "
                    f"is {print_[:12]} now; choose another folder with --out, or delete this one"
                )
        return known

    # ------------------------------------------------------------------------------------------ writing, step by step

    def begin(self, *, step: str, table: str, key: str, fingerprint: str) -> Unit:
        """Start or resume the unit (table, key): what other settings made of it is dropped, its own parts stay."""
        unit = Unit(self.location, step, table, key, fingerprint)
        entry = self._finished(table).get(key)
        if entry is not None and entry.fingerprint != fingerprint:
            self._forget(unit)
        files.clean(self.location, table)
        self._drop(unit, lambda name: not unit.is_current(name))
        return unit

    def missing(self, unit: Unit, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks whose part is absent or damaged, or lacks rows that are to be tried again, in order; such parts are removed.

        A part the manifest names is held against its checksum (its size alone, if the unit has more than 4 GiB and `verify` is
        off), another is read through with its page checksums.
        """
        entry = self._finished(unit.table).get(unit.key)
        listed = {part.name: part for part in entry.parts} if entry else {}
        present = files.sizes(self.location, unit.table)
        lacking = set(self.lacking(unit, chunks))
        contents = self.verify or entry is None or entry.bytes <= _VERIFIED

        def is_missing(chunk: Chunk) -> bool:
            name = unit.part_name(chunk)
            if name not in present or chunk in lacking:
                return True
            if (known := listed.get(name)) is not None:
                same = (known.start, known.stop, known.bytes) == (chunk.start, chunk.stop, present[name])
                return not same or (contents and not unit.matches(known))
            try:
                unit.examine(chunk)
            except DataError:
                return True
            return False

        with ThreadPoolExecutor(_READERS) as pool:
            wanted = [chunk for chunk, missing in zip(chunks, pool.map(is_missing, chunks), strict=True) if missing]
        if wanted and entry:
            self._forget(unit)
        for chunk in wanted:
            files.delete(self.location, f"{unit.table}/{unit.part_name(chunk)}")
        return wanted

    def finish(self, unit: Unit, chunks: Sequence[Chunk], receipts: Sequence[Receipt] = ()) -> None:
        """Declare the unit complete: write the manifest.

        Parts with a receipt are listed as their writers told; the others (left by a killed run) are read through first.

        Raises
        ------
        WorkerError
            If a part is not there or damaged after all.
        """
        entry = self._finished(unit.table).get(unit.key)
        wanted = [(unit.part_name(chunk), chunk.start, chunk.stop) for chunk in chunks]
        if entry and entry.fingerprint == unit.fingerprint and [(p.name, p.start, p.stop) for p in entry.parts] == wanted:
            return
        present = files.sizes(self.location, unit.table)
        told = {receipt.chunk: unit.entry(receipt) for receipt in receipts if receipt.sha256}

        def entry_of(chunk: Chunk) -> PartEntry:
            known = told.get(chunk)
            return known if known is not None and present.get(known.name) == known.bytes else unit.examine(chunk)

        try:
            with ThreadPoolExecutor(_READERS) as pool:
                entries = tuple(pool.map(entry_of, chunks))
        except DataError as error:
            raise WorkerError(f"{unit.step}: {error} after the step; what is intact is kept, running again resumes") from error
        keep = {part.name for part in entries}
        self._drop(unit, lambda name: name not in keep)
        units = self._finished(unit.table)
        manifest.save(self.location, unit.table, {**units, unit.key: UnitEntry(unit.step, unit.fingerprint, entries)})
        files.clean(self.location, unit.table)  # of workers that were killed while they wrote

    def remove(self, table: str, key: str) -> None:
        """Delete a unit with its quarantine files, if it is there; of one that is not finished, the parts there are."""
        entry = self._finished(table).get(key)
        unit = Unit(self.location, entry.step if entry else "", table, key, entry.fingerprint if entry else "")
        if entry:
            self._forget(unit)
        self._drop(unit, lambda name: True)

    def _finished(self, table: str) -> dict[str, UnitEntry]:
        """The manifest as a writer sees it: a damaged one counts as none, for parts prove themselves."""
        try:
            return manifest.load(self.location, table)
        except DataError:
            return {}

    def _forget(self, unit: Unit) -> None:
        """Take the key off the manifest, before anything it names is touched."""
        units = self._finished(unit.table)
        units.pop(unit.key, None)
        manifest.save(self.location, unit.table, units)

    def _drop(self, unit: Unit, is_stale: Any) -> None:
        """Delete the key's parts and quarantine files that `is_stale` says are."""
        for name in files.names(self.location, unit.table):
            if unit.owns(name) and is_stale(name):
                files.delete(self.location, f"{unit.table}/{name}")
        for name in files.names(self.location, QUARANTINE_FOLDER):
            part = name.removeprefix(f"{unit.step}-")
            if part != name and unit.owns(part) and is_stale(part):
                files.delete(self.location, f"{QUARANTINE_FOLDER}/{name}")

    # ------------------------------------------------------------------------------------------ reading what is finished

    def keys(self, table: str) -> list[str]:
        """Keys of the finished units of a table, sorted."""
        return sorted(manifest.load(self.location, table))

    def read(self, table: str, *, key: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the finished units of a table, or of one key, in (key, chunk) order.

        Vectors of several backbones with different lengths come as lists of variable length.

        Raises
        ------
        DataError
            If nothing of that table (or key) is finished, or a part cannot be read.
        """
        keys = self.keys(table) if key is None else [key]
        if not keys:
            raise DataError(f"{self.location} holds no finished {table}; run the configuration again to resume it")
        names = [part.name for one in keys for part in self._unit(table, one).parts]
        return concatenated([parts.load(self.location, f"{table}/{name}", columns) for name in names])

    def rows(self, table: str, key: str) -> int:
        """Number of rows of a finished unit. Raises DataError if it is not finished."""
        return self._unit(table, key).rows

    def slice(self, table: str, key: str, start: int, stop: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows `[start, stop)` of a finished unit; only the parts and row groups they lie in are read.

        Raises
        ------
        DataError
            If the unit is not finished, has fewer rows, or a part cannot be read.
        """
        unit = self._unit(table, key)
        if not 0 <= start <= stop <= unit.rows:
            raise DataError(f"rows [{start}, {stop}) of {table} {key} were asked for, it has {unit.rows}")
        pieces: list[pa.Table] = []
        offset = 0
        for part in unit.parts:
            first, last = max(start - offset, 0), min(stop - offset, part.rows)
            if first < last or (not pieces and part is unit.parts[-1]):
                pieces.append(parts.load(self.location, f"{table}/{part.name}", columns, (first, max(first, last))))
            offset += part.rows
        return concatenated(pieces)

    def _unit(self, table: str, key: str) -> UnitEntry:
        units = manifest.load(self.location, table)
        if key not in units:
            finished = ", ".join(sorted(units)) or "none"
            raise DataError(f"{self.location} holds no finished {table} for {key} (finished: {finished}); run again to resume")
        return units[key]

    def quarantine(self) -> pa.Table:
        """Rows that could not be computed, of every step, with the reason in words; no rows if all went well."""
        names = sorted(name for name in files.names(self.location, QUARANTINE_FOLDER) if name.endswith(".parquet"))
        tables = [parts.load(self.location, f"{QUARANTINE_FOLDER}/{name}", None) for name in names]
        return pa.concat_tables([QUARANTINE.empty_table(), *tables])

    def bad_rows(self, unit: Unit, chunks: Sequence[Chunk]) -> int:
        """How many rows of a unit's chunks are in quarantine; only the ends of their files are read."""
        there = files.names(self.location, QUARANTINE_FOLDER)
        names = [name for name in map(unit.quarantine_name, chunks) if name in there]
        with ThreadPoolExecutor(_ENDS) as pool:
            return sum(pool.map(lambda name: parts.count(self.location, f"{QUARANTINE_FOLDER}/{name}"), names))

    def waiting(self, unit: Unit, chunks: Sequence[Chunk]) -> list[str]:
        """Keys of all rows in quarantine of those chunks that the next run computes again; none if nothing is left to it."""
        names = [f"{QUARANTINE_FOLDER}/{unit.quarantine_name(chunk)}" for chunk in self.lacking(unit, chunks)]
        return [key for name in names for key in parts.load(self.location, name, ["key"])["key"].to_pylist()]

    def lacking(self, unit: Unit, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Chunks with rows in quarantine that are to be tried again (`BadRow.retry`)."""
        there = files.names(self.location, QUARANTINE_FOLDER)
        some = [chunk for chunk in chunks if unit.quarantine_name(chunk) in there]
        names = [f"{QUARANTINE_FOLDER}/{unit.quarantine_name(chunk)}" for chunk in some]
        with ThreadPoolExecutor(_ENDS) as pool:
            left = pool.map(lambda name: parts.retries(self.location, name), names)
            return [chunk for chunk, count in zip(some, left, strict=True) if count]

    def first_bad_row(self, unit: Unit, chunks: Sequence[Chunk]) -> BadRow | None:
        """The first row of a unit that is in quarantine; none if all went well."""
        there = files.names(self.location, QUARANTINE_FOLDER)
        for name in (name for name in map(unit.quarantine_name, chunks) if name in there):
            row = parts.load(self.location, f"{QUARANTINE_FOLDER}/{name}", ["key", "reason"]).slice(0, 1).to_pylist()[0]
            return BadRow(row["key"], row["reason"])
        return None

    def write_run_json(self, mapping: Mapping[str, Any]) -> None:
        """Write `run.json`: the resolved configuration, versions, seeds and timings."""
        self._save_json(_RUN, mapping)

    def read_run_json(self) -> dict[str, Any]:
        """What `write_run_json` wrote last, nothing if it never did."""
        return self._json(_RUN) or {}

    def write_file(self, name: str, data: bytes) -> str:
        """Write any other file of the run (`report/index.html`), atomically, and return its location."""
        files.write(self.location, name, data)
        return f"{self.location}/{name}"

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            document = json.loads(files.read(self.location, name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{self.location}/{name} is damaged: {error}") from error
        if not isinstance(document, dict):
            raise DataError(f"{self.location}/{name} is damaged: it holds no mapping")
        return document

    def _save_json(self, name: str, mapping: Mapping[str, Any]) -> None:
        files.write(self.location, name, json.dumps(dict(mapping), indent=1, allow_nan=False).encode())
