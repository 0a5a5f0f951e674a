"""Tables as labs write them, CSV, TSV or Parquet: which stimulus each trial showed, and where a stimulus lies and belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from scuba_ray.datasets.checks import STIMULI, check_splits, check_unique, conformed
from scuba_ray.datasets.held_out import check_share, held_out
from scuba_ray.datasets.places import Place, readable
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import ConfigError, DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_TEXT = ("stimulus_id", "stimulus", "uri", "split", "caption", "hemi", "rois")
"""Columns that stay text: an id 00013 is no number."""
_ID, _SHORT = "stimulus_id", "stimulus"


def read_lab_table(path: Place) -> pa.Table:
    """A table by the end of its name; ids are text whatever they look like, and `stimulus` becomes `stimulus_id`.

    Raises
    ------
    DataError
        If it is missing, unreadable, has no rows or is of no kind that is read.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(readable(path))
        elif path.suffix in _DELIMITERS:
            kinds = dict.fromkeys(_TEXT, pa.string())
            table = pyarrow.csv.read_csv(
                readable(path),
                parse_options=pyarrow.csv.ParseOptions(delimiter=_DELIMITERS[path.suffix]),
                convert_options=pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=["", "n/a"]),
            )
        else:
            raise DataError(f"{path} is no table that is read; wanted .csv, .tsv or .parquet")
    except StoreError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable table: {error}") from error
    if not len(table):
        raise DataError(f"{path} has no rows")
    if _ID in table.column_names or _SHORT not in table.column_names:
        return table
    return table.rename_columns([_ID if name == _SHORT else name for name in table.column_names])


def text_column(path: Place, table: pa.Table, name: str) -> list[str]:
    """A column that must be there, as text. Raises DataError if it is not, or has empty values."""
    if name not in table.column_names:
        raise DataError(f"{path} lacks column {name!r}; it has {', '.join(table.column_names)}")
    if table[name].null_count:
        raise DataError(f"{path}: column {name!r} has {table[name].null_count} empty values of {len(table)}")
    return [str(value) for value in table[name].to_pylist()]


def read_sessions(path: Place, table: pa.Table) -> list[int] | None:
    """Session of each trial; None if the table has no such column.

    Raises
    ------
    DataError
        If sessions are not whole numbers.
    """
    if "session" not in table.column_names:
        return None
    try:
        sessions = table["session"].cast(pa.int32())
    except pa.ArrowException as error:
        raise DataError(f"{path}: column 'session' is {table['session'].type}, wanted whole numbers: {error}") from error
    if sessions.null_count:
        raise DataError(f"{path}: column 'session' has {sessions.null_count} empty values of {len(table)}")
    return sessions.to_pylist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SplitRule:
    """Which images are for testing where no column says it."""

    share: float | None = None
    """This share of them, each by a hash of its id and `seed`."""
    repeats: int | None = None
    """Those shown at least so often."""
    seed: int = 0

    @property
    def given(self) -> list[str]:
        """The options that are given."""
        return [name for name, value in (("test_share", self.share), ("test_repeats", self.repeats)) if value is not None]

    @property
    def words(self) -> str:
        """What chooses test images."""
        if self.share is not None:
            return f"a share of {self.share:g}, by id and seed {self.seed}"
        return "the column split" if self.repeats is None else f"shown {self.repeats} times or more"

    def tests(self, ids: list[str], shown: Iterable[str]) -> set[str]:
        """The ids of test images; `shown` names each trial's."""
        if self.share is not None:
            check_share(self.share)
            return held_out(ids, self.share, self.seed)
        counts = Counter(shown)
        return {one for one in ids if counts[one] >= (self.repeats or 0)}


def read_stimuli(path: Place | None, trials: Place, shown: list[str], rule: SplitRule) -> tuple[pa.Table, list[str]]:
    """Columns `checks.STIMULI` of the stimuli that were shown, and what a reader should know.

    Parameters
    ----------
    path : Place or None
        Their table; none takes the ids of the trials for uris.
    trials : Place
        The table of trials, for messages; `shown` is the stimulus of each.

    Raises
    ------
    ConfigError
        Unless exactly one of the column `split` and the options says which images are for testing.
    DataError
        If the table is not readable, lacks a stimulus that was shown, or has one twice.
    """
    notes: list[str] = []
    if path is None:
        path, table = trials, pa.table({_ID: list(dict.fromkeys(shown))})
    else:
        table = read_lab_table(path)
        ids = text_column(path, table, _ID)
        table = table.set_column(table.column_names.index(_ID), _ID, pa.array(ids))
        check_unique(path, table, _ID)
        unknown = sorted(set(shown) - set(ids))
        if unknown:
            raise DataError(f"{trials} names {len(unknown)} stimuli that {path.name} does not have: {', '.join(unknown[:5])}")
        seen = set(shown)
        if len(seen) < len(ids):
            notes.append(f"{len(ids) - len(seen)} stimuli of {path.name} were never shown and are left out")
            table = table.filter(pa.array([one in seen for one in ids]))
    columns = {
        _ID: table[_ID],
        "uri": text_column(path, table, "uri") if "uri" in table.column_names else table[_ID],
        "split": _splits(path, table, shown, rule),
    }
    if "caption" in table.column_names:
        columns["caption"] = table["caption"]
    made = conformed(path, pa.table(columns), STIMULI, (_ID, "uri", "split"))
    check_splits(path, made)
    return made, notes


def _splits(path: Place, stimuli: pa.Table, shown: list[str], rule: SplitRule) -> list[str]:
    ways = rule.given + (["the column `split`"] if "split" in stimuli.column_names else [])
    if len(ways) != 1:
        got = f"got {' and '.join(ways)}" if ways else f"{path.name} has no column `split`, and neither option is given"
        raise ConfigError(
            f"which images are for testing is said by the column `split`, by test_share or by test_repeats, one of them; {got}"
        )
    if not rule.given:
        return text_column(path, stimuli, "split")
    ids = stimuli[_ID].to_pylist()
    tests = rule.tests(ids, shown)
    if not tests:
        raise DataError(f"{path}: no image is held out of {len(ids)}: change {ways[0]}")
    return ["test" if one in tests else "train" for one in ids]
