"""What a bank's collections are made of: the files of each, recorded in the bank's folder before anything is computed.

    BANK/listings/<collection>.parquet    name and bytes of every file, and in the metadata where they lie

A source that has grown gives its new files as a further portion (`pictures+1`, `pictures+2`, ...), a collection of its own in
every table. Workers read their slice of the record, so nobody lists a store of millions of files but the driver, once.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import files
from scuba_ray.tables.fingerprint import fingerprint

FOLDER = "listings"
_PARQUET = ".parquet"
_ABOUT = b"collection"
_GROUP = 1 << 16
"""Files per row group: what a worker reads to see a slice of a listing."""


@dataclass(frozen=True)
class Listing:
    """One collection, or one portion of it: which files, from where, and what came before it in the folder."""

    collection: str
    images: str
    source: str
    prefix: str
    """What is put before the ids of its pictures."""
    content: str
    """Fingerprint of the whole source when this was recorded."""
    earlier: tuple[str, ...]
    """Collections that were in the folder before, in the order they came: pictures of those are not taken again."""
    imported: tuple[str, ...] = ()
    """Units of the table `bank` that were in the folder before and that no source was listed for: their ids are taken."""
    files: int = 0
    bytes: int = 0
    digest: str = ""
    """Of the files' names and sizes."""

    @property
    def name(self) -> str:
        """The collection this is a portion of."""
        return name_of(self.collection)

    @cached_property
    def fingerprint(self) -> str:
        """Of what the pictures of this collection depend on; not of where the source lies, for a folder may move."""
        return fingerprint(self.digest, self.content, self.source, self.prefix)


def collection_name(given: str | None, place: str) -> str:
    """What a collection is called: as the user says, else after the last part of the place its pictures come from.

    Raises
    ------
    ConfigError
        If that is no name for a part of keys and files.
    """
    name = given or re.sub(r"[^A-Za-z0-9_.-]+", "-", place.rpartition("/")[2]).strip("-.")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ConfigError(f"--collection must be letters, digits, '_', '.' and '-' only, got {name!r}")
    return name


def name_of(collection: str) -> str:
    """The collection that a portion belongs to: `pictures` of `pictures+2`."""
    return collection.partition("+")[0]


def listed(location: str) -> list[Listing]:
    """The collections recorded in a folder, in the order they came.

    Raises
    ------
    DataError
        If a record cannot be read.
    """
    names = [name for name in files.names(location, FOLDER) if name.endswith(_PARQUET) and not name.startswith(".")]
    found = (_about(location, unquote(name.removesuffix(_PARQUET))) for name in names)
    return sorted(found, key=lambda listing: len(listing.earlier))


def counted(listing: Listing, table: pa.Table) -> Listing:
    """What a collection is made of (columns name and bytes, by name), counted and digested."""
    digest = hashlib.sha256()
    for batch in table.select(["name", "bytes"]).to_batches(_GROUP):
        digest.update("\n".join(batch["name"].to_pylist()).encode() + b"\0")
        digest.update(batch["bytes"].to_numpy().tobytes())
    total = pc.sum(table["bytes"]).as_py()
    return replace(listing, files=table.num_rows, bytes=total, digest=digest.hexdigest())


def record(location: str, listing: Listing, table: pa.Table) -> Listing:
    """Write what a collection is made of (columns name and bytes, by name), atomically; the table is held in memory once more."""
    listing = counted(listing, table)
    sink = pa.BufferOutputStream()
    about = {name: getattr(listing, name) for name in Listing.__dataclass_fields__}
    pq.write_table(
        table.select(["name", "bytes"]).replace_schema_metadata({_ABOUT: json.dumps(about).encode()}),
        sink,
        compression="zstd",
        row_group_size=_GROUP,
        write_page_checksum=True,
    )
    files.write(location, _file(listing.collection), sink.getvalue().to_pybytes())
    return listing


def files_of(location: str, collection: str, start: int = 0, stop: int | None = None) -> pa.Table:
    """Files `[start, stop)` of a recorded collection, all if no end is given: columns name and bytes."""
    with _open(location, collection) as parquet:
        stop = parquet.metadata.num_rows if stop is None else stop
        first, last = start // _GROUP, -(-stop // _GROUP)
        table = parquet.read_row_groups(list(range(first, min(last, parquet.num_row_groups))))
    return table.slice(start - first * _GROUP, stop - start).replace_schema_metadata(None)


def _about(location: str, collection: str) -> Listing:
    with _open(location, collection) as parquet:
        try:
            stated = json.loads(parquet.schema_arrow.metadata[_ABOUT])
            lists: dict[str, Any] = {name: tuple(stated.pop(name)) for name in ("earlier", "imported")}
            return Listing(**stated, **lists)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{location}/{_file(collection)} is no record of a collection: {error}; delete it") from error


def _open(location: str, collection: str) -> pq.ParquetFile:
    source, root = files.filesystem(location)
    try:
        return pq.ParquetFile(f"{root}/{_file(collection)}", filesystem=source, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{location}/{_file(collection)} cannot be read: {error}; delete it and build again") from error


def _file(collection: str) -> str:
    return f"{FOLDER}/{quote(collection, safe='+')}{_PARQUET}"
