"""What the benchmarks share: side-by-side rounds, peak memory, and a JSON report with machine, versions and configuration."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("scuba-ray", "torch", "ray", "numpy", "pyarrow", "himalaya", "transformers", "open_clip_torch", "diffusers")


def arguments(description: str | None, **defaults: int | float | str) -> argparse.Namespace:
    """Parse `--name value` settings with the types of their defaults, `--threads`, `--rounds` and `--out`.

    Threads are set for every library before it loads: call this before importing torch or numpy.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, default in {"threads": 2, "rounds": 5, **defaults}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"(default {default})")
    parser.add_argument("--out", type=Path, help="also write the JSON report to this file")
    settings = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(settings.threads)
    return settings


def side_by_side(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round, in turns, so that a busy machine is busy for all; one round goes unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], over: str, under: str) -> dict[str, float]:
    """Median, smallest and largest of the rounds' ratios."""
    ratios = [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """MiB that this process needed at its peak beyond what it held before (Linux only)."""
    before = _status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    result: dict[str, float] = {}
    yield result
    result["mib"] = (_status_kib("VmHWM") - before) / 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def report(settings: argparse.Namespace, seconds: Mapping[str, list[float]], **results: Any) -> None:
    """Print the report as JSON, and write it to `--out`."""
    config = {name: value for name, value in vars(settings).items() if name != "out"}
    content = {
        "benchmark": Path(sys.argv[0]).stem,
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: found for name in PACKAGES if (found := _version(name))},
        "config": config,
        "seconds": {name: {"median": statistics.median(times), "all": times} for name, times in seconds.items() if times},
        **results,
    }
    text = json.dumps(content, indent=2)
    print(text)
    if settings.out:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.write_text(text + "\n")


def _machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
