"""`scuba run --address`: a cluster that somebody else started does a whole run, with its token or without one, and stays."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scuba_ray.pipeline import run
from scuba_ray.tables.store import RunFolder
from tests.multinode.watching import Nodes, Timeline, cluster
from tests.study import TinyStudy, assert_equal_tables

SCUBA = str(Path(sys.executable).with_name("scuba"))
TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")


@pytest.fixture(params=["no token", "a token in a file"])
def joined(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Nodes, dict[str, str]]]:
    """Two nodes of one core, and the variables that a driver needs to join them."""
    variables: dict[str, str] = {}
    if request.param != "no token":
        (tmp_path / "token").write_text(secrets.token_hex(32))
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    with cluster(head_cpus=1, **variables) as nodes:
        nodes.add()
        yield nodes, variables


def scuba(*arguments: object, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command as at a prompt, with no other Ray variables than these."""
    clean = {name: value for name, value in os.environ.items() if name not in TOKENS}
    command = [SCUBA, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=clean | variables, check=False, timeout=500)


@pytest.mark.slow
def test_a_whole_run_on_a_cluster_that_stays(joined: tuple[Nodes, dict[str, str]], study: TinyStudy, tmp_path: Path) -> None:
    timeline, (nodes, variables) = Timeline(), joined
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(study.settings()))
    command = ("run", tmp_path / "run.yaml", "--engine", "ray", "--address", nodes.address)
    if variables:
        refused = scuba(*command, "--out", tmp_path / "refused", variables={})
        timeline.say(f"without its token: {refused.stderr.strip()}")
        assert refused.returncode == 2 and refused.stdout == ""
        assert f"cannot join a Ray cluster at {nodes.address}" in refused.stderr and "RAY_AUTH_MODE=token" in refused.stderr
    done = scuba(*command, "--out", tmp_path / "joined", variables=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/joined/report/index.html\n"
    timeline.say("the run is complete")
    assert_equal_tables(RunFolder(str(tmp_path / "joined")), run(study.config(out=str(tmp_path / "local"))))
    again = scuba("doctor", "--address", nodes.address, variables=variables)
    assert f"{nodes.address} answers" in again.stdout, again.stdout + again.stderr
    timeline.say("the cluster is still there for another command")
