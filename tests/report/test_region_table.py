"""What a region is about, in the terminal: the same as on the page."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.errors import ConfigError
from scuba_ray.report.region_table import region_table
from tests.report.analysed import EMPTY_REGION, HOSTILE_NOUN, write_analyses, write_nouns
from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("about"))
    write_analyses(made)
    write_nouns(made)
    return made


def items(written: Written, roi: str | None = None) -> dict[str, str]:
    return {row["item"]: row["value"] for row in region_table(written.run, roi).to_pylist()}


def test_a_region_with_everything(analysed: Written) -> None:
    faces = items(analysed, "faces")
    mine = [row for row in analysed.run.read("voxels").to_pylist() if "faces" in row["rois"]]
    assert faces["voxels"] == f"{len(mine)}, {sum(row['q'] < 0.05 for row in mine)} with q < 0.05"
    assert faces["noun 1"] == "man: 60% of voxels (40% of all; contrast 0.50, q 0.001)" and HOSTILE_NOUN in faces["noun 2"]
    assert faces["people"] == "50% of captions name them (95 % interval 25% to 75%)"
    assert faces["parts"] == "2; halves of the voxels agree by 0.75 (adjusted Rand index)"
    assert faces["part 1"] == "9 voxels: man 75%, hat 50%" and faces["part 1, nearest"] == "image00.png, image01.png"
    assert items(analysed)["noun 1"] == "man: 40% of voxels" and items(analysed)["voxels"].startswith("60, ")


def test_what_is_empty_is_said(analysed: Written, written: Written) -> None:
    empty = items(analysed, EMPTY_REGION)
    assert empty == {"voxels": "0", "note, nouns": "no voxel of this region counts (voxels with q < 0.05)"}
    assert set(items(written, "faces")) == {"voxels", "median ceiling", "median R²"}, "a run without analyses"
    with pytest.raises(ConfigError, match="no voxel of this run is in ROI 'V1'; regions: <i>nowhere</i>, bodies, faces, food"):
        region_table(analysed.run, "V1")


def test_the_command_line(analysed: Written) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["show", analysed.run.location, "--about", "--roi", "faces"])
    assert "man: 60% of voxels" in result.stdout and max(map(len, result.stdout.splitlines())) <= 80
    for options in (["--voxel", "101"], ["--compare"], ["--images"], ["--query", "a dog"], ["--noun", "man"]):
        assert CliRunner().invoke(app, ["show", analysed.run.location, "--about", *options]).exit_code == 2
