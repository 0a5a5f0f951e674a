"""Which pictures repeat an earlier one: the same as comparing each with all before it, however many buckets and collections."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from scuba_ray.datasets.content import picture_digest
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages import admit
from scuba_ray.stages.admit import Admit
from scuba_ray.tables.columns import table_of
from scuba_ray.tables.schemas import PICTURES
from scuba_ray.tables.store import RunFolder

SIZES = {"one": 300, "two": 200, "three": 400}
MANY = 250
"""Different pictures there are, of any number drawn."""


def write(run: RunFolder, collection: str, ids: list[str], contents: list[int]) -> None:
    """A scanned collection, in three parts."""
    unit = run.begin(step="scan", table="pictures", key=collection, fingerprint="f" * 64)
    cuts = [0, len(ids) // 3, len(ids) // 2, len(ids)]
    chunks = [Chunk(index, start, stop) for index, (start, stop) in enumerate(pairwise(cuts))]
    for chunk in chunks:
        mine = slice(chunk.start, chunk.stop)
        columns = {"image_id": ids[mine], "digest": [picture_digest(b"%d" % one) for one in contents[mine]]}
        unit.write(chunk, table_of(PICTURES, {"collection": collection, "uri": ids[mine], "bytes": 1, **columns}))
    run.finish(unit, chunks)


def stage(run: RunFolder, duplicates: str = "drop") -> Admit:
    made = Admit(run=run, collection="three", earlier=("one", "two"), imported=(), duplicates=duplicates, resources=Resources())
    made.setup()
    return made


@pytest.mark.parametrize("read", [7, 1 << 18])
def test_the_first_of_equal_pictures_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int) -> None:
    monkeypatch.setattr(admit, "_READ", read)
    run, rng = RunFolder(str(tmp_path)), np.random.default_rng(0)
    seen: dict[int, str] = {}
    for collection, size in SIZES.items():
        contents = rng.integers(0, MANY, size).tolist()
        ids = [f"{collection}-{row}" for row in range(size)]
        write(run, collection, ids, contents)
        reasons = {}
        for image_id, content in zip(ids, contents, strict=True):
            if content in seen:
                reasons[f"image_id={image_id}"] = f"a duplicate: the same bytes as {seen[content]}"
            seen.setdefault(content, f"{image_id} (collection {collection})")
    made = stage(run)
    outputs = [made(made.read(Chunk(0, start, min(start + 90, 400)))) for start in range(0, 400, 90)]
    assert {bad.key: bad.reason for output in outputs for bad in output.bad} == reasons
    kept = [one for output in outputs for one in output.table["image_id"].to_pylist()]
    assert kept == [one for one in ids if f"image_id={one}" not in reasons]
    assert len(kept) + len(reasons) == 400 and kept
    everything = stage(run, "keep")
    assert everything(everything.read(Chunk(0, 0, 400))).table.num_rows == 400


def test_a_second_picture_with_an_id_is_left_out_and_one_of_another_collection_is_an_error(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    write(run, "one", ["a", "b", "c"], [1, 2, 3])
    write(run, "two", ["d", "e", "f"], [4, 5, 6])
    write(run, "three", ["x", "y", "x", "a"], [7, 8, 9, 1])
    made = stage(run)
    output = made(made.read(Chunk(0, 0, 4)))
    assert output.table["image_id"].to_pylist() == ["x", "y"]
    assert [(bad.key, bad.reason) for bad in output.bad] == [
        ("image_id=x", "a second picture with this id; the first one stays"),
        ("image_id=a", "a duplicate: the same bytes as a (collection one)"),
    ]
    with pytest.raises(ConfigError, match=r"1 ids .*: a \(collection one\)"):
        stage(run, "keep")
