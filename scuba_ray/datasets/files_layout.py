"""The `files` layout: anybody's data, read where it lies; options say which file is what (`examples/own_arrays.yaml`).

responses   files of single trials: `response_files` lists the kinds; one, several or a pattern; or those of lh and rh
trials      table with a row per trial, in the order of the responses: stimulus, session (if not there: a session per file)
stimuli     table of the pictures: stimulus, uri, split, caption; without it a stimulus' id is its uri
images      a folder, FILE.h5:KEY (uint8, by number), or a Parquet table of picture files (by id)
voxels      table with a row per column of array responses; or mask, rois, labels and ncsnr: maps in the responses' space
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.array_pictures import open_pictures
from scuba_ray.datasets.checks import TRIALS, Problems, check_trials, check_voxels, data_folder
from scuba_ray.datasets.content import text_digest
from scuba_ray.datasets.file_voxels import MapGiven, Maps, from_maps, from_table
from scuba_ray.datasets.geometry import fsaverage5
from scuba_ray.datasets.lab_tables import SplitRule, read_lab_table, read_sessions, read_stimuli, text_column
from scuba_ray.datasets.places import Place, below
from scuba_ray.datasets.response_series import ORIENTATIONS, Given, open_parts, settled
from scuba_ray.datasets.subject_files import SubjectFiles, sampled_digest
from scuba_ray.datasets.volumes import MEMORY
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Geometry, Grid

_MEBIBYTE = 1 << 20


class FilesDataset(SubjectFiles):
    """One subject whose files are named one by one. Opening reads headers, tables and maps; responses stay on disk.

    Relative paths begin at `path`. `voxel_id` is the table's own, or the flat index into the responses' space: last axis fastest,
    right vertices after left.

    Parameters
    ----------
    responses : str, list of str, or dict of lh and rh
        Files of single-trial responses, in the order of the trials; patterns are sorted as people count.
    orientation : str
        Of arrays: trials-first, voxels-first, or auto: what fits the number of trials.
    scale : float, optional
        Responses are divided by it. Needed where whole numbers are stored without a scale (NSD's betas: 300).
    trials, stimuli : str
        Tables, .csv, .tsv or .parquet.
    test_share, test_repeats, seed
        Test images where `stimuli` has no column split: a share of the images, by a hash of id and seed; or those that were
        shown at least so often.
    images : str
        Where the pictures are.
    voxels : str, optional
        Table with a row per column of the responses: voxel_id, hemi, vertex, i, j, k, xyz, rois, ncsnr, as far as known.
    mask, ncsnr : str or dict of lh and rh, optional
        Which voxels (larger than 0); their noise ceiling signal-to-noise ratio. Volumes need a mask.
    rois : dict of name and map, optional
        Regions: a voxel is in each whose map is larger than 0 there.
    labels : list of dicts, optional
        Regions by number: `map`, and `names` (a colour table or {number: name}) unless the file has its own.
    geometry : str, optional
        fsaverage5, where vertices are those of fsaverage5.
    memory_mb : int
        Buffer of reading, MiB.

    Raises
    ------
    ConfigError
        If an option is missing or wrong.
    DataError
        If files are missing, damaged or do not fit each other; all that is wrong, a line each.
    """

    def __init__(
        self,
        subject: str,
        path: str,
        *,
        responses: Given | None = None,
        orientation: str = "auto",
        scale: float | None = None,
        trials: str | None = None,
        stimuli: str | None = None,
        test_share: float | None = None,
        test_repeats: int | None = None,
        seed: int = 0,
        images: str | None = None,
        voxels: str | None = None,
        mask: MapGiven | None = None,
        rois: Mapping[str, MapGiven] | None = None,
        labels: Sequence[Mapping[str, Any]] | None = None,
        ncsnr: MapGiven | None = None,
        geometry: str | None = None,
        memory_mb: int = MEMORY // _MEBIBYTE,
    ) -> None:
        super().__init__(subject, path, locals())
        self._root = data_folder(path)
        _check_options(self._root, self._options)
        self._memory = memory_mb * _MEBIBYTE
        problems = Problems()
        table, shown = self._open(problems)
        problems.tell()
        with problems.collected():
            self._trials = self._make_trials(table, shown)
        with problems.collected():
            self._voxels, self._place_V, self._grid = self._make_voxels()
        problems.tell()

    def fingerprint(self) -> str:
        """Of the tables and what maps say of voxels, a sample of the responses' bytes, and the pictures; not of the location."""
        tables = [repr(table.to_pydict()) for table in (self._stimuli, self._trials, self._voxels)]
        chosen = [f"{self._scale:g}", str([file.shape for file in self._series.files])]
        paths = _sorted_files([file.path for file in self._series.files])
        sampled = sampled_digest((str(number), path) for number, path in enumerate(paths))
        places = str(self._place_V.tolist())
        return text_digest("files", *chosen, *tables, places, sampled, self._pictures.fingerprint())

    def about(self) -> dict[str, Any]:
        """What was found, for a run's record."""
        return {
            "layout": "files",
            "responses": sorted({file.path.suffix for file in self._series.files}),
            "scale": self._scale,
            "test": self._rule.words,
            **self._counts(),
        }

    def read_session(self, session: int) -> np.ndarray:
        """Single-trial responses (T_s, V) of a session, float32; `memory_mb` besides."""
        row_T = np.flatnonzero(self._trials["session"].to_numpy() == session)
        responses_TV = self._series.read(row_T, self._place_V, self._memory)
        if self._scale != 1:
            responses_TV /= np.float32(self._scale)
        return responses_TV

    def geometry(self) -> Geometry | None:
        """fsaverage5, where the options say so."""
        return fsaverage5() if self._options["geometry"] is not None else None

    def grid(self) -> Grid | None:
        """The volume of the responses or of the mask; None where voxels come from a table."""
        return self._grid

    def _open(self, problems: Problems) -> tuple[pa.Table, list[str]]:
        """Open tables, responses and pictures, as far as they can be; the table of trials, and what each showed."""
        options, path = self._options, below(self._root, self._options["trials"])
        table, shown, parts = None, list[str](), None
        with problems.collected():
            table = read_lab_table(path)
            shown = text_column(path, table, "stimulus_id")
        with problems.collected():
            parts = open_parts(self._root, options["responses"])
        with problems.collected():
            self._pictures = open_pictures(self._root, options["images"])
        if table is not None and parts is not None:
            with problems.collected():
                self._series = settled(parts, len(table), path, options["orientation"])
                self._scale = self._divisor(options["scale"])
        if shown:
            with problems.collected():
                self._stimuli = self._make_stimuli(shown)
        return table, shown

    @property
    def _rule(self) -> SplitRule:
        return SplitRule(*(self._options[name] for name in ("test_share", "test_repeats", "seed")))

    def _divisor(self, scale: float | None) -> float:
        whole = next((file for file in self._series.files if file.whole_numbers), None)
        if scale is None and whole is not None:
            raise ConfigError(
                f"{whole.path} stores whole numbers without a scale: say with the option `scale` what they are divided by (300 "
                "for NSD's betas, 1 if they are what was measured)"
            )
        return 1.0 if scale is None else float(scale)

    def _make_stimuli(self, shown: list[str]) -> pa.Table:
        given = self._options["stimuli"]
        path = None if given is None else below(self._root, given)
        stimuli, note = read_stimuli(path, below(self._root, self._options["trials"]), shown, self._rule)
        self._notes += note
        return stimuli

    def _make_trials(self, table: pa.Table, shown: list[str]) -> pa.Table:
        path = below(self._root, self._options["trials"])
        session = read_sessions(path, table)
        if session is None:
            counts = self._series.counts
            session = np.repeat(np.arange(len(counts)) + 1, counts).tolist()
            self._notes.append(f"{path.name} has no column session: each of {len(counts)} files of responses counts as one")
        made = pa.table([np.arange(len(shown)), shown, session], schema=TRIALS)
        check_trials(path, made, self._stimuli)
        sessions = len(set(session))
        packed = next((file.path for file in self._series.files if file.path.suffix in {".gz", ".mgz"}), None)
        if packed is not None and len(self._series.counts) < sessions:
            self._notes.append(f"{packed.name} holds several sessions and is read from its beginning for each; unpack it once")
        return made

    def _make_voxels(self) -> tuple[pa.Table, npt.NDArray[np.int64], Grid | None]:
        options = self._options
        on_fsaverage5 = options["geometry"] is not None
        if options["voxels"] is not None:
            columns = sum(self._series.places)
            return from_table(self._root, options["voxels"], columns, on_fsaverage5=on_fsaverage5), np.arange(columns), None
        maps = Maps(options["mask"], options["rois"] or {}, options["labels"] or (), options["ncsnr"])
        voxels, place_V, grid = from_maps(self._root, self._series, maps)
        return check_voxels(self._series.files[0].path, voxels, on_fsaverage5=on_fsaverage5), place_V, grid


def _check_options(root: Place, options: Mapping[str, Any]) -> None:
    if not root.is_dir():
        raise ConfigError(f"no data set at {root}: there is no such folder")
    missing = [name for name in ("responses", "trials", "images") if options[name] is None]
    if missing:
        raise ConfigError(f"layout `files` needs the options {', '.join(missing)}: which files they are")
    if options["orientation"] not in ORIENTATIONS:
        raise ConfigError(f"files has no orientation {options['orientation']!r}; known: {', '.join(ORIENTATIONS)}")
    if options["scale"] is not None and not options["scale"] > 0:
        raise ConfigError(f"scale must be > 0, got {options['scale']}: responses are divided by it")
    if options["geometry"] not in {None, "fsaverage5"}:
        raise ConfigError(f"geometry must be fsaverage5 or left out, got {options['geometry']!r}")
    if options["memory_mb"] < 1:
        raise ConfigError(f"memory_mb must be 1 or more, got {options['memory_mb']}")
    maps = [name for name in ("mask", "rois", "labels", "ncsnr") if options[name] is not None]
    if options["voxels"] is not None and maps:
        raise ConfigError(f"voxels says all of voxels: leave out {', '.join(maps)}, or leave out voxels")


def _sorted_files(paths: Sequence[Place]) -> list[Place]:
    """The files themselves, in order; of a folder (zarr) all below it."""
    return [
        file for path in paths for file in ([path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()))
    ]
