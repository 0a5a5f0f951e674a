"""Contact sheets: every picture in its place, text inside the sheet, what is missing said; sheets that are no longer made go."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image, ImageDraw

from scuba_ray.errors import DataError
from scuba_ray.report import contact_sheet
from scuba_ray.report.contact_sheet import GAP, LABEL, MARGIN, draw, file_name
from scuba_ray.report.synthesised import BEST, SIDE, TargetImages, by_target
from scuba_ray.tables.store import RunFolder
from tests.report.images import QUERY, picture, write_images
from tests.report.synthetic import Written, finish, write_run


@pytest.fixture(scope="module")
def targets(imaged: Written) -> dict[str, TargetImages]:
    return {target.name: target for target in by_target(imaged.run, imaged.config)}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_best_images_by_method_come_first_and_natural_ones_last(targets: dict[str, TargetImages]) -> None:
    assert list(targets) == ["faces", "food", "voxel 110", QUERY]
    faces = targets["faces"]
    assert [row.method for row in faces.rows] == ["brainscuba", "lavca", "braindive", "natural-top-100"]
    assert [(row.count, len(row.best), row.in_category) for row in faces.rows] == [(9, BEST, 4)] * 3 + [(3, 3, 3)]
    for row in faces.rows:
        responses = [image["predicted"] for image in row.best]
        assert responses == sorted(responses, reverse=True)
    assert faces.voxels == 2 and targets["voxel 110"].voxel == 110 and targets["voxel 110"].voxels == 1


def test_pictures_are_those_of_the_table(targets: dict[str, TargetImages]) -> None:
    for name, length in (("faces", 5), ("food", 4)):
        for row in targets[name].rows[:3]:
            for image in row.best:
                made = Image.open(io.BytesIO(picture(100 * length + 10 * len(row.method) + image["sample"]))).convert("RGB")
                small = image["picture"].resize((8, 8), Image.Resampling.BOX)
                np.testing.assert_allclose(
                    np.asarray(small).astype(int), np.asarray(made.resize((8, 8), Image.Resampling.BOX)).astype(int), atol=16
                )


def test_every_picture_is_on_the_sheet_where_its_row_and_rank_say(targets: dict[str, TargetImages]) -> None:
    target = targets["faces"]
    sheet = pixels(draw(target, "#D55E00"))
    step = SIDE + 3 * contact_sheet.LINE + 2 * GAP
    top = sheet.shape[0] - MARGIN + GAP - len(target.rows) * step
    for place, row in enumerate(target.rows):
        for rank, image in enumerate(row.best):
            left = MARGIN + LABEL + rank * (SIDE + GAP)
            found = sheet[top + place * step : top + place * step + SIDE, left : left + SIDE]
            np.testing.assert_array_equal(found, np.asarray(image["picture"]))


def test_nothing_is_clipped_and_no_line_overlaps_the_next(targets: dict[str, TargetImages]) -> None:
    long = replace(targets["food"], name="a region with a name that is far too long for any sheet " * 4)
    for target in (*targets.values(), long, replace(long, rows=[replace(long.rows[0], best=long.rows[0].best[:1])])):
        sheet = pixels(draw(target, "#D55E00"))
        edges = [sheet[: MARGIN - 4], sheet[-8:], sheet[:, : MARGIN - 4], sheet[:, 4 - MARGIN :]]
        assert all((edge == 255).all() for edge in edges), "text or a picture reaches into the margin"
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    for image in targets["faces"].rows[0].best:
        text = contact_sheet._shortened(image["noun"], contact_sheet._font(14), SIDE)
        box = pen.textbbox((0, 0), text, contact_sheet._font(14))
        assert box[2] <= SIDE + 1 and box[3] <= contact_sheet.LINE


def test_stimuli_are_not_opened_where_they_must_not_be_shown(imaged: Written) -> None:
    hidden = imaged.config.model_copy(update={"report": imaged.config.report.model_copy(update={"stimuli": False})})
    for target in by_target(imaged.run, hidden):
        assert [image["absent"] for image in target.rows[-1].best] == ["not shown"] * 3
        assert all(image["picture"] is None for image in target.rows[-1].best)
        assert all(image["picture"] is not None for image in target.rows[0].best)
        draw(target, "#D55E00")


def test_a_lost_data_set_or_stimulus_leaves_a_box_that_says_so(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12)
    write_images(written, ("faces",))
    (tmp_path / "subj01" / "images" / "b.png").write_bytes(b"no picture")
    faces = next(iter(by_target(written.run, written.config)))
    assert [image["picture"] is None for image in faces.rows[-1].best] == [False, True, False]
    assert faces.rows[-1].best[1]["absent"] == "not readable"
    draw(faces, "#D55E00")
    (tmp_path / "subj01" / "dataset.json").unlink()
    faces = next(iter(by_target(written.run, written.config)))
    assert [image["absent"] for image in faces.rows[-1].best] == ["no data set"] * 3


def test_images_of_an_earlier_plan_are_refused(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12)
    write_images(written, ("faces",))
    plan = written.run.read("requests")
    with written.run.lock():
        written.run.remove("requests", "subj01/tiny")
        finish(written.run, "requests", "subj01/tiny", plan.filter(pc.not_equal(plan["target"], "faces")))
    with pytest.raises(DataError, match="earlier plan, which had faces; run again"):
        list(by_target(written.run, written.config))


def test_names_of_files_are_safe_and_different(targets: dict[str, TargetImages]) -> None:
    names = [file_name(target) for target in targets.values() if target.kind != "voxel"]
    assert names[0] == "report/sheets/subj01-faces.png" and len(set(names)) == 3
    for name in names:
        assert name.count("/") == 2 and not set('<>"?*: \\') & set(name)
    assert file_name(replace(targets["faces"], name="../../evil")).count("/") == 2


def test_names_of_files_are_short_and_tell_all_targets_apart(targets: dict[str, TargetImages]) -> None:
    names = ["a b", "a_b", "a/b", "é" * 200, "é" * 201, "x" * 300, f"{'x' * 300}y", "query-faces", "FFA-1"]
    sheets = [replace(targets["faces"], name=name) for name in names]
    sheets += [replace(targets[QUERY], name=name) for name in ("faces", "ネコ" * 40, f"{'ネコ' * 40}の木", "a photo of a dog")]
    found = [file_name(sheet) for sheet in sheets]
    assert len(set(found)) == len(found)
    assert max(len(name.rpartition("/")[2].encode()) for name in found) < 150
    assert found[1] == "report/sheets/subj01-a_b.png" and found[8] == "report/sheets/subj01-FFA-1.png"


def test_sheets_that_are_no_longer_made_are_deleted(targets: dict[str, TargetImages], tmp_path: Path) -> None:
    run, folder = RunFolder(str(tmp_path)), tmp_path / "report" / "sheets"
    assert list(contact_sheet.written(run, targets.values(), {})) == list(targets.values())
    assert len(list(folder.iterdir())) == 3, "two regions and a query; a voxel has no sheet"
    assert list(contact_sheet.written(run, [targets["faces"]], {})) == [targets["faces"]]
    assert [path.name for path in folder.iterdir()] == ["subj01-faces.png"]


def test_parts_have_sheets_of_their_own_in_the_colour_of_their_region(parted: Written) -> None:
    targets = {target.name: target for target in by_target(parted.run, parted.config)}
    assert [name for name, target in targets.items() if target.region == "faces"] == ["faces", "faces part 1", "faces part 2"]
    names = {file_name(target) for target in targets.values()}
    assert len(names) == len(targets) and "report/sheets/subj01-faces.png" in names
    assert any(name.startswith("report/sheets/subj01-faces_part_2-") for name in names)
    assert targets["faces part 1"].voxel is None
    list(contact_sheet.written(parted.run, targets.values(), {"faces": "#D55E00"}))
    sheet = pixels((Path(parted.run.location) / file_name(targets["faces part 2"])).read_bytes())
    assert sheet[MARGIN + 10, MARGIN + 9].tolist() == [0xD5, 0x5E, 0x00]
