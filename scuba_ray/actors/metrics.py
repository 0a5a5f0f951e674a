"""What a run does, as metrics of Ray: on a cluster they are at every node's Prometheus endpoint, beside Ray's own.

    ray_scuba_rows_total            rows of finished parts
    ray_scuba_bad_rows_total        rows in quarantine instead
    ray_scuba_images_total          rows of steps that read pictures
    ray_scuba_bytes_written_total   bytes of finished parts
    ray_scuba_chunk_seconds         histogram: what a chunk took (its sum is made of buckets, so it is approximate)
    ray_scuba_chunks_left           of the step at work; it goes with the driver, the others stay

Labels are `step`, `table` and `run` (the run id). The driver counts, as receipts come: once a chunk, however often it was tried
and whichever worker was lost. What the driver computes itself is not in here, because it starts no Ray for it: significance,
requests, analyses, and on a CPU what is small (scanning a bank, nearest pictures, scores of few voxels). `RUN/log.jsonl` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from scuba_ray.protocols import Receipt

LABELS = ("step", "table", "run")
SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Boundaries of the histogram."""


class Metrics:
    """Counts what receipts tell. Made by an engine that is connected to Ray."""

    def __init__(self) -> None:
        self._rows = Counter("scuba_rows_total", "Rows of finished parts.", LABELS)
        self._bad_rows = Counter("scuba_bad_rows_total", "Rows that went to quarantine.", LABELS)
        self._images = Counter("scuba_images_total", "Rows of steps that read pictures.", LABELS)
        self._bytes = Counter("scuba_bytes_written_total", "Bytes of finished parts.", LABELS)
        self._seconds = Histogram("scuba_chunk_seconds", "Seconds that a chunk took.", list(SECONDS), LABELS)
        self._left = Gauge("scuba_chunks_left", "Chunks of the step that are not finished yet.", LABELS)

    def step(self, tags: Mapping[str, str], chunks: int, *, pictures: bool = False) -> Callable[[Receipt], Receipt]:
        """What counts the receipts of a step that has `chunks` to compute, and passes them on; `pictures`: it reads some."""
        labels, left = dict(tags), chunks
        self._left.set(left, labels)

        def counted(receipt: Receipt) -> Receipt:
            nonlocal left
            left -= 1
            images = receipt.rows if pictures else 0
            amounts = (receipt.rows, receipt.bad_rows, images, receipt.bytes)
            for counter, amount in zip((self._rows, self._bad_rows, self._images, self._bytes), amounts, strict=True):
                if amount:
                    counter.inc(amount, labels)
            self._seconds.observe(receipt.seconds, labels)
            self._left.set(left, labels)
            return receipt

        return counted
