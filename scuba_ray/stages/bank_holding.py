"""A run of a bank's segments on a worker: what it is asked about directions, it answers with softmax states, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scuba_ray.bank.segments import Segment, Segments
from scuba_ray.config import ProjectConfig
from scuba_ray.core.projection import Images, SoftmaxState, attend, empty_state, merge
from scuba_ray.core.states import first_voxels
from scuba_ray.core.tree import Forest, Node
from scuba_ray.protocols import BadRow
from scuba_ray.tables.schemas import PARTITIONS

ROWS = 32
"""Directions are filled up to a multiple of this with copies of the first. A matrix product takes other code paths for other
numbers of rows, whose last bits differ; so a voxel's projection does not depend on how many are asked about with it."""


@dataclass(frozen=True)
class Question:
    """What is asked of the bank for a chunk of voxels."""

    voxel_V: npt.NDArray[np.int64]
    direction_VD: npt.NDArray[np.float32]
    """Unit length."""
    bad: tuple[BadRow, ...]
    """Voxels that nothing can be asked for."""


class BankHolding:
    """Segments `[first, stop)`, in float16 in the device's memory if they fit `hold_gib`, else streamed from disk at each pass.

    Either way one tile at a time is brought to float32 (`core.projection.attend`), for all questions of a pass.
    """

    def __init__(self, segments: Segments, run: tuple[int, int], *, settings: ProjectConfig, dim: int, device: str) -> None:
        """Load the segments if they are to be held. Raises DataError if a shard cannot be read."""
        self._segments = segments
        self._run = run
        self._settings = settings
        self._device = torch.device(device)
        size = segments.rows(*run) * 2 * dim
        self._held = list(self._read()) if size <= settings.hold_gib * 2**30 else None

    def answer(self, questions: Sequence[Question]) -> list[dict[Node, SoftmaxState]]:
        """States of each question at the nodes this run of segments reaches, on the CPU.

        The nearest images go along the run in one list, which is faster than merging many, and come with its first node.
        """
        directions = [self._filled(question.direction_VD) for question in questions]
        forests = [Forest(merge) for _ in questions]
        empty = [self._empty(one, self._settings.nearest) for one in directions]
        nearest = [state.nearest_PVk for state in empty]
        for number, images in enumerate(self._images(), start=self._run[0]):
            states = [self._empty(one, 0) for one in directions]
            for state, along_PVk in zip(states, nearest, strict=True):
                state.nearest_PVk = along_PVk
            attend(
                states,
                directions,
                images,
                beta=self._settings.beta,
                tile=self._settings.tile,
                scores=self._settings.scores,
            )
            for forest, state in zip(forests, states, strict=True):
                state.nearest_PVk = state.nearest_PVk.new_empty(*state.peak_PV.shape, 0)
                forest.add((0, number), state)
        for forest, along_PVk in zip(forests, nearest, strict=True):
            first = min(forest.nodes, key=lambda node: node[1] << node[0])
            forest.nodes[first].nearest_PVk = along_PVk
        return [
            {node: first_voxels(state, len(question.direction_VD)).to("cpu") for node, state in forest.nodes.items()}
            for question, forest in zip(questions, forests, strict=True)
        ]

    def _filled(self, direction_VD: npt.NDArray[np.float32]) -> torch.Tensor:
        extra = -len(direction_VD) % ROWS if len(direction_VD) else 0
        return torch.tensor(np.concatenate([direction_VD, direction_VD[:1].repeat(extra, axis=0)]), device=self._device)

    def _empty(self, direction_VD: torch.Tensor, nearest: int) -> SoftmaxState:
        voxels, dim = direction_VD.shape
        return empty_state(voxels, dim, PARTITIONS, nearest, self._device)

    def _images(self) -> Iterator[Images]:
        return self._read() if self._held is None else iter(self._held)

    def _read(self) -> Iterator[Images]:
        return map(self._on_device, self._segments.stream(*self._run))

    def _on_device(self, segment: Segment) -> Images:
        columns = (segment.embedding_ND, segment.norm_N, segment.partition_N, segment.index_N)
        return Images(*(torch.from_numpy(column).to(self._device) for column in columns))
