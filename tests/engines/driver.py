"""A driver in a process of its own: completes one step of `samples.Squares` and prints what became of it as JSON.

python -m tests.engines.driver RUN CALLS --engine ray [--address A] [--seconds S] [--rows N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scuba_ray.config import EngineConfig
from scuba_ray.errors import ScubaError
from scuba_ray.registry import resolve
from scuba_ray.tables.store import RunFolder
from tests.engines.samples import Squares, complete, cut


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("calls", type=Path)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--rows", type=int, default=40)
    arguments = parser.parse_args()
    config = EngineConfig(name=arguments.engine, address=arguments.address, max_workers=1)
    try:
        with resolve("engine", arguments.engine)(config) as engine:
            engine.check_shared(str(arguments.run))
            stage = Squares(arguments.calls, seconds=arguments.seconds)
            receipts = complete(RunFolder(str(arguments.run)), engine, stage, cut(arguments.rows))
        print(json.dumps({"receipts": len(receipts)}))
    except ScubaError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))


if __name__ == "__main__":
    main()
