"""A folder of pictures packed as the other image sources keep them: tar archives and Parquet tables."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.datasets.pictures import EXTENSIONS


def pictures_below(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> None:
    """One tar of plain members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pack_tars(folder: Path, out: Path, per_tar: int = 40) -> None:
    """Pictures below `folder` as img2dataset packs them: `00000.tar`, ..., each picture with a caption and a JSON beside it."""
    paths = pictures_below(folder)
    for first in range(0, len(paths), per_tar):
        members = []
        for index, path in enumerate(paths[first : first + per_tar], first):
            key = f"{index:09d}"
            members += [
                (f"{key}{path.suffix}", path.read_bytes()),
                (f"{key}.txt", b"a caption"),
                (f"{key}.json", json.dumps({"key": key}).encode()),
            ]
        write_tar(out / f"{first // per_tar:05d}.tar", members)


def pack_parquet(folder: Path, out: Path, per_file: int = 40, per_group: int = 15) -> None:
    """Pictures below `folder` as Hugging Face packs them: a struct column `image` of bytes and path."""
    paths = pictures_below(folder)
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(paths), per_file):
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths[first : first + per_file]]
        table = pa.table({"image": rows, "label": list(range(len(rows)))})
        pq.write_table(table, out / f"train-{first // per_file:05d}.parquet", row_group_size=per_group)
