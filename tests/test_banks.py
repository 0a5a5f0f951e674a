"""Banks in a folder of their own: what goes in, what is left out and why, how a bank grows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scuba_ray import banks
from scuba_ray.bank.info import info
from scuba_ray.bank.listings import listed
from scuba_ray.bank.shards import BankFolder, open_bank
from scuba_ray.banks import build_bank
from scuba_ray.cli import app
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.clip import make_backbone
from scuba_ray.pipeline import run
from scuba_ray.stages import scan
from scuba_ray.tables.progress import Progress
from scuba_ray.tables.store import RunFolder
from tests.datasets.mixed import write_mixed
from tests.study import BANK, TEST, TinyStudy, write_backbone, write_pictures


class Build:
    """Builds in one folder with the tiny study's backbone, on the local engine; keeps what was told of it."""

    def __init__(self, study: TinyStudy, out: Path) -> None:
        self.config = study.config()
        self.out = out
        self.events: list[Progress] = []

    def __call__(self, images: Path, stop_at: str = "never", **changes: Any) -> BankFolder:
        """Build; `stop_at` is a step that somebody stops with Ctrl-C as it begins."""

        def listen(progress: Progress) -> None:
            self.events.append(progress)
            if progress.step == stop_at:
                raise KeyboardInterrupt

        self.events.clear()
        given = {"backbone": self.config.backbones[0], "encode": self.config.encode, "engine": self.config.engine}
        return build_bank(**{"images": str(images), "out": str(self.out), "listen": listen, **given, **changes})

    @property
    def folder(self) -> RunFolder:
        return RunFolder(str(self.out))

    @property
    def computed(self) -> dict[str, int]:
        """Rows of the steps that computed anything, by step and unit."""
        return {f"{event.step} {event.key}": event.rows_total for event in self.events}

    @property
    def files(self) -> dict[str, tuple[int, int]]:
        """Every part with what changes when it is written again."""
        found = sorted(self.out.glob("*/*.parquet"))
        return {str(path.relative_to(self.out)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}

    def ids(self) -> list[str]:
        return sorted(self.folder.read("bank")["image_id"].to_pylist())

    def reasons(self) -> dict[str, str]:
        return {row["key"].removeprefix("image_id="): row["reason"] for row in self.folder.quarantine().to_pylist()}


@pytest.fixture
def build(study: TinyStudy, tmp_path: Path) -> Build:
    return Build(study, tmp_path / "bank")


@contextmanager
def refused(words: str, build: Build) -> Iterator[None]:
    """The folder is as it was when it is refused."""
    before = build.files
    with pytest.raises(ConfigError, match=words):
        yield
    assert build.files == before


# ---------------------------------------------------------------------------------------------- what goes in


def test_good_pictures_are_embedded_and_every_bad_one_is_named_with_its_reason(build: Build, tmp_path: Path) -> None:
    mixed = write_mixed(tmp_path / "wild", 170, 30)
    bank = build(mixed.folder)
    assert bank.rows == 170 and build.ids() == list(mixed.good)
    reasons = build.reasons()
    assert set(reasons) == set(mixed.bad)
    assert all(words in reasons[name].lower() for name, words in mixed.bad.items())
    for copy, original in mixed.duplicates.items():
        assert f"the same bytes as {original} (collection wild)" in reasons[copy]
    (about,) = info(bank.location)
    assert about["rows"] + sum(about["quarantined"].values()) == about["listed"] == 200
    assert about["quarantined"] == {"duplicate": 5, "too large": 5, "unreadable": 20}
    assert about["collections"] == {"wild": 170} and about["finished"] and sum(about["partitions"]) == 170
    norms = build.folder.read("bank")["norm"].to_numpy()
    np.testing.assert_allclose([about["norm_mean"], about["norm_sd"]], [norms.mean(), norms.std()], rtol=1e-4)


def test_every_step_is_told_and_recorded_and_a_second_build_does_nothing(build: Build, study: TinyStudy) -> None:
    build(study.folder / "pictures")
    assert build.computed == {"scan pictures": BANK, "admit pictures": BANK, "bank tiny/pictures": BANK}
    record = build.folder.read_run_json()
    assert list(record["steps"]) == list(build.computed) and record["complete"]
    assert record["collections"]["pictures"]["images"] == str(study.folder / "pictures")
    before = build.files
    build(study.folder / "pictures")
    assert build.events == [] and build.files == before


def test_a_collection_keeps_the_cut_it_was_begun_with(build: Build, study: TinyStudy) -> None:
    build(study.folder / "pictures", encode=build.config.encode.model_copy(update={"chunk": 40}))
    before = build.files
    bank = build(study.folder / "pictures")
    assert build.files == before and build.computed == {} and len(bank.shards) == 3, "90 pictures are not embedded again"
    assert build.folder.read_run_json()["warnings"] == ["pictures keeps its 40 pictures per shard: it was begun with them"]


def test_workers_scan_what_is_large_or_far_to_the_same_result(
    build: Build, study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(study.folder / "pictures")
    monkeypatch.setattr(banks, "_HERE", 0)
    monkeypatch.setattr(scan, "_CHUNK_FILES", 40)
    far = Build(study, tmp_path / "far")
    assert far(study.folder / "pictures").rows == BANK
    assert far.events[0].chunks_total == 3
    assert far.folder.read("bank").equals(build.folder.read("bank"))


def test_nothing_to_embed_is_an_error_that_says_why(build: Build, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        build(tmp_path / "none")
    assert not build.out.exists()
    (tmp_path / "none" / "a.png").write_bytes(b"html")
    with pytest.raises(DataError, match=r"step bank \(tiny/none\): not one of the 1 rows .*no known format"):
        build(tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no pictures: every one of them is in its quarantine"):
        open_bank(str(build.out), make_backbone(build.config.backbones[0]))


# ---------------------------------------------------------------------------------------------- several collections


def test_a_second_collection_extends_the_bank_and_leaves_the_first_alone(build: Build, study: TinyStudy, tmp_path: Path) -> None:
    build(study.folder / "pictures")
    before = build.files
    write_pictures(tmp_path / "more", 30, 8, "m")
    for index in (3, 4):
        whole = (study.folder / "pictures" / f"b{index:04d}.png").read_bytes()
        (tmp_path / "more" / f"copy{index}.png").write_bytes(whole)
    (tmp_path / "more" / "twin.png").write_bytes((tmp_path / "more" / "m0007.png").read_bytes())
    bank = build(tmp_path / "more")
    assert bank.collections == ("more", "pictures") and bank.rows == BANK + 30
    assert {name: build.files[name] for name in before} == before
    assert build.computed == {"scan more": 33, "admit more": 33, "bank tiny/more": 30}
    assert build.reasons() == {
        "copy3.png": "a duplicate: the same bytes as b0003.png (collection pictures)",
        "copy4.png": "a duplicate: the same bytes as b0004.png (collection pictures)",
        "twin.png": "a duplicate: the same bytes as m0007.png (collection more)",
    }
    assert len(set(build.ids())) == bank.rows
    record = build.folder.read_run_json()
    assert set(record["collections"]) == {"pictures", "more"} and len(record["steps"]) == 6
    build(study.folder / "pictures")
    assert not build.events, "the first collection does not see the second"
    build(tmp_path / "more", duplicates="keep")
    assert build.folder.read("bank").num_rows == BANK + 33 and not build.reasons()


def test_ids_that_another_collection_has_are_refused_until_a_prefix_tells_them_apart(
    build: Build, study: TinyStudy, tmp_path: Path
) -> None:
    build(study.folder / "pictures")
    write_pictures(tmp_path / "again", 20, 9, "b")
    with pytest.raises(ConfigError, match=r"20 ids .* b0000.png \(collection pictures\).*--prefix again/"):
        build(tmp_path / "again")
    bank = build(tmp_path / "again", prefix="again/")
    assert bank.rows == BANK + 20 and "again/b0000.png" in build.ids()
    assert not bank.unfinished
    with refused("it was built with --source folder and --prefix 'again/'", build):
        build(tmp_path / "again", prefix="other/")


def test_a_collection_that_was_begun_before_must_be_scanned_first(build: Build, study: TinyStudy, tmp_path: Path) -> None:
    write_pictures(tmp_path / "more", 10, 8, "m")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "more", stop_at="scan")
    with pytest.raises(ConfigError, match=r"collection more was begun in .* before pictures"):
        build(study.folder / "pictures")
    (build.out / "listings" / "more.parquet").unlink()
    assert build(study.folder / "pictures").rows == BANK, "it was given up"


def test_two_backbones_share_a_folder_and_what_one_lacks_is_said(build: Build, study: TinyStudy, tmp_path: Path) -> None:
    build(study.folder / "pictures")
    write_pictures(tmp_path / "more", 10, 8, "m")
    build(tmp_path / "more")
    other = build.config.backbones[0].model_copy(
        update={"name": "other", "model": f"local-dir:{write_backbone(tmp_path / 'o', 1)}"}
    )
    bank = build(study.folder / "pictures", backbone=other)
    assert build.computed == {"bank other/pictures": BANK}, "scanned once for all"
    assert bank.rows == BANK and bank.unfinished == ("more",)
    assert [(one["backbone"], one["rows"], one["finished"]) for one in info(bank.location)] == [
        ("other", BANK, False),
        ("tiny", BANK + 10, True),
    ]


def test_a_run_says_which_collections_its_bank_lacks(build: Build, study: TinyStudy, tmp_path: Path) -> None:
    build(study.folder / "pictures")
    write_pictures(tmp_path / "more", 10, 8, "m")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "more", stop_at="bank")
    folder = run(study.config(out=str(tmp_path / "run"), bank={"path": str(build.out)}))
    assert any("without more, which tiny has not embedded" in warning for warning in folder.read_run_json()["warnings"])


# ---------------------------------------------------------------------------------------------- a source that changes


def test_a_source_that_grew_is_taken_up_where_it_ended(build: Build, own_study: TinyStudy) -> None:
    pictures = own_study.folder / "pictures"
    build(pictures)
    before, first = build.files, build.ids()
    write_pictures(pictures, 12, 8, "a")
    (pictures / "copy.png").write_bytes((pictures / "b0005.png").read_bytes())
    bank = build(pictures)
    assert build.computed == {"scan pictures+1": 13, "admit pictures+1": 13, "bank tiny/pictures+1": 12}
    assert {name: build.files[name] for name in before} == before
    assert bank.rows == BANK + 12 and set(first) < set(build.ids())
    assert "b0005.png (collection pictures)" in build.reasons()["copy.png"]
    (pictures / "zz.png").write_bytes(b"<html>")
    assert build(pictures).rows == BANK + 12, "new files may be bad, all of them"
    assert "no known format" in build.reasons()["zz.png"]
    (pictures / "zzz.png").write_bytes(b"<html>")
    assert build(pictures).rows == BANK + 12, "or seen before"
    assert "the same bytes as zz.png" in build.reasons()["zzz.png"]
    build(pictures)
    assert not build.events
    (about,) = info(bank.location)
    assert about["collections"] == {"pictures": BANK + 12} and about["listed"] == BANK + 15 and about["finished"]
    assert [one.collection for one in listed(bank.location)] == ["pictures", *(f"pictures+{one}" for one in (1, 2, 3))]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("gone", r"1 of its 90 files are gone or have another size \(b0003.png\)"),
        ("size", r"1 of its 90 files are gone or have another size \(b0003.png\)"),
        ("bytes", "its files have the same names and sizes as they had, and other contents"),
    ],
)
def test_files_that_changed_are_refused(build: Build, own_study: TinyStudy, change: str, words: str) -> None:
    pictures = own_study.folder / "pictures"
    build(pictures)
    file = pictures / "b0003.png"
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + (b"" if change == "size" else b"?"))
    with refused(f"{words}.*--collection, or build in another folder with --out", build):
        build(pictures)
    if change != "gone":
        assert build(pictures, collection="now", prefix="now/").rows == BANK + 1, "the other 89 are duplicates"


@pytest.mark.parametrize("inside", ["", "bank"])
def test_a_bank_among_its_pictures_is_refused(build: Build, own_study: TinyStudy, inside: str) -> None:
    pictures = own_study.folder / "pictures"
    with pytest.raises(ConfigError, match="lies inside the folder of the pictures"):
        build(pictures, out=str(pictures / inside))
    assert not any(path.is_dir() for path in pictures.iterdir())
    with pytest.raises(ConfigError, match="lies inside the folder of the pictures"):
        run(own_study.config(out=str(pictures / "run")))


def test_a_source_may_move(build: Build, own_study: TinyStudy, tmp_path: Path) -> None:
    build(own_study.folder / "pictures")
    before = {name: state for name, state in build.files.items() if not name.startswith("listings")}
    (own_study.folder / "pictures").rename(tmp_path / "pictures")
    build(tmp_path / "pictures")
    assert not build.events
    assert {name: state for name, state in build.files.items() if not name.startswith("listings")} == before


# ---------------------------------------------------------------------------------------------- test images


def test_pictures_like_a_subjects_test_images_are_left_out(build: Build, own_study: TinyStudy) -> None:
    seen, trained = (own_study.folder / "subject" / "images" / f"s{index:04d}.png" for index in (1, TEST + 1))
    for path in (seen, trained):
        Image.open(path).save(own_study.folder / "pictures" / path.with_suffix(".bmp").name)
    bank = build(own_study.folder / "pictures", subjects=build.config.subjects, similar=0.99999)
    assert bank.rows == BANK + 1
    assert build.reasons() == {"s0001.bmp": "similar to test image s0001 (cosine 1.00)"}
    assert build.folder.read("embeddings")["split"].to_pylist() == ["test"] * TEST
    assert info(bank.location)[0]["quarantined"] == {"similar to a test image": 1}
    with pytest.raises(ConfigError, match="takes both: a subject with a data set, and the cosine"):
        build(own_study.folder / "pictures", similar=0.9)


# ---------------------------------------------------------------------------------------------- the command line


def test_build_and_info_on_the_command_line(study: TinyStudy, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(study.settings()))
    model = f"local-dir:{study.folder / 'backbone'}"
    command = ["bank", "build", "--images", str(study.folder / "pictures"), "--backbone", model, "--out", str(tmp_path / "bank")]
    options = ["--engine", "local", "--batch", "16", "--chunk", "25", "--subject", str(tmp_path / "run.yaml")]
    result = CliRunner().invoke(app, [*command, *options, "--similar", "1", "--collection", "mine", "--prefix", "m/", "--verify"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'bank'}\n"
    assert "90 pictures" in result.stderr
    facts = CliRunner().invoke(app, ["bank", "info", str(tmp_path / "bank")])
    assert facts.exit_code == 0 and "collections mine 90 finished yes" in " ".join(facts.stdout.split())
    (about,) = json.loads(CliRunner().invoke(app, ["bank", "info", str(tmp_path / "bank"), "--format", "json"]).stdout)
    assert about == info(str(tmp_path / "bank"))[0] and about["shards"] == 4
    alone = CliRunner().invoke(app, [*command, "--engine", "local", "--similar", "0.9"])
    assert alone.exit_code == 2 and "takes both: a subject" in " ".join(alone.stderr.split()), "it would leave nothing out"
    nothing = CliRunner().invoke(app, ["bank", "info", str(tmp_path)])
    assert nothing.exit_code == 2 and "no finished bank" in nothing.stderr
    wrong = CliRunner().invoke(app, [*command, "--collection", "a/b"])
    assert wrong.exit_code == 2 and "--collection must be letters" in wrong.stderr
