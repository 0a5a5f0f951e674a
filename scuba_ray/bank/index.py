"""An index over a bank's unit embeddings (FAISS): the nearest pictures of a direction without a pass over the bank.

It lies beside the shards, one per backbone, and belongs to one state of the bank:

    BANK/index/<backbone>-<bank fingerprint, 12 digits>.faiss             the index itself
    BANK/index/<backbone>-<bank fingerprint, 12 digits>.norms.npy         float32, a norm per row
    BANK/index/<backbone>-<bank fingerprint, 12 digits>.partitions.npy    uint8, a partition per row
    BANK/index/<backbone>-<bank fingerprint, 12 digits>.json              how it was built and how good it is, written last

Files are memory-mapped, so that processes of one machine share them; `bank/index_build.py` writes them. METHOD section 3: an
approximate index serves look-ups, and serves projection only with a stated bound (`core/truncated.py`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from scuba_ray.bank.shards import BankFolder
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import files
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.large_files import local_copy

FOLDER = "index"
GPU_LARGEST_K = 2048
"""METHOD: FAISS returns no more neighbours than this on a GPU."""

_TILE = 8192
"""Rows of the bank read at once where its shards are read: `tile * dim * 2` bytes."""

Kind = Literal["flat", "ivf-flat", "ivf-pq"]


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """How an index was built and how good it is: its `.json`."""

    kind: Kind
    backbone: str
    backbone_fingerprint: str
    bank: str
    """Fingerprint of the state of the bank it was built for."""
    rows: int
    dim: int
    lists: int
    """Inverted lists; 0 for a flat index."""
    probes: int
    """Lists visited for a query."""
    code_bytes: int
    """Bytes per row in the index."""
    seed: int
    queries: int
    """Random voxel-like directions the next three were measured with (`index_build.like_voxels`); 0 for a flat index, which
    is exact by construction."""
    recall_10: float
    recall_64: float
    scanned: float
    """Share of the bank's rows in the lists visited, mean over the queries."""
    seconds: float
    threads: int
    faiss: str
    bytes: int
    """Size of the index file."""

    @property
    def exact(self) -> bool:
        """Whether what it finds are the nearest rows, all of them."""
        return self.kind == "flat"

    @property
    def identity(self) -> str:
        """Of everything that decides what it answers."""
        return fingerprint("index", self.kind, self.bank, self.lists, self.probes, self.code_bytes, self.seed, self.faiss)


def faiss_module() -> Any:
    """The module `faiss`.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "an index needs FAISS, which is not installed: pip install 'scuba-ray[cpu]', or 'scuba-ray[gpu]' on a CUDA machine"
        ) from error
    return faiss


def stem(bank: BankFolder) -> str:
    """Name, without its ending, of the files of this bank's index inside the bank's folder."""
    return f"{FOLDER}/{bank.metadata['backbone']}-{bank.fingerprint[:12]}"


def describe(bank: BankFolder) -> dict[str, Any] | None:
    """What `scuba bank info` says of a bank's index; None if there is none.

    `present` is false for one that was built for another state of the bank, and is of no use before it is built again.
    """
    name = bank.metadata["backbone"]
    found = [one for one in names_of(bank.location, name) if one.endswith(".json")]
    if not found:
        return None
    info = _info(bank.location, f"{FOLDER}/{found[-1]}")
    shown = ("kind", "rows", "recall_10", "recall_64", "scanned", "probes", "lists", "bytes")
    return {"present": info.bank == bank.fingerprint} | {one: getattr(info, one) for one in shown}


def names_of(location: str, backbone: str) -> list[str]:
    """Names of the index files of `backbone` (by name) in a bank folder, for whatever state of the bank."""
    mine = re.compile(re.escape(backbone) + r"-[0-9a-f]{12}\.[a-z.]+")
    return sorted(name for name in files.names(location, FOLDER) if mine.fullmatch(name))


def info_of(bank: BankFolder) -> IndexInfo:
    """What is known of the index of this bank, as it is now.

    Raises
    ------
    ConfigError
        If there is none, or it was built for another state of the bank.
    DataError
        If its description is damaged.
    """
    name, advice = bank.metadata["backbone"], f"`scuba bank index {bank.location} --backbone MODEL`"
    stale = ConfigError(f"the index for {name} at {bank.location} was built for another state of the bank: run {advice} again")
    try:
        info = _info(bank.location, f"{stem(bank)}.json")
    except FileNotFoundError:
        if describe(bank) is not None:
            raise stale from None
        raise ConfigError(f"the bank at {bank.location} has no index for {name}: build one with {advice}") from None
    if info.bank != bank.fingerprint or info.backbone_fingerprint != bank.metadata["backbone_fingerprint"]:
        raise stale
    return info


def _info(location: str, name: str) -> IndexInfo:
    try:
        return IndexInfo(**json.loads(files.read(location, name)))
    except (ValueError, TypeError) as error:
        raise DataError(f"{location}/{name} does not describe an index: {error}; run scuba bank index again") from error


class BankIndex:
    """A bank's index, open for reading. Opens nothing until it is asked.

    Parameters
    ----------
    bank : BankFolder
    device : str
        `cpu`, or `cuda` to search on the GPU (the whole index moves there); stored vectors are read from the file either way.
    threads : int
        OpenMP threads of FAISS, for the whole process. Scores differ between numbers of threads by rounding only.

    Raises
    ------
    ConfigError
        If the bank has no index in its present state, FAISS is not installed, or is not built for GPUs.
    """

    def __init__(self, bank: BankFolder, *, device: str = "cpu", threads: int = 1) -> None:
        self.bank = bank
        self.info = info_of(bank)
        self._faiss = faiss_module()
        self._faiss.omp_set_num_threads(threads)
        self._gpu = device.startswith("cuda")
        self._device = int(device.partition(":")[2] or 0)
        if self._gpu and not hasattr(self._faiss, "index_cpu_to_gpu"):
            raise ConfigError(
                "the FAISS installed here searches on the CPU only: pip install 'scuba-ray[gpu]', or use device: cpu"
            )

    @cached_property
    def norms(self) -> npt.NDArray[np.float32]:
        """Norm of every row, memory-mapped."""
        return self._array("norms", np.dtype(np.float32))

    @cached_property
    def partitions(self) -> npt.NDArray[np.uint8]:
        """Partition of every row, memory-mapped."""
        return self._array("partitions", np.dtype(np.uint8))

    def _array(self, what: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        path = self._local(f"{stem(self.bank)}.{what}.npy", None)
        try:
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(path, error) from error
        if array.shape != (self.info.rows,) or array.dtype != dtype:
            raise self._damaged(path, f"{array.dtype} of shape {array.shape}, wanted {dtype} of shape {(self.info.rows,)}")
        return array

    @cached_property
    def stored(self) -> Any:
        """The index as it lies on the disk, memory-mapped: vectors are read from it."""
        path = self._local(f"{stem(self.bank)}.faiss", self.info.bytes)
        faiss = self._faiss
        flags = faiss.IO_FLAG_READ_ONLY | (faiss.IO_FLAG_MMAP_IFC if self.info.exact else faiss.IO_FLAG_MMAP)
        try:
            index = faiss.read_index(str(path), flags)
        except RuntimeError as error:
            raise self._damaged(path, str(error).rpartition(": ")[2]) from error
        if (index.ntotal, index.d) != (self.info.rows, self.info.dim):
            raise self._damaged(path, f"{index.ntotal} rows of {index.d}, wanted {self.info.rows} of {self.info.dim}")
        if not self.info.exact:
            index.nprobe = self.info.probes
        return index

    @cached_property
    def _searched(self) -> Any:
        if not self._gpu:
            return self.stored
        return self._faiss.index_cpu_to_gpu(self._faiss.StandardGpuResources(), self._device, self.stored)

    def _local(self, name: str, size: int | None) -> Path:
        try:
            path = local_copy(self.bank.location, name, self.info.identity)
        except FileNotFoundError as error:
            raise self._damaged(Path(name), "it is not there") from error
        if size is not None and path.stat().st_size != size:
            raise self._damaged(path, f"{path.stat().st_size} bytes, wanted {size}")
        return path

    def _damaged(self, path: Path, why: object) -> DataError:
        return DataError(f"{self.bank.location}: index file {path.name} is damaged: {why}; run scuba bank index again")

    def nearest(self, directions_VD: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The nearest rows of the bank.

        Parameters
        ----------
        directions_VD : array of shape (V, D)
            Unit rows. They are searched together: the more at once, the fewer passes over the index.
        k : int
            Rows wanted for each.

        Returns
        -------
        cos_Vk : array of float32 of shape (V, k)
            Falling; NaN where there are fewer. Of IVF-PQ they are estimates, from the codes.
        row_Vk : array of int64 of shape (V, k)
            -1 where there are fewer.

        Raises
        ------
        ConfigError
            If `k` is beyond what FAISS finds on a GPU, or directions have another length than the bank's.
        """
        if directions_VD.ndim != 2 or directions_VD.shape[1] != self.info.dim:
            raise ConfigError(f"directions must have shape (V, {self.info.dim}) as the bank has, got {directions_VD.shape}")
        if k < 1:
            raise ConfigError(f"k, the number of nearest pictures, must be at least 1, got {k}")
        if self._gpu and k > GPU_LARGEST_K:
            raise ConfigError(f"k must be at most {GPU_LARGEST_K} on a GPU, got {k}; search with device cpu for more")
        index = self._searched
        cos_Vk, row_Vk = index.search(np.ascontiguousarray(directions_VD, np.float32), k)
        cos_Vk[row_Vk < 0] = np.nan
        return cos_Vk, row_Vk

    def vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The unit embeddings of rows (different, rising), float32, as they were stored and not from codes.

        Memory: `rows * dim * 4` bytes. An IVF-PQ index has codes only: for it the bank's shards are read, up to the last row.
        """
        if self.info.kind == "ivf-pq":
            return _from_shards(self.bank, rows)
        index = self.stored
        if self.info.kind == "ivf-flat" and index.direct_map.no():
            index.make_direct_map()
        units: npt.NDArray[np.float32] = index.reconstruct_batch(rows)
        return units


def _from_shards(bank: BankFolder, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    found: list[npt.NDArray[np.float32]] = []
    for tile in bank.tiles(_TILE):
        first, stop = np.searchsorted(rows, [tile.offset, tile.offset + len(tile.norm_K)])
        picked_ND = tile.embedding_KD[rows[first:stop] - tile.offset]
        found.append(unit_and_norm(torch.tensor(picked_ND))[0].numpy())
        if stop == len(rows):
            break
    return np.concatenate(found)
