"""Embeddings that another program made, taken into a bank: no picture is read and no network runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.bank.importers import NORMS, Embeddings, choose_norms, open_embeddings
from scuba_ray.bank.info import STATISTICS
from scuba_ray.bank.layouts import Layout
from scuba_ray.bank.listings import collection_name, listed
from scuba_ray.bank.shards import TABLE, BankFolder, collection_of, open_bank, shard_metadata, unit_key
from scuba_ray.config import BackboneConfig, EngineConfig
from scuba_ray.datasets.content import file_digest, text_digest
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Backbone, Resources
from scuba_ray.records import steps_in
from scuba_ray.stages.bank_import import IMPORTED, ImportBank
from scuba_ray.tables import files, manifest
from scuba_ray.tables.progress import Listener
from scuba_ray.tables.store import RunFolder

CHUNK = 32_768
"""Rows of a shard, unless the caller says otherwise: at 512 numbers in float32, 64 MiB to read and 160 to convert."""
_AT_ONCE = 1 << 20
_TWICE = 1000


def import_bank(
    *,
    path: str,
    backbone: BackboneConfig,
    out: str,
    layout: Layout | None = None,
    norm: float | None = None,
    norms: str | None = None,
    metadata: str | None = None,
    collection: str | None = None,
    prefix: str = "",
    chunk: int = CHUNK,
    engine: EngineConfig | None = None,
    listen: Listener | None = None,
) -> BankFolder:
    """Take embeddings into the bank of `backbone` at `out`, as a collection; shards that are there are not made again.

    Parameters
    ----------
    path : str
        A .npy file or a folder in one of `bank.layouts`, on this machine (or on a disk that every node sees).
    norm, norms
        For unit vectors: one norm for all of them, or a .npy with a norm for each row of the arrays.
    metadata : str, optional
        Layout npy: Parquet or CSV with a row per picture, columns image_id, uri.
    collection : str, optional
        Its name in the bank; the name of the file or folder where none is given.
    prefix : str
        Put before the ids of these pictures, where another collection has the same ones.
    chunk : int
        Rows of a shard.

    Raises
    ------
    ConfigError
        If the embeddings are not the backbone's, lack a stated norm, or do not fit what is in the bank.
    DataError, WorkerError
        If files are not what their layout promises, or it failed; finished shards are kept and running again resumes.
    """
    collection = collection_name(collection, files.normalise(path).removesuffix(".npy"))
    engine, network, folder = engine or EngineConfig(), make_backbone(backbone), RunFolder(out)
    embeddings = open_embeddings(path, layout=layout, metadata=metadata, prefix=prefix)
    if embeddings.dim != network.dim:
        raise ConfigError(
            f"{path} holds embeddings of {embeddings.dim} numbers, {backbone.model} makes {network.dim}: "
            "they are of another network; name the one that made them with --backbone"
        )
    key = unit_key(network.name, collection)
    given = choose_norms(embeddings, norm, norms, lambda: _norm_to_take(_others(folder.location, network, key), network))
    digests = {file: file_digest(file) for file in (*embeddings.files, *([given.file] if given.file else []))}
    first = digests[embeddings.files[0]][:16]
    stage = ImportBank(
        embeddings=embeddings,
        norms=given,
        collection=collection,
        backbone=network.name,
        shard={**shard_metadata(network), IMPORTED: first.encode()},
        resources=Resources(cpus=engine.cpus_per_worker),
    )
    made_of = text_digest(*(f"{file.name}\n{digest}" for file, digest in digests.items()))
    about: dict[str, Any] = {
        "imported": path,
        "layout": embeddings.layout,
        "metadata": metadata,
        "prefix": prefix,
        "norms": str(given),
    }
    about |= {"backbone": backbone.model_dump()}
    with folder.lock():
        folder.claim({})
        _check_collection(folder.location, key, first)
        _check_ids(embeddings, _others(folder.location, network, key))
        collections = {**folder.read_run_json().get("collections", {}), collection: about}
        with steps_in(folder, engine, {"collections": collections}, listen) as steps:
            steps.complete(stage, key=key, rows=embeddings.rows, chunk=chunk, inputs=[made_of])
            steps.close_record(with_earlier=True)
    return open_bank(folder.location, network)


def _others(location: str, network: Backbone, key: str) -> BankFolder:
    """What the backbone's bank holds beside the unit `key`; perhaps nothing."""
    keys = [one for one in sorted(manifest.load(location, TABLE)) if one != key]
    stated = {one: BankFolder(location, one, (one,)).metadata["backbone_fingerprint"] for one in keys}
    return BankFolder(location, network.name, tuple(one for one in keys if stated[one] == network.fingerprint))


def _norm_to_take(bank: BankFolder, network: Backbone) -> str:
    """Where to find a norm to state: the mean of raw embeddings of this backbone in the same folder, or how to measure one."""
    total, rows = 0.0, 0
    for shard in bank.shards:
        with bank.open(shard) as file:
            about = file.schema_arrow.metadata
        if shard.rows and STATISTICS in about and about.get(NORMS, b"raw") == b"raw":
            total += json.loads(about[STATISTICS])["norm_mean"] * shard.rows
            rows += shard.rows
    if rows:
        return f"the {rows:,} raw embeddings of {network.name} in this bank have a mean norm of {total / rows:.4g}"
    return f"`scuba bank build` on some pictures of your own, then `scuba bank info`, gives the mean norm of {network.name}"


def _check_collection(location: str, key: str, first: str) -> None:
    """Raise ConfigError if the bank has a collection of this name that is not this import, grown or with other settings."""
    name = collection_of(key)
    made_of = "pictures embedded by `scuba bank build`" if name in {one.name for one in listed(location)} else ""
    entry = manifest.load(location, TABLE).get(key)
    for shard in entry.parts if entry else ():
        try:
            with BankFolder(location, key, (key,)).open(shard) as file:
                imported = file.schema_arrow.metadata.get(IMPORTED, b"").decode()
        except DataError:  # lost or damaged: it is about to be made again
            continue
        if imported != first:
            made_of = made_of or "other embeddings"
        break
    if made_of:
        raise ConfigError(
            f"the collection {name} in the bank at {location} is made of {made_of}; give this one another name with --collection"
        )


def _check_ids(embeddings: Embeddings, others: BankFolder) -> None:
    """Raise if an id comes twice, among the embeddings (DataError) or in other collections of the bank (ConfigError).

    Holds 8 bytes an id: their hashes. Those that are equal are looked at again.
    """
    run = RunFolder(others.location)
    finished = {collection_of(key) for key in run.keys(TABLE)}
    begun = [name for name in run.keys("admitted") if name not in finished]

    def own() -> Iterator[list[str]]:
        for start in range(0, embeddings.rows, _AT_ONCE):
            yield embeddings.named(start, min(start + _AT_ONCE, embeddings.rows))["image_id"].to_pylist()

    def there() -> Iterator[list[str]]:
        for name in begun:  # a build that was stopped will embed these
            yield run.read("admitted", key=name, columns=["image_id"])["image_id"].to_pylist()
        for shard in others.shards:
            with others.open(shard) as file:
                yield file.read(columns=["image_id"])["image_id"].to_pylist()

    mine = _hashes(own())
    twice = _repeated(own(), mine)
    if twice is not None:
        raise DataError(
            f"{embeddings.pieces[0].array.parent}: the image id {twice!r} is given to two rows; each picture of a bank needs one "
            "of its own: mend the table of pictures, or import the arrays as plain ones (--layout npy) under ARRAY/ROW"
        )
    known = _repeated(chain(own(), there()), np.concatenate([mine, _hashes(there())]))
    if known is not None:
        raise ConfigError(
            f"the bank at {others.location} has a picture {known!r} already, in another collection; if they are different "
            "pictures, put something before the ids of these with --prefix"
        )


def _hashes(texts: Iterable[list[str]]) -> npt.NDArray[np.int64]:
    """A number for each text, the same in this process only."""
    parts = [np.fromiter(map(hash, part), np.int64, len(part)) for part in texts]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _repeated(texts: Iterable[list[str]], hash_N: npt.NDArray[np.int64]) -> str | None:
    """A text that comes twice, None if there is none; `hash_N` tells which are worth a look."""
    hash_N = np.sort(hash_N)
    twice = set(np.unique(hash_N[1:][hash_N[1:] == hash_N[:-1]])[:_TWICE].tolist())
    if not twice:
        return None
    counts = Counter(text for part in texts for text in part if hash(text) in twice)
    return next((text for text, count in counts.items() if count > 1), None)
