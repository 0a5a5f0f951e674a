"""Pictures for a network: read and decoded ahead of it, or by another worker beforehand.

Reading is left to a few threads, decoding to processes of their own (`datasets.decoder`), as many as the worker has threads. A
table of prepared rows has two columns more: `pixels` (uint8, 3 * H * W bytes a row, null where there are none) and `reason`, with
`kind`, where there are none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.config import EncodeConfig
from scuba_ray.datasets.decoder import Decoder
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.errors import DataError
from scuba_ray.protocols import Backbone

Read = Callable[[str], bytes]
Pixels = npt.NDArray[np.uint8]

READERS = 4
"""Threads that wait for a disk or an object store; and at least one for every decoder."""
_SHAPE = b"shape"


def decoder_for(backbone: Backbone, settings: EncodeConfig) -> Decoder:
    """Decoders for a backbone: as many processes as this process has threads to compute with."""
    return Decoder(
        backbone.preprocessing,
        max_pixels=settings.max_pixels,
        seconds=settings.decode_seconds,
        children=max(torch.get_num_threads(), 1),
    )


def decoded(read: Read, uris: Sequence[str], decode: Decoder, ahead: int) -> Iterator[Pixels | PictureError]:
    """Decode pictures in order, at most `ahead` of the consumer: ahead * 3 * H * W bytes."""

    def one(uri: str) -> Pixels | PictureError:
        try:
            return decode(read(uri))
        except PictureError as error:
            return error
        except DataError as error:
            return PictureError("unreadable", str(error))

    with ThreadPoolExecutor(max(READERS, torch.get_num_threads())) as readers:
        waiting: deque[Future[Pixels | PictureError]] = deque()
        try:
            for uri in uris:
                waiting.append(readers.submit(one, uri))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def is_prepared(rows: pa.Table) -> bool:
    """Whether rows bring their pictures."""
    return "pixels" in rows.column_names


def prepared(rows: pa.Table, pictures: Iterator[Pixels | PictureError]) -> pa.Table:
    """Add the pictures to their rows. All pictures have one shape: rows * 3 * H * W bytes."""
    count = rows.num_rows
    pixels_N3HW: Pixels | None = None
    valid_N = np.zeros(count, bool)
    refused: list[PictureError | None] = [None] * count
    for row, picture in enumerate(pictures):
        if isinstance(picture, PictureError):
            refused[row] = picture
            continue
        if pixels_N3HW is None:
            pixels_N3HW = np.zeros((count, *picture.shape), np.uint8)
        pixels_N3HW[row], valid_N[row] = picture, True
    column, field = pa.nulls(count), pa.field("pixels", pa.null())
    if pixels_N3HW is not None:
        shape = pixels_N3HW.shape[1:]
        valid = pa.py_buffer(np.packbits(valid_N, bitorder="little"))
        data = [valid, pa.py_buffer(pixels_N3HW.reshape(-1))]
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(int(np.prod(shape))), count, data)
        field = pa.field("pixels", column.type, metadata={_SHAPE: " ".join(map(str, shape)).encode()})
    rows = rows.append_column(field, column)
    rows = rows.append_column("kind", pa.array([error and error.kind for error in refused], pa.string()))
    return rows.append_column("reason", pa.array([error and str(error) for error in refused], pa.string()))


def ready(rows: pa.Table) -> Iterator[Pixels | PictureError]:
    """Give the pictures of prepared rows, in order, as views of the column."""
    field = rows.schema.field("pixels")
    shape = tuple(map(int, field.metadata[_SHAPE].split())) if field.metadata else ()
    kinds, reasons = rows["kind"].to_pylist(), rows["reason"].to_pylist()
    row = 0
    for part in rows["pixels"].chunks:
        pixels_N3HW = None
        if shape:
            bytes_N = np.frombuffer(part.buffers()[1], np.uint8)
            pixels_N3HW = bytes_N.reshape(-1, *shape)[part.offset : part.offset + len(part)]
        for index in range(len(part)):
            refused = reasons[row] is not None
            assert refused or pixels_N3HW is not None, "a row has pixels or a reason"
            yield PictureError(kinds[row], reasons[row]) if refused else pixels_N3HW[index]  # type: ignore[index]
            row += 1
