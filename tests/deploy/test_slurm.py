"""The SLURM script: shell that passes shellcheck, and a job that really runs, SLURM's two commands played by small scripts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "slurm" / "submit.sbatch"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"

SRUN = """#!/bin/bash
# one machine plays every node
while [[ ${1:-} == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then printf 'one\\ntwo\\n'; else echo "$@" >> "$ASKED"; fi
"""


def test_the_script_passes_shellcheck() -> None:
    subprocess.run([SHELLCHECK, "--severity=style", SCRIPT], check=True)


def test_what_sbatch_reads_comes_before_the_first_command_and_is_what_the_script_relies_on() -> None:
    lines = SCRIPT.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = dict(re.fullmatch(r"#SBATCH --([\w-]+)(?:=(.*))?", line).groups() for line in lines if line.startswith("#SBATCH"))
    assert all(number < first for number, line in enumerate(lines) if line.startswith("#SBATCH")), "sbatch stops reading there"
    assert options["ntasks-per-node"] == "1"
    assert {"nodes", "cpus-per-task", "gpus-per-node", "mem", "time", "requeue"} <= set(options)
    assert re.fullmatch(r"B:USR1@\d+", options["signal"]), "the batch shell itself is signalled"
    assert options["open-mode"] == "append", "a job that was put back must not overwrite what it said before"


def start(job: int, config: Path, folder: Path) -> subprocess.Popen[str]:
    commands = folder / "bin"
    if not commands.exists():
        commands.mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
    played = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "[one-two]",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_CPUS_PER_TASK": "1",
        "SCUBA_VENV": sys.prefix,
        "ASKED": str(folder / "asked"),
    }
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = ["bash", str(SCRIPT), str(config), "--set", "engine.max_workers=2"]
    with (folder / f"{job}.out").open("w") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, env={**without, **played}, cwd=folder)


def left_of(job: int) -> list[str]:
    """Processes of a job's Ray that still run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(f"/tmp/ray-{job}" in word for word in process.info["cmdline"] or []):
            found.append(" ".join(process.info["cmdline"])[:100])
    return found


@pytest.fixture
def jobs() -> Iterator[list[subprocess.Popen[str]]]:
    """Jobs that a test started; what still runs is ended as `scancel` does, Ray with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for job in started:
        if job.poll() is None:
            job.terminate()
            job.wait(120)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_job_whose_time_ends_is_put_back_and_goes_on_where_it_stopped(
    own_study: TinyStudy, tmp_path: Path, jobs: list[subprocess.Popen[str]]
) -> None:
    config = tmp_path / "my.yaml"
    settings = own_study.settings(out=str(tmp_path / "run"), engine={"name": "ray", "cpus_per_worker": 0.5})
    config.write_text(yaml.safe_dump(settings))
    run = RunFolder(str(tmp_path / "run"))

    first = start(job := os.getpid(), config, tmp_path)
    jobs.append(first)
    until = time.monotonic() + 900
    while not (tmp_path / "run" / "embeddings" / "_manifest.json").exists():
        assert first.poll() is None, (tmp_path / f"{job}.out").read_text()
        assert time.monotonic() < until
        time.sleep(0.2)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(200) != 0
    assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    assert "goes back into the queue" in (tmp_path / f"{job}.out").read_text()
    assert left_of(job) == []
    assert not Path(f"/tmp/ray-{job}").exists()
    assert not run.read_run_json().get("complete")

    second = start(job + 1, config, tmp_path)
    jobs.append(second)
    assert second.wait(900) == 0, (tmp_path / f"{job + 1}.out").read_text()
    record = run.read_run_json()
    assert record["complete"]
    encoded = next(step for name, step in record["steps"].items() if name.startswith("encode"))
    assert encoded["computed_chunks"] == 0, "what was finished is not computed again"
    assert run.read("captions").num_rows > 0
    assert left_of(job + 1) == []
    assert not Path(f"/tmp/ray-{job + 1}").exists()
