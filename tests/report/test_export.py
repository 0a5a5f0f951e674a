"""Exports: what is read again by nibabel, csv and numpy is what the run holds, in its place; the folder is whole or not there."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.config import RunConfig, SubjectConfig, make_config
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.fsaverage import nearest_of_fsaverage5
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.report.export import export_run
from scuba_ray.report.export_words import bids_labels
from scuba_ray.report.palette import region_colours
from scuba_ray.tables.columns import table_of, vectors
from scuba_ray.tables.schemas import CAPTIONS, projections_schema, voxels_schema
from scuba_ray.tables.store import RunFolder
from tests.datasets.laion_fmri_files import small_laion
from tests.datasets.nsd_files import DONE, small_nsd
from tests.report.synthetic import HOSTILE, Written, finish, write_run

ODD = {
    104: 'a "sign", with a comma',
    105: "two\nlines",
    106: "=HYPERLINK(1)",
    107: "naïve 猫",
    108: "",
}
FUNC = "sub-subj01/func/sub-subj01"
ANAT = "sub-subj01/anat/sub-subj01"


@pytest.fixture(scope="module")
def surface(analysed: Written, tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, Path]:
    """The analysed run with captions of a second method, exported."""
    voxel = {"subject": "subj01", "backbone": "tiny", "partition": -1, "method": "odd", "rank": 0}
    rows = [{**voxel, "voxel_id": number, "caption": text} for number, text in ODD.items()]
    with analysed.run.lock():
        finish(analysed.run, "captions", "subj01/tiny/odd", pa.Table.from_pylist(rows, schema=CAPTIONS))
    out = tmp_path_factory.mktemp("exported") / "out"
    export_run(analysed.run, analysed.config, str(out))
    return analysed, out


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    return {one.metadata["Name"]: one.data for one in nibabel.load(path).darrays}


def whole(run: RunFolder) -> list[dict[str, Any]]:
    """Rows of voxels with n_eff of the whole bank."""
    n_eff = {row["voxel_id"]: row["n_eff"] for row in run.read("projections").to_pylist() if row["partition"] == -1}
    return [{**row, "n_eff": n_eff[row["voxel_id"]]} for row in run.read("voxels").to_pylist()]


@pytest.mark.parametrize(("hemi", "letter"), [("lh", "L"), ("rh", "R")])
def test_numbers_on_the_surface_are_means_and_nan_elsewhere(surface: tuple[Written, Path], hemi: str, letter: str) -> None:
    written, out = surface
    found = arrays_of(out / f"{FUNC}_hemi-{letter}_space-fsaverage5_stat-all_desc-tiny_statmap.func.gii")
    on: dict[int, list[dict[str, Any]]] = {}
    for row in whole(written.run):
        if row["hemi"] == hemi and row["vertex"] is not None:
            on.setdefault(row["vertex"], []).append(row)
    for name in ("r2", "r", "noise_ceiling", "q", "n_eff"):
        expected = np.full(10242, np.nan, np.float32)
        for vertex, rows in on.items():
            expected[vertex] = np.mean([row[name] for row in rows])
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
    assert found["voxels"].sum() == sum(map(len, on.values())) and found["voxels"].max() == (2 if hemi == "rh" else 1)
    image = nibabel.load(out / f"{FUNC}_hemi-{letter}_space-fsaverage5_stat-all_desc-tiny_statmap.func.gii")
    assert "mean of the voxels" in image.darrays[0].metadata["VertexRule"]
    assert image.meta["AnatomicalStructurePrimary"] == {"lh": "CortexLeft", "rh": "CortexRight"}[hemi]


def test_maps_of_analyses_have_the_voxels_that_these_count(surface: tuple[Written, Path]) -> None:
    written, out = surface
    voxel = next(row for row in whole(written.run) if row["voxel_id"] == 105)
    found = arrays_of(out / f"{FUNC}_hemi-{voxel['hemi'][0].upper()}_space-fsaverage5_stat-all_desc-tiny_statmap.func.gii")
    assert [float(found[name][voxel["vertex"]]) for name in ("red", "green", "blue")] == [1, 0.5, 0]
    assert np.flatnonzero(~np.isnan(found["red"])).tolist() == [voxel["vertex"]]
    assert found["person_share"][voxel["vertex"]] == np.float32(0.6)


def test_labels_are_those_of_the_best_voxel_in_the_reports_colours(surface: tuple[Written, Path]) -> None:
    written, out = surface
    rows = whole(written.run)
    colours = region_colours(name for row in rows for name in row["rois"])
    assert rows[1]["vertex"] == rows[2]["vertex"] and rows[1]["r2"] < rows[2]["r2"]
    for hemi, letter in (("lh", "L"), ("rh", "R")):
        image = nibabel.load(out / f"{ANAT}_hemi-{letter}_space-fsaverage5_desc-tiny_dseg.label.gii")
        keys = {name: key for key, name in image.labeltable.get_labels_as_dict().items()}
        for label in image.labeltable.labels[1:]:
            assert "#" + "".join(f"{round(255 * part):02X}" for part in label.rgba[:3]) == colours[label.label].upper()
        labels = {one.metadata["Name"]: one.data for one in image.darrays}
        assert list(labels) == ["first region", *sorted(colours)]
        best: dict[int, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: row["r2"]):
            if row["hemi"] == hemi and row["vertex"] is not None:
                best[row["vertex"]] = row
        for vertex, row in best.items():
            assert labels["first region"][vertex] == (keys[row["rois"][0]] if row["rois"] else 0)
            assert {name for name in colours if labels[name][vertex]} == set(row["rois"])
        assert np.count_nonzero(labels["first region"]) == sum(bool(row["rois"]) for row in best.values())
        assert "best R2" in image.meta["VertexRule"]


def test_captions_come_back_letter_by_letter(surface: tuple[Written, Path]) -> None:
    written, out = surface
    data = (out / "captions.csv").read_bytes()
    assert data.count(b"\r\n") == 21 and not data.startswith(b"\xef\xbb\xbf")
    with (out / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = {int(row["voxel_id"]): row for row in csv.DictReader(file)}
    assert rows[100]["caption_brainscuba"] == HOSTILE
    assert {number: rows[number]["caption_odd"] for number in ODD} == ODD and rows[109]["caption_odd"] == ""
    for row in whole(written.run):
        mine = rows[row["voxel_id"]]
        assert np.float32(mine["r2"]) == np.float32(row["r2"]) and np.float32(mine["n_eff"]) == np.float32(row["n_eff"])
        assert mine["vertex"] == ("" if row["vertex"] is None else str(row["vertex"]))
        assert mine["rois"].split(";") == (row["rois"] or [""])
    assert rows[105]["person_share"] == "0.6" and rows[106]["person_share"] == ""
    assert "a formula" in (out / "README.md").read_text()


def test_arrays_for_pycortex_are_left_before_right_and_reach_fsaverage(surface: tuple[Written, Path]) -> None:
    _, out = surface
    arrays = np.load(out / f"{FUNC}_space-fsaverage5_desc-tiny_pycortex.npz", allow_pickle=False)
    sides = [arrays_of(out / f"{FUNC}_hemi-{letter}_space-fsaverage5_stat-all_desc-tiny_statmap.func.gii") for letter in "LR"]
    np.testing.assert_array_equal(arrays["r2"], np.concatenate([side["r2"] for side in sides]))
    whole_F = arrays["r2"][arrays["to_fsaverage"]]
    assert whole_F.shape == (2 * 163842,)
    np.testing.assert_array_equal(whole_F[:10242], sides[0]["r2"])
    np.testing.assert_array_equal(whole_F[163842:], sides[1]["r2"][nearest_of_fsaverage5("rh")])


def test_the_description_is_that_of_a_bids_derivative(surface: tuple[Written, Path]) -> None:
    _, out = surface
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "scuba_ray"
    assert about["GeneratedBy"][0]["Version"] and about["SourceDatasets"] == [{"Subject": "subj01", "Layout": "arrays"}]
    reference = json.loads((out / f"{ANAT}_hemi-L_space-fsaverage5_desc-tiny_dseg.json").read_text())["SpatialReference"]
    assert reference.endswith("tpl-fsaverage_hemi-L_den-10k_sphere.surf.gii"), "wanted where a space is none of BIDS' own"
    assert "*_statmap.*" in (out / ".bidsignore").read_text().split() and (out / "dseg.tsv").exists()
    sidecar = json.loads((out / f"{FUNC}_hemi-L_space-fsaverage5_stat-all_desc-tiny_statmap.json").read_text())
    assert "mean" in sidecar["VertexRule"] and set(sidecar["Maps"]) >= {"r2", "q"}
    assert bids_labels(["sub-01", "0_1", "a b", "AB", "猫"]) == {
        "sub-01": "01",
        "0_1": "012",
        "a b": "ab",
        "AB": "AB2",
        "猫": "x",
    }


def volume_run(folder: Path, layout: str) -> tuple[RunFolder, RunConfig, pa.Table]:
    """A run on a volume data set: R2 is 0.75 right of the middle and 0.25 left of it; the last region is only in the left."""
    made = small_nsd(folder / "data") if layout == "nsd" else small_laion(folder / "data")
    options = {"sessions_done": DONE} if layout == "nsd" else {"laion_subject": "sub-01"}
    subject = {"name": "subj01", "dataset": layout, "path": str(made.root), "options": options}
    places = make_dataset(SubjectConfig(**subject)).voxels()
    right_V = np.array(places["xyz"].to_pylist())[:, 0] > 0
    key = {"subject": "subj01", "backbone": "tiny", "voxel_id": places["voxel_id"]}
    r2_V = np.where(right_V, 0.75, 0.25).astype(np.float32)
    r2_V[0] = np.nan
    columns = {name: places[name] for name in ("hemi", "vertex", "i", "j", "k", "xyz", "rois")}
    vector = {"weight": vectors(np.ones((len(places), 4), np.float32))}
    voxels = table_of(voxels_schema(4), {**key, **columns, **vector, "r2": pa.array(r2_V, mask=np.isnan(r2_V)), "status": "ok"})
    one = {"embedding": vectors(np.ones((len(places), 4), np.float32)), "partition": -1, "n_eff": right_V + 1.0}
    config = make_config({
        "name": "volumes", "out": str(folder / "run"), "subjects": [subject], "backbones": [{"name": "tiny", "model": "x"}],
        "bank": {"images": "nowhere"}, "caption": {"model": "nowhere"},
    })  # fmt: skip
    run = RunFolder(str(folder / "run"))
    with run.lock():
        run.claim({"subj01": "data"})
        finish(run, "voxels", "subj01/tiny", voxels)
        finish(run, "projections", "subj01/tiny", table_of(projections_schema(4), {**key, **one}))
        said = {**key, "partition": -1, "method": "brainscuba", "rank": 0, "caption": "a dog"}
        finish(run, "captions", "subj01/tiny", table_of(CAPTIONS, said))
        run.write_run_json({"name": "volumes", "config": config.model_dump(mode="json")})
    return run, config, places


@pytest.mark.parametrize(("layout", "space", "mirrored"), [("nsd", "func1pt8mm", False), ("laion_fmri", "T1w", True)])
def test_a_volume_subject_lands_in_its_own_hemispheres(tmp_path: Path, layout: str, space: str, mirrored: bool) -> None:
    run, config, places = volume_run(tmp_path, layout)
    export_run(run, config, str(tmp_path / "out"))
    image = nibabel.load(tmp_path / f"out/{FUNC}_space-{space}_stat-r2_desc-tiny_statmap.nii.gz")
    assert image.get_sform(coded=True)[1] == 1 and image.header.get_xyzt_units()[0] == "mm"
    assert (image.affine[0, 0] < 0) == mirrored, "both orders of x are tried"
    values = np.asarray(image.dataobj)
    ijk_n3 = np.argwhere(~np.isnan(values))
    x_n = nibabel.affines.apply_affine(image.affine, ijk_n3)[:, 0]
    assert len(ijk_n3) == len(places) - 1, "the voxel without R2 is NaN"
    np.testing.assert_array_equal(values[tuple(ijk_n3.T)], np.where(x_n > 0, np.float32(0.75), np.float32(0.25)))
    known = [row for row in places.to_pylist()[1:] if row["hemi"] is not None]
    assert len(known) == (len(places) - 1 if layout == "nsd" else 0), "NSD has a file of regions for each hemisphere"
    for row in known:
        assert values[row["i"], row["j"], row["k"]] == (0.75 if row["hemi"] == "rh" else 0.25)
    n_eff = nibabel.load(tmp_path / f"out/{FUNC}_space-{space}_stat-neff_desc-tiny_statmap.nii.gz").get_fdata()
    assert np.count_nonzero(~np.isnan(n_eff)) == len(places)
    arrays = np.load(tmp_path / f"out/{FUNC}_space-{space}_desc-tiny_pycortex.npz", allow_pickle=False)
    np.testing.assert_array_equal(arrays["r2"], values.T)
    np.testing.assert_allclose(arrays["affine"], image.affine, atol=1e-5)
    regions = sorted({name for names in places["rois"].to_pylist() for name in names})
    label = bids_labels(regions)[regions[0]]
    mask = np.asarray(nibabel.load(tmp_path / f"out/{ANAT}_space-{space}_label-{label}_desc-tiny_mask.nii.gz").dataobj)
    inside = [tuple(row[name] for name in "ijk") for row in places.to_pylist() if regions[0] in row["rois"]]
    assert sorted(map(tuple, np.argwhere(mask).tolist())) == sorted(inside) and inside
    table = [line.split("\t") for line in (tmp_path / "out/dseg.tsv").read_text().splitlines()]
    assert table[0] == ["index", "name", "color"] and [row[1] for row in table[1:]] == regions
    dseg = np.asarray(nibabel.load(tmp_path / f"out/{ANAT}_space-{space}_desc-tiny_dseg.nii.gz").dataobj)
    for row in places.to_pylist():
        first = regions.index(row["rois"][0]) + 1 if row["rois"] else 0
        assert dseg[row["i"], row["j"], row["k"]] == first
    assert (list((tmp_path / "out").rglob("*.func.gii")) != []) == (places["vertex"].null_count < len(places))


@pytest.mark.parametrize("mirrored", [False, True], ids=["RAS", "LAS"])
def test_an_arrays_subject_with_a_grid_lands_in_the_volume_and_on_the_surface(tmp_path: Path, mirrored: bool) -> None:
    step = -2.0 if mirrored else 2.0
    grid = {"shape": [12, 6, 5], "affine": [[step, 0, 0, -5.5 * step], [0, 2, 0, -60], [0, 0, 2, -20], [0, 0, 0, 1]]}
    made = write_run(tmp_path, voxels=20)
    rows = made.run.read("voxels", key="subj01/tiny").to_pylist()
    in_left = [index for index in range(12) if (index >= 6) == mirrored]
    for number, row in enumerate(rows):
        sides = in_left if row["hemi"] == "lh" else [index for index in range(12) if index not in in_left]
        row |= {
            "i": sides[number % 6],
            "j": number % 5,
            "k": number % 4,
            "r2": 0.25 if row["hemi"] == "lh" else 0.75,
            "xyz": None,
        }
    data = tmp_path / "subj01"
    names = ["voxel_id", "hemi", "vertex", "i", "j", "k"]
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in names}), data / "voxels.parquet")
    np.save(data / "responses.npy", np.zeros((3, 20), np.float32))
    said = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**said, "grid": grid}))
    places = make_dataset(made.config.subjects[0]).voxels()
    for row, xyz in zip(rows, places["xyz"].to_pylist(), strict=True):
        assert (xyz[0] > 0) == (row["hemi"] == "rh")
        row["xyz"] = xyz
    with made.run.lock():
        finish(made.run, "voxels", "subj01/tiny", pa.Table.from_pylist(rows, schema=voxels_schema(8)))
    _, notes = export_run(made.run, made.config, str(tmp_path / "out"))
    assert not [note for note in notes if "volume" in note]
    image = nibabel.load(tmp_path / f"out/{FUNC}_space-native_stat-r2_desc-tiny_statmap.nii.gz")
    assert nibabel.aff2axcodes(image.affine) == (("L" if mirrored else "R"), "A", "S")
    values = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    assert (values[:6][~np.isnan(values[:6])] == 0.25).all() and (values[6:][~np.isnan(values[6:])] == 0.75).all()
    assert np.count_nonzero(~np.isnan(values)) == len({(row["i"], row["j"], row["k"]) for row in rows})
    for letter, expected in (("L", 0.25), ("R", 0.75)):
        r2 = arrays_of(tmp_path / f"out/{FUNC}_hemi-{letter}_space-fsaverage5_stat-all_desc-tiny_statmap.func.gii")["r2"]
        assert (r2[~np.isnan(r2)] == expected).all() and not np.isnan(r2).all()
    (data / "dataset.json").write_text(json.dumps(said))
    _, notes = export_run(made.run, made.config, str(tmp_path / "out"))
    assert [note for note in notes if "no volumes, though 20 voxels have i, j, k" in note and "`grid` of dataset.json" in note]


def test_a_region_without_voxels_is_empty_and_one_without_a_surface_is_said(tmp_path: Path) -> None:
    two = write_run(tmp_path, voxels=20, subjects=("subj01", "subj02"))
    with two.run.lock():
        rows = two.run.read("voxels", key="subj02/tiny")
        rois = pa.array([["only here"], *rows["rois"].to_pylist()[1:]], pa.list_(pa.string()))
        rows = rows.set_column(rows.column_names.index("rois"), "rois", rois)
        finish(two.run, "voxels", "subj02/tiny", rows)
    description = tmp_path / "subj02/dataset.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "geometry": None}))
    _, notes = export_run(two.run, two.config, str(tmp_path / "out"))
    labels = arrays_of(tmp_path / f"out/{ANAT}_hemi-L_space-fsaverage5_desc-tiny_dseg.label.gii")
    assert not labels["only here"].any() and labels["faces"].any()
    assert not (tmp_path / "out/sub-subj02").exists()
    assert [note for note in notes if "subj02, tiny: no maps: its voxels have no vertex of a surface" in note]
    assert all(note in (tmp_path / "out/README.md").read_text() for note in notes)
    with (tmp_path / "out/captions.csv").open(encoding="utf-8", newline="") as file:
        assert {row["subject"] for row in csv.DictReader(file)} == {"subj01", "subj02"}
    export_run(two.run, two.config, str(tmp_path / "one"), subject="subj01", what=["maps"])
    names = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert "captions.csv" not in names and not [name for name in names if "subj02" in name or "pycortex" in name]
    with pytest.raises(ConfigError, match="no subject 'subj3'; subjects: subj01, subj02"):
        export_run(two.run, two.config, str(tmp_path / "none"), subject="subj3")
    assert not (tmp_path / "none").exists()


def test_only_an_export_is_replaced_and_a_failed_one_leaves_nothing(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(out: Path, what: str = "captions") -> Any:
        return CliRunner().invoke(app, ["export", written.run.location, "--out", str(out), "--what", what])

    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    assert export(full).exit_code == 2 and (full / "thesis.txt").exists()
    out = tmp_path / "deeper/out"
    assert export(out).exit_code == 0 and export(out, "captions,pycortex").exit_code == 0
    assert list(out.rglob("*.npz")) and export(out).exit_code == 0 and not list(out.rglob("*.npz"))
    (out / "notes.txt").write_text("mine")
    refused = export(out)
    assert refused.exit_code == 2 and (out / "notes.txt").exists() and (out / "captions.csv").exists()
    (tmp_path / "file").write_text("")
    assert export(tmp_path / "file").exit_code == 2 and export(tmp_path / "x", "maps,books").exit_code == 2
    assert CliRunner().invoke(app, ["export", written.run.location, "--out", "s3://lab/out"]).exit_code == 2

    def broken(*_: Any) -> None:
        raise DataError("the disk is full")

    (out / "notes.txt").unlink()
    before = (out / "captions.csv").read_bytes()
    monkeypatch.setattr("scuba_ray.report.export.write_captions", broken)
    assert export(out).exit_code == 1 and (out / "captions.csv").read_bytes() == before
    assert export(tmp_path / "new").exit_code == 1 and not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deeper", "file", "full"]
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["out"], "nothing half written is left beside it"


def test_a_surface_that_is_too_small_is_not_the_runs(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scuba_ray.protocols import Geometry

    corner = (np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]))
    small = Geometry("fsaverage5", {"pial": {"lh": corner, "rh": corner}})
    monkeypatch.setattr("scuba_ray.datasets.arrays.fsaverage5", lambda: small)
    with pytest.raises(DataError, match="surface has 3: is the data set still the one"):
        export_run(written.run, written.config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
