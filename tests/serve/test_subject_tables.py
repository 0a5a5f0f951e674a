"""What is made of a subject's tables: prompts as the run makes them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError
from scuba_ray.serve.subject_tables import SubjectTables
from scuba_ray.tables.store import RunFolder

SILENT = 104


class Sentences(RunFolder):
    """The run, had its captioner written sentences, and of one voxel nothing."""

    def read(self, table: str, **which: Any) -> pa.Table:
        found = super().read(table, **which)
        if table != "captions":
            return found
        said = [" ." if row["voxel_id"] == SILENT else f"{row['caption']}." for row in found.to_pylist()]
        return found.set_column(found.column_names.index("caption"), "caption", pa.array(said))


def test_prompts_are_captions_without_their_full_stop(finished: tuple[RunFolder, RunConfig]) -> None:
    run, _ = finished
    plain, sentences = (SubjectTables(folder, "subj01", "tiny") for folder in (run, Sentences(run.location)))
    assert sentences.prompts([100, 103]) == plain.prompts([100, 103])
    with pytest.raises(ConfigError, match=f"without words in their captions: {SILENT}"):
        sentences.prompts([100, SILENT])
