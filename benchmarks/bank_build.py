"""What does Ray cost on a bank build? The same JPEGs through `local` and through one Ray worker, equal threads and decoders.

Steady state alone is compared: the time from the first finished chunk to the last, without the start of Ray and its workers.
Both engines decode beside the network, in `--threads` processes; with `--decoders N`, Ray decodes in a pool before the model's.
Pictures are a few hundred photographs' worth of noise under many names (500 x 400, 85 KB); the network is the phantom's.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(__doc__, pictures=16000, side=500, chunk=512, batch=128, decoders=0, threads=1, rounds=1)

import numpy as np  # noqa: E402  (after the thread count is set)
from PIL import Image  # noqa: E402

from scuba_ray.banks import build_bank  # noqa: E402
from scuba_ray.config import BackboneConfig, EncodeConfig, EngineConfig  # noqa: E402
from scuba_ray.tables.progress import Progress  # noqa: E402
from scuba_ray.tables.store import RunFolder  # noqa: E402

DIFFERENT = 200
"""Pictures that are drawn; the others are these again under other names."""


def write_pictures(folder: Path) -> None:
    """JPEGs that take as long to decode as photographs: smooth shapes and some noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    width, height = settings.side, settings.side * 4 // 5
    for index in range(settings.pictures):
        path = folder / f"{index:06d}.jpg"
        if index < DIFFERENT:
            coarse = Image.fromarray(rng.integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels = (pixels + rng.integers(-10, 10, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path, quality=90)
        else:
            os.link(folder / f"{index % DIFFERENT:06d}.jpg", path)


def build(images: Path, out: Path, engine: EngineConfig) -> dict[str, Any]:
    """Build a bank; seconds and pictures from the first finished chunk to the last, and the seconds until the first."""
    ticks: list[tuple[float, int]] = []

    def listen(progress: Progress) -> None:
        if progress.step == "bank":
            ticks.append((time.perf_counter(), progress.rows_done))

    build_bank(
        images=str(images),
        backbone=BackboneConfig(name="phantom-clip", model="phantom:clip"),
        out=str(out),
        duplicates="keep",
        encode=EncodeConfig(batch=settings.batch, chunk=settings.chunk),
        engine=engine,
        listen=listen,
    )
    (began, _), (first, before), *_, (last, after) = ticks
    return {"seconds": last - first, "pictures": after - before, "start_seconds": first - began}


def main() -> None:
    common: dict[str, Any] = {"threads": settings.threads, "max_workers": 1, "cpus_per_worker": 0.5, "cpus_per_decoder": 0.5}
    engines = {
        "ray": EngineConfig(name="ray", decoders=settings.decoders, **common),
        "local": EngineConfig(name="local", **common),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    starts: dict[str, list[float]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "pictures"
        write_pictures(images)
        for turn in range(settings.rounds):
            for name, engine in engines.items():
                told = build(images, Path(folder) / f"{name}-{turn}", engine)
                seconds[name].append(told["seconds"])
                rates[name].append(told["pictures"] / told["seconds"])
                starts[name].append(told["start_seconds"])
        tables = [RunFolder(str(Path(folder) / f"{name}-0")).read("bank") for name in engines]
    _report.report(
        settings,
        seconds,
        pictures_per_second=rates,
        seconds_until_the_first_chunk=starts,
        ray_over_local=_report.ratio(seconds, "ray", "local"),
        steady_state_of_60_seconds=min(min(times) for times in seconds.values()) >= 60,
        equal_tables=tables[0].equals(tables[1]),
    )


if __name__ == "__main__":
    main()
