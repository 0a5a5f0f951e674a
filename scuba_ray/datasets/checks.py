"""Reading the tables of a data set and saying what is wrong with them: got, wanted, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, HEMISPHERES
from scuba_ray.datasets.places import Place, place, readable
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import ConfigError, DataError

STIMULI = pa.schema([("stimulus_id", pa.string()), ("uri", pa.string()), ("split", pa.string()), ("caption", pa.string())])
TRIALS = pa.schema([("trial", pa.int64()), ("stimulus_id", pa.string()), ("session", pa.int32())])
VOXELS = pa.schema(
    [
        ("voxel_id", pa.int64()),
        ("hemi", pa.string()),
        ("vertex", pa.int32()),
        ("i", pa.int32()),
        ("j", pa.int32()),
        ("k", pa.int32()),
        ("xyz", pa.list_(pa.float32(), 3)),
        ("rois", pa.list_(pa.string())),
        ("ncsnr", pa.float32()),
    ]
)
"""Schemas of `protocols.SubjectDataset`; a data set's own further columns are left where they are."""
SPLITS = ("train", "test")
_NAMED = 5
_SESSION_MINIMUM = 2


class Problems:
    """Collects what is wrong with the parts of a data set, so that all of it is told at once, a line each."""

    def __init__(self) -> None:
        self._found: list[ConfigError | DataError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Take note of what is wrong in here, and go on after it."""
        try:
            yield
        except (ConfigError, DataError) as error:
            self._found.append(error)

    @property
    def none(self) -> bool:
        """Whether nothing is wrong so far: what needs all that came before can be looked at."""
        return not self._found

    def tell(self) -> None:
        """Raise what was found, if anything, each line once: a DataError if any of it is one, else a ConfigError."""
        if self._found:
            kind = DataError if any(isinstance(error, DataError) for error in self._found) else ConfigError
            lines = dict.fromkeys(line for error in self._found for line in str(error).splitlines())
            raise kind("\n".join(lines)) from self._found[0]


def data_folder(path: str) -> Place:
    """The folder of a data set, on this machine or on a store. Raises ConfigError if the store cannot be reached."""
    folder = place(path)
    try:
        folder.exists()
    except StoreError as error:
        raise ConfigError(str(error)) from error
    return folder


def read_table(path: Place, schema: pa.Schema, required: tuple[str, ...]) -> pa.Table:
    """Read the columns of `schema` from a Parquet file, cast to its types; columns not `required` are null where absent.

    Raises
    ------
    DataError
        If the file is missing or unreadable, a required column is absent or holds nulls, or a type cannot be cast.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    try:
        table = pq.read_table(readable(path))
    except StoreError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    return conformed(path, table, schema, required)


def conformed(path: Place, table: pa.Table, schema: pa.Schema, required: tuple[str, ...]) -> pa.Table:
    """The columns of `schema` from a table that was read from `path`, as in `read_table`."""
    absent = [name for name in required if name not in table.column_names]
    if absent:
        raise DataError(f"{path} lacks column {absent[0]!r}; it has {', '.join(table.column_names)}")
    columns = [_column(path, table, field, nullable=field.name not in required) for field in schema]
    return pa.table(columns, schema=schema)


def _column(path: Place, table: pa.Table, field: pa.Field, *, nullable: bool) -> pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table[field.name].combine_chunks()
    if column.null_count and not nullable:
        raise DataError(f"{path}: column {field.name!r} has {column.null_count} empty values of {len(column)}")
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {field.name!r} is {column.type}, wanted {field.type}: {error}") from error


def check_unique(path: Place, table: pa.Table, name: str) -> None:
    """Raise DataError if a key column names anything twice or the table is empty."""
    if not len(table):
        raise DataError(f"{path} has no rows")
    twice = [str(value) for value, count in Counter(table[name].to_pylist()).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: {name} must be unique, but {_some(twice)} {'is' if len(twice) == 1 else 'are'} there more than once"
        )


def check_voxels(path: Place, voxels: pa.Table, *, on_fsaverage5: bool) -> pa.Table:
    """The table of voxels with empty lists where no region is known.

    Raises
    ------
    DataError
        If an id is there twice, a hemisphere is neither `lh` nor `rh`, or a vertex is none of fsaverage5's where it should be.
    """
    check_unique(path, voxels, "voxel_id")
    hemis = set(voxels["hemi"].to_pylist()) - {None, *HEMISPHERES}
    if hemis:
        raise DataError(f"{path}: hemi must be 'lh' or 'rh' (or empty), got {', '.join(sorted(hemis))}")
    vertex = voxels["vertex"].drop_null()
    if on_fsaverage5 and len(vertex):
        low, high = pc.min_max(vertex).as_py().values()
        if low < 0 or high >= FSAVERAGE5_VERTICES:
            raise DataError(f"{path}: vertices of fsaverage5 are 0 to {FSAVERAGE5_VERTICES - 1}, got {low} to {high}")
    rois = pa.array([names or [] for names in voxels["rois"].to_pylist()], pa.list_(pa.string()))
    return voxels.set_column(voxels.column_names.index("rois"), "rois", rois)


def check_splits(path: Place, stimuli: pa.Table) -> None:
    """Raise DataError unless every split is `train` or `test` and there are training stimuli."""
    got = set(stimuli["split"].to_pylist())
    if got - set(SPLITS):
        raise DataError(f"{path}: split must be 'train' or 'test', got {_some(sorted(got - set(SPLITS)))}")
    if "train" not in got:
        raise DataError(f"{path} has no stimulus with split 'train': nothing can be fitted")


def check_trials(path: Place, trials: pa.Table, stimuli: pa.Table) -> None:
    """Raise DataError unless trials are numbered in the order of the responses, and trials and stimuli name each other.

    Every session needs two training trials: its mean and deviation come from them.
    """
    if not len(trials):
        raise DataError(f"{path} has no rows")
    if not np.array_equal(trials["trial"].to_numpy(), np.arange(len(trials))):
        raise DataError(
            f"{path}: column 'trial' must count 0 to {len(trials) - 1} in the row order of responses.npy; sort or renumber it"
        )
    shown, known = set(trials["stimulus_id"].to_pylist()), set(stimuli["stimulus_id"].to_pylist())
    if shown - known:
        raise DataError(
            f"{path} names {len(shown - known)} stimuli that stimuli.parquet does not have: {_some(sorted(shown - known))}"
        )
    if known - shown:
        raise DataError(
            f"{len(known - shown)} stimuli have no trial ({_some(sorted(known - shown))}): take them out of stimuli.parquet"
        )
    training = pc.is_in(
        trials["stimulus_id"], stimuli.filter(pc.equal(stimuli["split"], "train"))["stimulus_id"].combine_chunks()
    )
    counts = Counter(trials["session"].filter(training).to_pylist())
    short = sorted(session for session in set(trials["session"].to_pylist()) if counts[session] < _SESSION_MINIMUM)
    if short:
        raise DataError(
            f"{path}: session {short[0]} has {counts[short[0]]} training trials, wanted {_SESSION_MINIMUM} or more: "
            "a session's mean and deviation come from its training trials"
        )


def _some(values: list[str]) -> str:
    """The first few of a list, in words."""
    more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return ", ".join(values[:_NAMED]) + more
