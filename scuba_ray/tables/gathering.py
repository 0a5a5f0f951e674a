"""What runs around a gather stage: questions read and checked in the driver, parts written by whoever merged last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from scuba_ray.protocols import Chunk, GatherStage, GatherTask, Holding, Receipt
from scuba_ray.tables.contract import BoundTask, check_input, check_output


class GatherStageTask(BoundTask[GatherStage]):
    """A gather stage bound to the unit it fills. Travels pickled."""

    @property
    def segments(self) -> int:
        """How many pieces are held."""
        return self.stage.segments

    @property
    def held(self) -> str:
        """Names what is held."""
        return self.stage.held

    @property
    def together(self) -> int:
        """Chunks answered in one pass."""
        return self.stage.together

    def hold(self, first: int, stop: int) -> Holding:
        """Take the segments `[first, stop)`."""
        return self.stage.hold(first, stop)

    def question(self, chunk: Chunk) -> Any:
        """What holders must know of a chunk. Raises ContractError if its rows lack a column."""
        rows = self.stage.read(chunk)
        check_input(self.stage, rows)
        return self.stage.question(rows)

    def merge(self, left: Any, right: Any) -> Any:
        """The answer of two neighbouring nodes together."""
        return self.stage.merge(left, right)

    def write(self, chunk: Chunk, question: Any, answer: Any) -> Receipt:
        """Finish a chunk and write its part. Raises ContractError if it is not the table it should be."""
        began = time.perf_counter()
        output = self.stage.finish(question, answer)
        check_output(self.stage, output.table)
        part = self.unit.write(chunk, output.table, output.bad)
        return Receipt(chunk, part.rows, len(output.bad), time.perf_counter() - began, part.bytes, part.sha256)


def passes(task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    """Chunks as they are asked about together."""
    for start in range(0, len(chunks), task.together):
        yield chunks[start : start + task.together]
