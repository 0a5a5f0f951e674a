"""What an export says of itself: README.md, dataset_description.json (a BIDS derivative), and labels for file names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scuba_ray import __version__
from scuba_ray.report.export_maps import DESCRIPTIONS
from scuba_ray.report.export_surface import COUNT, FIRST

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig

BIDS = "1.10.0"
IGNORED = ("captions.csv", "*_statmap.*", "*_pycortex.npz", ".scuba_export.json")
"""What BIDS has no name for (`statmap` is a usage of its tools, not yet a suffix of the standard)."""
REGIONS = "dseg.tsv"
"""The numbers, names and colours of regions: at this place and by this name BIDS takes it for that of every segmentation."""

_PARTS = {
    "maps": f"""## Maps

`*_statmap.func.gii` holds every map of a hemisphere, one array each, called by its name; the array `{COUNT}` says how many voxels
fall on each vertex. Where several do, a number is their mean (a mean of q is no q of anything: threshold the voxels of
captions.csv, not vertices). NaN is where no voxel is.

`*_dseg.label.gii` holds an array `{FIRST}` and one for every region, in the colours of the report. Where several voxels fall on
one vertex, its regions are those of the voxel with the best R2.

`*_stat-NAME_*_statmap.nii.gz` are the maps of a volume on the subject's own grid (NaN where no voxel was captioned),
`*_dseg.nii.gz` the number of each voxel's first region (`{REGIONS}`), `*_label-NAME_*_mask.nii.gz` each region.
""",
    "captions": """## Captions

`captions.csv` has a row per voxel: its place (i, j, k from 0; x, y, z in mm), its regions joined by `;`, its scores and its
caption by each method. It is UTF-8 as RFC 4180 has it. Captions are kept letter by letter: before a spreadsheet opens
the file, have it import these columns as text, for it may take a field that begins with `=`, `+`, `-` or `@` for a formula.
""",
    "pycortex": """## pycortex

`*_pycortex.npz` holds each map as pycortex takes it: vertices left before right, volumes as (z, y, x). fsaverage5 is not among
pycortex' own subjects, so `to_fsaverage` names for each vertex of fsaverage the one that stands for it.

```python
import cortex, numpy as np
cortex.download_subject("fsaverage")  # once
a = np.load("FILE_space-fsaverage5_..._pycortex.npz")
cortex.webshow(cortex.Vertex(a["r2"][a["to_fsaverage"]], "fsaverage", vmin=0, vmax=0.5))
a = np.load("FILE_space-fsaverage_..._pycortex.npz")
cortex.webshow(cortex.Vertex(a["r2"], "fsaverage", vmin=0, vmax=0.5))
a = np.load("FILE_of_a_volume_pycortex.npz")  # SUBJECT, of your pycortex store: surfaces in the scanner's mm of the same space
cortex.db.save_xfm("SUBJECT", "TRANSFORM", np.linalg.inv(a["affine"]), xfmtype="coord", reference="FILE_statmap.nii.gz")
cortex.webshow(cortex.Volume(a["r2"], "SUBJECT", "TRANSFORM", vmin=0, vmax=0.5))
```
""",
}


def readme(config: RunConfig, what: Sequence[str], notes: Sequence[str]) -> str:
    """README.md: what the files are, and what could not be written."""
    maps = "\n".join(f"- `{name}`: {description}" for name, description in DESCRIPTIONS.items())
    left_out = "\n".join(f"- {note}" for note in notes) or "- nothing"
    parts = "\n".join(_PARTS[part] for part in what)
    return (
        f"# {config.report.title or config.name}\n\nVoxel captions and maps of a run of scuba_ray {__version__}. Names of files: "
        "`sub-` subject, `desc-` backbone.\n\nWhat numbers mean (maps, and columns of captions.csv):\n\n"
        f"{maps}\n\n{parts}\n## What is not here\n\n{left_out}\n"
    )


def description(config: RunConfig, subjects: Iterable[str]) -> str:
    """dataset_description.json. Of a data set on a local disk no path is told."""
    wanted = set(subjects)
    sources = [
        {"Subject": one.name, "Layout": one.dataset} | ({"URL": one.path} if one.path and "://" in one.path else {})
        for one in config.subjects
        if one.name in wanted
    ]
    about: dict[str, Any] = {
        "Name": config.report.title or config.name,
        "BIDSVersion": BIDS,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "scuba_ray", "Version": __version__, "Description": "scuba export: captions of voxels"}],
        "SourceDatasets": sources,
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def regions_table(regions: Mapping[str, int], colours: Mapping[str, str]) -> str:
    """BIDS' look-up table of labels."""
    rows = [f"{key}\t{_one_line(name)}\t{colours[name]}" for name, key in regions.items()]
    return "\n".join(["index\tname\tcolor", *rows]) + "\n"


def bids_labels(names: Iterable[str]) -> dict[str, str]:
    """A label of letters and digits for each name, all different (whatever case a disk keeps): `subj01`, `sub-01` -> `01`."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        plain = re.sub(r"[^A-Za-z0-9]", "", name.removeprefix("sub-")) or "x"
        label, number = plain, 1
        while label.lower() in taken:
            number += 1
            label = f"{plain}{number}"
        taken.add(label.lower())
        labels[name] = label
    return labels


def _one_line(name: str) -> str:
    return " ".join(name.split())
