"""The `algonauts2023` layout: the Algonauts 2023 challenge as it is published, read where it lies.

    PATH/subjXX/training_split/training_fmri/{lh,rh}_training_fmri.npy      (images, vertices) float32
    PATH/subjXX/training_split/training_images/train-0001_nsd-00013.png     number from 1: the row; NSD's number from 0
    PATH/subjXX/roi_masks/{lh,rh}.all-vertices_fsaverage_space.npy          (163842,): which vertices the columns are
    PATH/subjXX/roi_masks/{lh,rh}.NAME_challenge_space.npy                  a label per column, 0 is none
    PATH/subjXX/roi_masks/{lh,rh}.NAME_fsaverage_space.npy                  the same per vertex (may be absent; compared)
    PATH/subjXX/roi_masks/mapping_NAME.npy                                  names of labels (`label_names`)
    PATH/subjXX/test_split/...                                              the same with `test`; needed for test: test-split
    PATH/subjXX/test_split/noise_ceiling/{lh,rh}_noise_ceiling.npy          share of variance (may be absent)

The challenge's organisers z-scored NSD's betas within each session, all trials together, and averaged the one to three repeats of
an image. So an image has one row here, which counts as one trial of one session. Preparation standardises that session by its
training images alone, a shift and a scale per vertex, which changes no correlation; what the organisers computed from all trials,
test images among them, cannot be undone.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.datasets.algonauts_folder import SUBJECTS, AlgonautsFolder, open_responses
from scuba_ray.datasets.algonauts_vertices import ALL, Vertices
from scuba_ray.datasets.checks import TRIALS, Problems, data_folder
from scuba_ray.datasets.content import text_digest
from scuba_ray.datasets.geometry import HEMISPHERES, fsaverage5
from scuba_ray.datasets.held_out import check_share, held_out
from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.nsd_stimuli import coco_captions, coco_ids, stimulus_id
from scuba_ray.datasets.places import below
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.datasets.subject_files import SubjectFiles, sampled_digest
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Geometry

SHARE, TEST_SPLIT = "share", "test-split"
_SESSION = 1
_BLOCK = 256
"""Rows of responses that are read together."""


class AlgonautsDataset(SubjectFiles):
    """One subject of the challenge. Opening reads labels and the headers of responses; the responses stay on disk.

    Stimuli are called as the layout `nsd` calls them, in the order of the rows; each is shown once, in session 1. `voxel_id` is
    fsaverage's vertex, the right ones after the left (from 163,842); `vertex` the nearest of fsaverage5, where it is drawn. Where
    noise ceilings c are there, ncsnr is sqrt(c / (1 - c)), that of an averaged response.

    Parameters
    ----------
    subject : str
        What results call the subject.
    path : str
        The folder that holds subj01 to subj08.
    challenge_subject : str, optional
        The name of the subject's folder, where `subject` is another.
    mask : str
        Which vertices: `all`, or an expression of regions (`floc-faces`, or `prf-visualrois:V1v,V1d`) and .npy files of one value
        per column, left before right, joined by ` + `, ` - ` or ` & ` (`masks`). A file's path begins at `path` unless absolute.
    test : str
        `share`: some of the training images are held out, because responses to the challenge's test images were kept back.
        `test-split`: the challenge's test images, where the files that were published later are there.
    test_share : float
        Share of the images held out for `share`, each by a hash of NSD's number and `seed`: the same for every subject.
    seed : int
        Another seed holds out other images.
    rois : list of str, optional
        Collections of regions that name vertices; none takes the localiser's and V1 to hV4, those that are there.
    captions, coco_list : str, optional
        Folder of COCO's captions_*.json, and NSD's nsd_stim_info_merged.csv, from which stimuli get captions. Both or none;
        from `path` unless absolute.

    Raises
    ------
    ConfigError
        If there is no such subject or an option is wrong.
    DataError
        If a file is missing or damaged, or files do not fit each other; the file is named.
    """

    def __init__(
        self,
        subject: str,
        path: str,
        *,
        challenge_subject: str | None = None,
        mask: str = ALL,
        test: str = SHARE,
        test_share: float = 0.1,
        seed: int = 0,
        rois: list[str] | None = None,
        captions: str | None = None,
        coco_list: str | None = None,
    ) -> None:
        super().__init__(subject, path, locals())
        if test not in {SHARE, TEST_SPLIT}:
            raise ConfigError(f"algonauts2023 has no test {test!r}; known: {SHARE}, {TEST_SPLIT}")
        if (captions is None) != (coco_list is None):
            raise ConfigError("captions need both options, `captions` and `coco_list`")
        check_share(test_share)
        self._folder = AlgonautsFolder(data_folder(path) / (challenge_subject or subject))
        self._splits = ("training",) if test == SHARE else ("training", "test")
        self._pictures, problems = FolderImages(str(self._folder.path)), Problems()
        with problems.collected():
            self._vertices = Vertices(self._folder)
        known = problems.none
        with problems.collected():
            self._stimuli = self._make_stimuli()
            self._trials = self._make_trials()
        if problems.none:
            self._check_responses(problems)
        if known:
            with problems.collected():
                self._column_V = self._vertices.columns(mask)
            with problems.collected():
                regions = self._vertices.regions(rois)
        problems.tell()
        self._voxels = self._vertices.table(self._column_V, regions)
        self._notes += self._remarks()

    def fingerprint(self) -> str:
        """Of all tables, and of a sample of the bytes of responses and pictures; not of their location."""
        sampled = sampled_digest((path.name, path) for split in self._splits for path in self._folder.responses(split).values())
        tables = [json.dumps(table.to_pydict()) for table in (self._stimuli, self._voxels)]
        return text_digest("algonauts2023", *tables, sampled, self._pictures.fingerprint())

    def about(self) -> dict[str, Any]:
        """What was chosen and found, for a run's record."""
        chosen = {name: self._options[name] for name in ("mask", "test")}
        if self._options["test"] == SHARE:
            chosen |= {name: self._options[name] for name in ("test_share", "seed")}
        return {"layout": "algonauts2023", "challenge_subject": self._folder.path.name, **chosen, **self._counts()}

    def _remarks(self) -> list[str]:
        name, training = self._folder.path.name, len(self._folder.pictures("training"))
        notes = ["repeats were averaged by the challenge's organisers: every image counts as one trial"]
        if SUBJECTS.get(name, training) != training:
            notes.append(f"{name} has {training} training images here, {SUBJECTS[name]} in the challenge")
        if not self._folder.has_ceilings():
            notes.append(f"no noise ceilings: {self._folder.ceiling(HEMISPHERES[0])} or that of the other hemisphere is missing")
        return notes

    def _make_trials(self) -> pa.Table:
        count = len(self._stimuli)
        session = np.full(count, _SESSION, np.int32)
        return pa.table([np.arange(count), self._stimuli["stimulus_id"], session], schema=TRIALS)

    def read_session(self, session: int) -> np.ndarray:
        """Averaged responses (S, V), float32, of the one session there is; training images before test images."""
        del session
        responses_SV = np.empty((len(self._stimuli), len(self._column_V)), np.float32)
        columns = self._vertices.by_hemisphere(self._column_V)
        row = 0
        for split in self._splits:
            start = 0
            for hemi, path in self._folder.responses(split).items():
                array, stop = open_npy(path), start + len(columns[hemi])
                for first in range(0, len(array), _BLOCK):  # the file's other columns are never held together
                    block = array[first : first + _BLOCK, columns[hemi]]
                    responses_SV[row + first : row + first + len(block), start:stop] = block
                start = stop
            row += len(array)
        return responses_SV

    def geometry(self) -> Geometry | None:
        """fsaverage5."""
        return fsaverage5()

    def _make_stimuli(self) -> pa.Table:
        uris, splits = dict[int, str](), list[str]()
        for split in self._splits:
            pictures = self._folder.pictures(split)
            both = sorted(uris.keys() & pictures.keys())
            if both:
                raise DataError(f"{self._folder.path}: NSD's image {both[0]} is a training image and a test image")
            uris |= pictures
            splits += ["test" if split == "test" else "train"] * len(pictures)
        names = [stimulus_id(image) for image in uris]
        if self._options["test"] == SHARE:
            tests = held_out(names, self._options["test_share"], self._options["seed"])
            splits = ["test" if name in tests else "train" for name in names]
            if not 0 < len(tests) < len(names) - 1:
                raise DataError(
                    f"of {len(names)} images of {self._folder.path.name}, test_share {self._options['test_share']} with seed "
                    f"{self._options['seed']} holds out {len(tests)}; wanted some, and two to train"
                )
        said: dict[int, str] = {}
        if self._options["captions"] is not None:
            root = self._folder.path.parent
            coco = coco_ids(below(root, self._options["coco_list"]))
            found = coco_captions(below(root, self._options["captions"]), {coco[one] for one in uris if one in coco})
            said = {image: found[coco[image]] for image in uris if coco.get(image) in found}
        caption = pa.array([said.get(image) for image in uris], pa.string())
        return pa.table({"stimulus_id": names, "uri": list(uris.values()), "split": splits, "caption": caption})

    def _check_responses(self, problems: Problems) -> None:
        for split in self._splits:
            images = len(self._folder.pictures(split))
            for hemi, path in self._folder.responses(split).items():
                with problems.collected():
                    open_responses(path, images, self._vertices.count(hemi))
