"""The log of a run: lines of JSON with run id, step and chunk; workers' words are in it; no other logger is touched."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scuba_ray import logs
from scuba_ray.actors.bank_group import Holder
from scuba_ray.actors.versions import installed
from scuba_ray.config import EngineConfig
from scuba_ray.errors import DataError
from scuba_ray.local import LocalEngine
from scuba_ray.pipeline import run
from scuba_ray.protocols import Engine
from scuba_ray.tables import run_log
from scuba_ray.tables.gathering import GatherStageTask
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask, run_chunk
from tests.engines.gather_samples import Sums
from tests.engines.samples import Squares, begin, cut
from tests.study import TinyStudy


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def local() -> Engine:
    return LocalEngine(EngineConfig(name="local", retries=1))


def test_a_run_is_told_line_by_line_and_a_resumed_one_has_an_id_of_its_own(study: TinyStudy, tmp_path: Path) -> None:
    config = study.config(out=str(tmp_path / "run"))
    folder = run(config)
    said = lines((tmp_path / "run" / run_log.NAME).read_text())
    (first,) = {line["run_id"] for line in said}
    assert first == folder.read_run_json()["run_id"]
    chunks = [line for line in said if "chunk" in line]
    assert [line["chunk"] for line in chunks if line["step"] == "encode"] == [0, 1, 2]
    assert sum(line["rows"] for line in chunks if line["step"] == "caption") == folder.read("captions").num_rows
    assert all({"time", "level", "seconds", "bad_rows", "key"} <= set(line) for line in chunks)
    assert said[-1]["message"] == "every step is complete"
    run(config)
    again = lines((tmp_path / "run" / run_log.NAME).read_text())[len(said) :]
    (second,) = {line["run_id"] for line in again}
    assert second not in {first, ""} and second == folder.read_run_json()["run_id"]
    assert not [line for line in again if "chunk" in line], "it computed nothing"


def test_retries_and_failures_are_in_it_with_their_tracebacks(tmp_path: Path) -> None:
    stage = Squares(tmp_path / "calls", {12: "disk once", 21: "row", 33: "disk"})
    with pytest.raises(Exception, match="the disk is away"), Steps(RunFolder(str(tmp_path / "run")), local, about={}) as steps:
        steps.complete(stage, key="subj01/tiny", rows=40, chunk=5, inputs=[])
    said = lines((tmp_path / "run" / run_log.NAME).read_text())
    retried, bad, *_, failed = [line for line in said if line["level"] != "info"]
    assert (retried["step"], retried["key"], retried["chunk"]) == ("square", "subj01/tiny", 2)
    assert "try 1 of 2 failed" in retried["message"] and "OSError: the disk was away" in retried["trace"]
    assert bad["chunk"] == 4 and "ValueError: 21 has no square" in bad["trace"]
    assert failed["level"] == "error" and "OSError: the disk is away" in failed["trace"] and "square" in failed["message"]


def test_a_line_that_a_killed_run_did_not_finish_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / run_log.NAME
    for torn in ('{"mess', '{"mess' + "x" * 200_000, ""):
        for whole in ('{"message": "first"}\n', ""):
            path.write_text(whole + torn)
            with run_log.written(str(tmp_path), "abc"):
                logging.getLogger("scuba_ray.test").info("next")
            assert [line["message"] for line in lines(path.read_text())] == ["first", "next"][not whole :]


def test_names_that_are_no_text_are_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for location in (str(tmp_path), "memory://names-that-are-no-text"):
        with run_log.written(location, "abc"):
            logging.getLogger("scuba_ray.test").warning("%s cannot be read", name)
    (line,) = lines((tmp_path / run_log.NAME).read_text())
    assert line["message"] == f"{name} cannot be read"
    assert capsys.readouterr() == ("", "")


def test_an_object_store_has_a_file_for_each_run_also_of_one_that_failed() -> None:
    import fsspec

    location = "memory://logs-of-runs"
    with pytest.raises(DataError), run_log.written(location, "abc"):
        logging.getLogger("scuba_ray.test").warning("on the way")
        raise DataError("no further")
    (name,) = fsspec.filesystem("memory").find("/logs-of-runs/logs")
    assert name.endswith("-abc.jsonl")
    assert [line["message"] for line in lines(fsspec.filesystem("memory").cat(name).decode())] == ["on the way"]


def test_what_a_worker_keeps_is_told_again_by_the_driver(tmp_path: Path) -> None:
    run_folder, stage = RunFolder(str(tmp_path / "run")), Squares(tmp_path / "calls", {2: "disk once"})
    task, kept, told = StageTask(stage, begin(run_folder, stage)), list[str](), list[str]()
    with logs.kept(kept):
        task.setup()
        assert run_chunk(task, cut(10)[0], retries=1).rows == 5
    with logs.about(run_id="here", step="square", key="unit"), logs.kept(told):
        logs.tell_again(kept)
    (line,) = lines("\n".join(told))
    assert (line["run_id"], line["key"], line["chunk"], line["level"]) == ("here", "unit", 0, "warning")
    assert line["time"] == lines(kept[0])[0]["time"]
    assert "OSError: the disk was away" in line["trace"] and line["logger"] == "scuba_ray.tables.worker"


def test_retries_of_a_holder_are_kept_for_the_driver_and_told_once(tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", {"hold": "disk once", "merge": "disk once"})
    task = GatherStageTask(stage, begin(RunFolder(str(tmp_path / "run")), stage))  # type: ignore[arg-type]
    holder = Holder(task, (0, 2), 1, 1, installed())
    with holder._kept:
        holder.merge(task, cut(10)[0], np.zeros(2), np.zeros(2))
    first, second = lines("\n".join(holder.notes()))
    assert first["step"] == second["step"] == "sum" and "chunk" not in first and second["chunk"] == 0
    assert all(
        "try 1 of 2 failed" in line["message"] and "OSError: the disk is away" in line["trace"] for line in (first, second)
    )
    assert holder.notes() == []


def test_nothing_is_attached_on_import_and_nothing_stays_attached(tmp_path: Path) -> None:
    code = "import logging, scuba_ray.logs, scuba_ray.pipeline as p; print(logging.getLogger('scuba_ray').handlers)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    root, ours = logging.getLogger(), logging.getLogger(logs.LOGGER)
    before = (root.level, list(root.handlers), ours.level, list(ours.handlers))
    with run_log.written(str(tmp_path), "abc"):
        assert (root.level, root.handlers) == before[:2]
    assert (root.level, list(root.handlers), ours.level, list(ours.handlers)) == before


@pytest.mark.parametrize(("out", "code"), [("run", 0), ("/proc/nowhere", 2)])
def test_the_command_puts_the_same_lines_on_stderr(study: TinyStudy, tmp_path: Path, out: str, code: int) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(study.settings(out=str(tmp_path / out))))
    command = [sys.executable, "-m", "scuba_ray", "run", str(tmp_path / "run.yaml"), "--log-format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert ended.returncode == code, ended.stderr
    said = lines(ended.stderr)
    if code:
        assert "cannot write to the folder" in said[-1]["message"] and said[-1]["level"] == "error"
    else:
        assert ended.stderr == (tmp_path / out / run_log.NAME).read_text()
        assert ended.stdout.endswith("report/index.html\n")
