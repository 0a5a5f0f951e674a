"""scan: the files of a source in, its pictures out, each with a digest of its bytes. The first pass over a bank's source.

It reads every byte once, decodes nothing, and so finds what is listed, empty, unreadable or there twice before a network is
loaded. The files come from the record in the bank's folder (`bank/listings.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.listings import Listing, files_of
from scuba_ray.datasets import make_images
from scuba_ray.protocols import Chunk, ImageSource, Resources, StageOutput
from scuba_ray.tables.columns import table_of
from scuba_ray.tables.schemas import PICTURES

_CHUNK_BYTES, _CHUNK_FILES = 256 << 20, 8192


def scan_chunk(listing: Listing) -> int:
    """Files per chunk: some 256 MiB (an archive alone is more), at most 8192. Of the listing alone, never of the machine."""
    return max(1, min(_CHUNK_FILES, _CHUNK_BYTES * listing.files // max(listing.bytes, 1)))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The pictures in one collection's files. Memory: one picture, and some 200 bytes for each picture of a chunk."""

    location: str
    """Folder the files are recorded in."""
    listing: Listing
    resources: Resources

    name = "scan"
    version = 1
    table = "pictures"
    input_columns = ("name", "bytes")

    @property
    def input_name(self) -> str:
        return f"files of {self.listing.images}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"source": self.listing.source, "prefix": self.listing.prefix}

    def setup(self) -> None:
        _ = self._images

    @cached_property
    def _images(self) -> ImageSource:
        return make_images(self.listing.source, self.listing.images)

    def read(self, chunk: Chunk) -> pa.Table:
        return files_of(self.location, self.listing.collection, chunk.start, chunk.stop)

    def __call__(self, rows: pa.Table) -> StageOutput:
        pictures, bad = self._images.scan(rows["name"].to_pylist())
        columns = {name: pictures[name] for name in ("uri", "bytes", "digest")}
        image_id = pc.binary_join_element_wise(self.listing.prefix, pictures["image_id"], "")
        return StageOutput(
            table_of(PICTURES, {"collection": self.listing.collection, "image_id": image_id, **columns}), tuple(bad)
        )
