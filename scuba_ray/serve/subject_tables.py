"""One subject's part of a run, in memory: weights, scores and captions; projections are read as they are asked for.

Answers are the run's own rows. What is computed here is small: predictions for embeddings, and cosines with texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.errors import ConfigError
from scuba_ray.report.compare import SUPPORT
from scuba_ray.report.image_table import IMAGE_COLUMNS
from scuba_ray.report.joined import VOXEL_COLUMNS, headline
from scuba_ray.report.show import best_first, with_cosines
from scuba_ray.stages.said import caption_prompt
from scuba_ray.tables.columns import matrix, vectors
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder

_RANKED = ["subject", "backbone", "voxel_id", "rois", "noise_ceiling", "r2", "q"]
_NAMED = 5
"""Voxels that a message names."""

PREDICTED = pa.schema(
    [
        ("image", pa.int32()),
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_ids", pa.list_(pa.int64())),
        ("predicted", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)
"""A row a picture; one that cannot be read has an error, and neither ids nor predictions."""


class SubjectTables:
    """Tables of one subject.

    Memory: V * D * 4 bytes of weights, the tables `voxels` (without weights), `captions`, `bands`, `support` and `images`
    (without pictures), and 12 bytes a projection. Methods may be called by several threads at once: nothing here changes after
    it is made.

    Parameters
    ----------
    folder : RunFolder
        A complete run.
    subject, backbone : str
        Whose tables; the backbone whose weights are captioned.

    Raises
    ------
    DataError
        If a table is not finished, or damaged.
    """

    def __init__(self, folder: RunFolder, subject: str, backbone: str) -> None:
        self._folder, self._subject, self._backbone, self._key = folder, subject, backbone, f"{subject}/{backbone}"
        voxels = folder.read("voxels", key=self._key, columns=[*VOXEL_COLUMNS, "weight", "bias"])
        has_V = pc.is_valid(voxels["weight"]).to_numpy(zero_copy_only=False)
        self._has_V: npt.NDArray[np.bool_] = has_V
        weight_ND = matrix(voxels["weight"].combine_chunks().drop_null()).astype(np.float32)
        self._weight_VD = np.zeros((len(voxels), weight_ND.shape[1]), np.float32)
        self._weight_VD[has_V] = weight_ND
        self._bias_V = voxels["bias"].to_numpy().astype(np.float32)
        self._voxels = voxels.drop_columns(["weight", "bias"]).combine_chunks()
        self._places = _Places(self._voxels["voxel_id"])
        units = [key for key in folder.keys("captions") if key == self._key or key.startswith(f"{self._key}/")]
        self._captions = pa.concat_tables([folder.read("captions", key=key) for key in units]).combine_chunks()
        self._said = _Places(self._captions["voxel_id"])
        self._best = headline(self._captions)
        self._projected = _Places(folder.read("projections", key=self._key, columns=["voxel_id"])["voxel_id"])
        self._bands, self._support = self._own("bands", None), self._own(SUPPORT, None)
        self._images = self._own("images", [*IMAGE_COLUMNS, "kind", "stimulus_id"])

    def weights(self, voxels: Sequence[int]) -> npt.NDArray[np.float32]:
        """Weights of voxels of this subject, in the order asked, (V, D).

        Raises
        ------
        ConfigError
            If some have none: they were not fitted, and the message says why.
        """
        place_V, _ = self._places.of(voxels)
        bad_V = ~self._has_V[place_V]
        if bad_V.any():
            status = self._voxels["status"].take(pa.array(place_V[bad_V])).to_pylist()
            ids = np.asarray(voxels)[bad_V].tolist()
            raise self._without("weights", [f"{voxel} ({why})" for voxel, why in zip(ids, status, strict=True)])
        found: npt.NDArray[np.float32] = self._weight_VD[place_V]
        return found

    def predict(self, embeddings: Sequence[npt.NDArray[np.float32] | str], voxels: Sequence[int] | None) -> pa.Table:
        """Predicted responses of voxels (None: all) to pictures: w . x / |x| + b, the encoding model of the run.

        Parameters
        ----------
        embeddings : sequence of array of shape (D,) or str
            Raw embeddings; a text says why a picture has none.
        voxels : sequence of int, optional

        Returns
        -------
        pa.Table
            Of schema `PREDICTED`. A voxel without weights is predicted null.
        """
        place_V = np.arange(len(self._voxels)) if voxels is None else self._places.of(voxels)[0]
        ids = self._voxels["voxel_id"].to_numpy()[place_V]
        weight_VD, bias_V, bad_V = self._weight_VD[place_V], self._bias_V[place_V], ~self._has_V[place_V]
        rows: list[pa.Array] = []
        for embedding in embeddings:
            if isinstance(embedding, str):
                rows.append(None)
                continue
            unit_D = embedding / np.linalg.norm(embedding)
            rows.append(pa.array(weight_VD @ unit_D + bias_V, pa.float32(), mask=bad_V))
        columns: dict[str, Any] = {
            "image": np.arange(len(embeddings)),
            "subject": [self._subject] * len(embeddings),
            "backbone": [self._backbone] * len(embeddings),
            "voxel_ids": [None if row is None else ids for row in rows],
            "predicted": rows,
            "error": [one if isinstance(one, str) else None for one in embeddings],
        }
        return pa.table(columns, schema=PREDICTED)

    def captions(self, voxels: Sequence[int], *, partitions: bool) -> pa.Table:
        """Rows of the table `captions`, of all methods, with `row` (whose place in `voxels` they belong to) before them."""
        place_N, row_N = self._said.of(voxels)
        self._check_all("captions", voxels, row_N)
        found = _numbered(self._captions.take(pa.array(place_N)), row_N)
        return found if partitions else found.filter(pc.equal(found["partition"], WHOLE_BANK))

    def prompts(self, voxels: Sequence[int]) -> list[str]:
        """The prompts of voxels' pictures, as the run makes them of captions. Raises ConfigError if one has no words."""
        self._check_all("captions", voxels, self._said.of(voxels)[1])
        prompts = [caption_prompt(self._best[self._subject, self._backbone, voxel]) for voxel in voxels]
        if empty := [str(voxel) for voxel, prompt in zip(voxels, prompts, strict=True) if not prompt]:
            raise self._without("words in their captions", empty)
        return prompts

    def projections(self, voxels: Sequence[int]) -> pa.Table:
        """Rows of the table `projections`, with `row` (whose place in `voxels` they belong to) before them."""
        place_N, row_N = self._projected.of(voxels)
        self._check_all("projections", voxels, row_N)
        different_M, back_N = np.unique(place_N, return_inverse=True)
        runs = np.split(different_M, np.flatnonzero(np.diff(different_M) != 1) + 1)
        pieces = [self._folder.slice("projections", self._key, int(run[0]), int(run[-1]) + 1) for run in runs]
        return _numbered(pa.concat_tables(pieces).take(pa.array(back_N)), row_N)

    def rank(self, text_QD: npt.NDArray[np.float32], limit: int | None) -> pa.Table:
        """Voxels by cosine with each text, best first (as `scuba show --query`), with `query` (the text's place) before them."""
        weights = pa.chunked_array([vectors(self._weight_VD, self._has_V)])
        voxels, pieces = self._voxels.select(_RANKED), []
        for query, text_D in enumerate(text_QD):
            ranked = best_first(with_cosines(voxels, weights, text_D, self._best), limit)
            pieces.append(_numbered(ranked, np.full(len(ranked), query), "query"))
        return pa.concat_tables(pieces)

    def details(self, voxel: int) -> dict[str, Any]:
        """Everything the run knows about a voxel: `answer_schemas.VoxelAnswer`."""
        places, _ = self._places.of([voxel])
        captions, _ = self._said.of([voxel])
        placed, _ = self._projected.of([voxel])
        projections: list[dict[str, Any]] = []
        if len(placed):
            rows = self._folder.slice("projections", self._key, int(placed[0]), int(placed[-1]) + 1)
            projections = rows.drop_columns(["embedding"]).to_pylist()
        images = _having(self._images, "target", f"voxel {voxel}")
        return {
            "subject": self._subject,
            "backbone": self._backbone,
            "voxel_id": voxel,
            "voxel": self._voxels.slice(int(places[0]), 1).to_pylist()[0],
            "captions": self._captions.take(pa.array(captions)).to_pylist(),
            "projections": projections,
            "bands": _having(self._bands, "voxel_id", voxel),
            "support": _having(self._support, "voxel_id", voxel),
            "images": [row for row in images if row.pop("kind") == "voxel" and row.pop("stimulus_id") is None],
        }

    def _check_all(self, what: str, voxels: Sequence[int], row_N: npt.NDArray[np.int64]) -> None:
        lacking = np.setdiff1d(np.arange(len(voxels)), row_N)
        if len(lacking):
            raise self._without(what, [str(voxels[row]) for row in lacking])

    def _without(self, what: str, names: list[str]) -> ConfigError:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return ConfigError(f"voxels of {self._subject} without {what}: {', '.join(names[:_NAMED])}{more}; leave them out")

    def _own(self, table: str, columns: list[str] | None) -> pa.Table | None:
        """This subject's rows of a table; None if the run has no such table."""
        if not self._folder.keys(table):
            return None
        rows = self._folder.read(table, columns=columns)
        mine = pc.and_(pc.equal(rows["subject"], self._subject), pc.equal(rows["backbone"], self._backbone))
        return rows.filter(mine)


class _Places:
    """Where the rows of each voxel are in a table: its own order is kept."""

    def __init__(self, voxel_ids: pa.ChunkedArray) -> None:
        ids_N = voxel_ids.to_numpy()
        self._order_N = np.argsort(ids_N, kind="stable")
        self._sorted_N = ids_N[self._order_N]

    def of(self, voxels: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows of voxels, in the order asked, and which of `voxels` each belongs to."""
        asked_V = np.asarray(voxels, np.int64)
        first_V = np.searchsorted(self._sorted_N, asked_V, "left")
        count_V = np.searchsorted(self._sorted_N, asked_V, "right") - first_V
        row_N = np.repeat(np.arange(len(asked_V)), count_V)
        within_N = np.arange(len(row_N)) - np.repeat(np.cumsum(count_V) - count_V, count_V)
        return self._order_N[np.repeat(first_V, count_V) + within_N], row_N


def _having(table: pa.Table | None, name: str, value: int | str) -> list[dict[str, Any]]:
    """Rows that have a value in a column."""
    found: list[dict[str, Any]] = [] if table is None else table.filter(pc.equal(table[name], value)).to_pylist()
    return found


def _numbered(table: pa.Table, number_N: npt.NDArray[np.int64], name: str = "row") -> pa.Table:
    return table.add_column(0, pa.field(name, pa.int32()), pa.array(number_N, pa.int32()))
