"""Building a bank's index: which kind, training, adding, and how good it is, measured against exact search.

The bank is read three times as a stream of tiles (sample, rows, exact search) and is never held; the index itself is, while it is
built. With the same bank, seed, number of threads and FAISS the index is the same; k-means sums in another order with another
number of threads.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scuba_ray.bank.index import FOLDER, IndexInfo, Kind, faiss_module, names_of, stem
from scuba_ray.bank.shards import BankFolder, Tile
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.errors import ConfigError
from scuba_ray.tables import files, lock
from scuba_ray.tables.large_files import replacing

FLAT_ROWS = 100_000
"""Rows up to which the index is flat: searched as a whole, exact, milliseconds a query."""
POINTS_PER_LIST = 39
"""FAISS's advice: no fewer training points than this per list ..."""
ENOUGH_PER_LIST = 64
"""... and this many are enough for lists of even size (FAISS looks at 256 at most)."""
TRAINING_ROWS = 500_000
"""Largest training sample: `500,000 * dim * 4` bytes, 1 GB at 512."""
TILE = 8192
QUERIES = 256
NEIGHBOURS = 64
RECALL = 0.95
"""Wanted of the ten nearest."""
SCANNED = 0.2
"""Share of the bank's rows that a query may visit for it."""
GROWTH = 1.1
"""Each number of lists tried is this many times the one before."""


@dataclass(frozen=True)
class Plan:
    """What is built: its kind, inverted lists (0: none), and bytes of a row in it."""

    kind: Kind
    lists: int
    code_bytes: int


def plan(rows: int, dim: int, *, kind: Kind | None = None, memory_gib: float = 16.0) -> Plan:
    """Choose an index by size.

    Flat up to `FLAT_ROWS`, IVF-Flat as long as vectors (4 bytes a number) fit `memory_gib`, above that IVF-PQ with the longest
    codes that fit: a byte for every 2, 4, 8 or 16 numbers. Lists are `4 sqrt(rows)`, fewer where there are too few rows to train.

    Raises
    ------
    ConfigError
        If there are too few rows for the kind asked for, or no code is short enough for the memory.
    """
    if kind is None:
        kind = "flat" if rows <= FLAT_ROWS else "ivf-flat" if rows * (4 * dim + 8) <= memory_gib * 2**30 else "ivf-pq"
    if kind == "flat":
        return Plan(kind, 0, 4 * dim)
    lists = min(int(4 * rows**0.5), min(rows, TRAINING_ROWS) // POINTS_PER_LIST)
    least = 256 if kind == "ivf-pq" else POINTS_PER_LIST
    if rows < least:
        raise ConfigError(f"an {kind} index needs at least {least} rows to train on, the bank has {rows}; use --kind flat")
    if kind == "ivf-flat":
        return Plan(kind, lists, 4 * dim)
    lengths = [dim // numbers for numbers in (2, 4, 8, 16) if dim % numbers == 0]
    fitting = [length for length in lengths if rows * (length + 8) <= memory_gib * 2**30]
    if not fitting:
        raise ConfigError(
            f"{rows:,} rows of {dim} do not fit {memory_gib:g} GiB even as codes of {min(lengths, default=dim)} bytes: "
            "give --memory-gib more"
        )
    return Plan(kind, lists, fitting[0])


def build_index(
    bank: BankFolder, *, kind: Kind | None = None, seed: int = 0, threads: int = 1, memory_gib: float = 16.0
) -> IndexInfo:
    """Build, measure and write the index of a bank; one that was there before is replaced.

    Parameters
    ----------
    kind : optional
        None chooses by size (`plan`).
    seed : int
        Of the training sample, of k-means and of the queries.
    threads : int
        Of FAISS and torch in this process.
    memory_gib : float
        What the index may take, in memory while it is built and on the disk, where `kind` is left open or `ivf-pq`. A flat or
        an IVF-Flat one that is asked for by name takes what it takes, and so does one of up to `FLAT_ROWS` rows.

    Raises
    ------
    ConfigError
        If FAISS is not installed, the kind does not fit the bank, or its folder cannot be written to or is in use.
    DataError
        If a shard is damaged.
    """
    faiss, began = faiss_module(), time.perf_counter()
    with lock.hold(bank.location):
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(threads)
        dim = int(bank.metadata["dim"])
        planned = plan(bank.rows, dim, kind=kind, memory_gib=memory_gib)
        index = _empty(faiss, planned, dim, seed)
        if not index.is_trained:
            per_list = max(ENOUGH_PER_LIST * planned.lists, 64 * 256)
            index.train(_sample(bank, min(per_list, TRAINING_ROWS), seed))
        columns = _add(index, bank)
        info = IndexInfo(
            kind=planned.kind,
            backbone=bank.metadata["backbone"],
            backbone_fingerprint=bank.metadata["backbone_fingerprint"],
            bank=bank.fingerprint,
            rows=bank.rows,
            dim=dim,
            lists=planned.lists,
            probes=0,
            code_bytes=planned.code_bytes,
            seed=seed,
            queries=0,
            recall_10=1.0,
            recall_64=1.0,
            scanned=1.0,
            seconds=0.0,
            threads=threads,
            faiss=faiss.__version__,
            bytes=0,
        )
        if not info.exact:
            info = _measured(index, bank, info)
        return _write(bank, index, columns, replace(info, seconds=round(time.perf_counter() - began, 3)))


def _empty(faiss: Any, planned: Plan, dim: int, seed: int) -> Any:
    """An index without rows; its lists will be found by k-means on the sphere."""
    if planned.kind == "flat":
        return faiss.IndexFlatIP(dim)
    code = "Flat" if planned.kind == "ivf-flat" else f"PQ{planned.code_bytes}np"  # np: no reordering of codes, half a minute
    index = faiss.index_factory(dim, f"IVF{planned.lists},{code}", faiss.METRIC_INNER_PRODUCT)
    for clustering in [index.cp, *([index.pq.cp] if planned.kind == "ivf-pq" else [])]:
        clustering.seed, clustering.min_points_per_centroid = seed, 1  # `plan` sees to enough points
    return index


def _unit_rows(tile: Tile) -> npt.NDArray[np.float32]:
    unit_ND: npt.NDArray[np.float32] = unit_and_norm(torch.tensor(tile.embedding_KD))[0].numpy()
    return unit_ND


def _sample(bank: BankFolder, size: int, seed: int) -> npt.NDArray[np.float32]:
    """Unit embeddings of random rows, the same for the same bank and seed."""
    rows = np.random.default_rng(seed).choice(bank.rows, min(size, bank.rows), replace=False)
    rows.sort()
    sample_ND = np.empty((len(rows), int(bank.metadata["dim"])), np.float32)
    done = 0
    for tile in bank.tiles(TILE):
        mine = rows[done : np.searchsorted(rows, tile.offset + len(tile.norm_K))] - tile.offset
        sample_ND[done : done + len(mine)] = _unit_rows(tile)[mine]
        done += len(mine)
    return sample_ND


def _add(index: Any, bank: BankFolder) -> dict[str, npt.NDArray[Any]]:
    """Add every row; returns the columns that are kept beside the index, 5 bytes a row."""
    norm_K, partition_K = np.empty(bank.rows, np.float32), np.empty(bank.rows, np.uint8)
    for tile in bank.tiles(TILE):
        index.add(_unit_rows(tile))
        rows = slice(tile.offset, tile.offset + len(tile.norm_K))
        norm_K[rows], partition_K[rows] = tile.norm_K, tile.partition_K
    return {"norms": norm_K, "partitions": partition_K}


def like_voxels(bank: BankFolder, count: int, seed: int) -> npt.NDArray[np.float32]:
    """Random unit directions as voxels have them: a mixture of 3 embeddings of the bank, with noise, after the bank's mean.

    Weights of a ridge are a mixture of *centred* embeddings, and noisy, so rows of the bank would be queries far too easy (each
    is its own nearest). The noise has half the length of the mixture.
    """
    rng = np.random.default_rng([seed, 1])
    sample_ND = _sample(bank, min(bank.rows, 4096), seed)
    sample_ND -= sample_ND.mean(axis=0)
    picked_Q3 = rng.integers(len(sample_ND), size=(count, 3))
    mixture_QD = np.einsum("qn,qnd->qd", rng.dirichlet(np.ones(3), size=count), sample_ND[picked_Q3])
    noise_QD = rng.normal(size=mixture_QD.shape)
    query_QD = _unit(mixture_QD) + 0.5 * _unit(noise_QD)
    return _unit(query_QD).astype(np.float32)


def _unit(rows_ND: npt.NDArray[Any]) -> npt.NDArray[Any]:
    lengths: npt.NDArray[Any] = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return np.asarray(rows_ND / np.maximum(lengths, 1e-30))


def exact_nearest(bank: BankFolder, query_QD: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """The k nearest rows of the bank by a pass over all of it: `Q * (tile + k) * 4` bytes."""
    queries = torch.from_numpy(query_QD)
    best_Qk = torch.full((len(queries), 0), -torch.inf)
    row_Qk = torch.full((len(queries), 0), -1)
    for tile in bank.tiles(TILE):
        score_QN = torch.cat([best_Qk, queries @ torch.from_numpy(_unit_rows(tile)).T], dim=1)
        index_N = torch.arange(tile.offset, tile.offset + len(tile.norm_K))
        row_QN = torch.cat([row_Qk, index_N.expand(len(queries), -1)], dim=1)
        best_Qk, chosen = torch.topk(score_QN, min(k, score_QN.shape[1]), dim=1)
        row_Qk = row_QN.gather(1, chosen)
    rows: npt.NDArray[np.int64] = row_Qk.numpy()
    return rows


def _measured(index: Any, bank: BankFolder, info: IndexInfo) -> IndexInfo:
    """Raise the number of lists visited until ten neighbours are found well enough, or a query visits too many rows."""
    query_QD = like_voxels(bank, QUERIES, info.seed)
    truth_Qk = exact_nearest(bank, query_QD, NEIGHBOURS)
    sizes_L = np.array([index.invlists.list_size(one) for one in range(info.lists)])
    _, order_QL = index.quantizer.search(query_QD, info.lists)
    scanned_L = sizes_L[order_QL].cumsum(axis=1).mean(axis=0) / info.rows
    probes, best = 0, info
    while probes < info.lists:
        probes = min(max(probes + 1, int(probes * GROWTH)), info.lists)
        scanned = float(scanned_L[probes - 1])
        if probes > 1 and scanned > SCANNED:
            break
        index.nprobe = probes
        found_Qk = index.search(query_QD, NEIGHBOURS)[1]
        recalls = [_recall(found_Qk[:, :k], truth_Qk[:, :k]) for k in (10, NEIGHBOURS)]
        best = replace(best, probes=probes, scanned=scanned, recall_10=recalls[0], recall_64=recalls[1], queries=len(query_QD))
        if recalls[0] >= RECALL:
            break
    index.nprobe = best.probes
    return best


def _recall(found_Qk: npt.NDArray[np.int64], truth_Qk: npt.NDArray[np.int64]) -> float:
    """Share of the true neighbours that were found."""
    hits = [len(np.intersect1d(found, truth)) for found, truth in zip(found_Qk, truth_Qk, strict=True)]
    return sum(hits) / truth_Qk.size


def _write(bank: BankFolder, index: Any, columns: dict[str, npt.NDArray[Any]], info: IndexInfo) -> IndexInfo:
    """Write all files, the description last. An index that was there goes first, so that no mixture of two is ever found."""
    files.clean(bank.location, FOLDER)
    for old in sorted(names_of(bank.location, info.backbone), key=lambda name: not name.endswith(".json")):
        files.delete(bank.location, f"{FOLDER}/{old}")
    for what, column_K in columns.items():
        with replacing(bank.location, f"{stem(bank)}.{what}.npy") as path, path.open("wb") as file:
            np.save(file, column_K, allow_pickle=False)
    with replacing(bank.location, f"{stem(bank)}.faiss") as path:
        faiss_module().write_index(index, str(path))
        size = path.stat().st_size
    info = replace(info, bytes=size)
    files.write(bank.location, f"{stem(bank)}.json", json.dumps(asdict(info), indent=1).encode())
    return info
