"""Text beside figures: every analysis that is drawn has one, with the numbers of its table."""

from __future__ import annotations

import pyarrow as pa
import pytest

from scuba_ray.report import figure_texts, figures
from scuba_ray.report.figure_texts import SAID, texts
from tests.report.analysed import HOSTILE_NOUN, write_analyses
from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    written = write_run(tmp_path_factory.mktemp("analysed"), voxels=20)
    write_analyses(written)
    return written


def test_every_figure_has_a_text() -> None:
    assert set(figures._DRAWN) == set(figure_texts._TEXTS) == set(figure_texts._LINES)


def test_numbers_are_those_of_the_table(analysed: Written) -> None:
    def alt(name: str) -> str:
        return texts(name, analysed.run.read(f"analyses/{name}"))["alt"]

    assert alt("person") == "People. faces 50%."
    assert "faces, n_eff 0.50 images" in alt("selectivity") and "caption_agreement 0.50 share of nouns" in alt("selectivity")
    assert f"faces, part 2: 9 voxels, {HOSTILE_NOUN}; food: no voxel counts" in alt("clusters")
    assert alt("embedding_map") == "Embedding map. subj01: pca fitted on subj01, 25% of its variance in three components."


def test_terms_and_long_tables() -> None:
    row = {"subject": "s", "roi": "faces", "noun": "man", "rank": 1, "share": 0.5, "permuted": False}
    table = pa.Table.from_pylist([row, {**row, "noun": "dog", "permuted": True}, {**row, "noun": "sea", "rank": 9}])
    assert texts("nouns", table)["alt"] == "Nouns of regions. faces: man (50% of voxels)."
    many = pa.Table.from_pylist([{**row, "roi": f"region {place}"} for place in range(SAID + 2)])
    assert texts("nouns", many)["alt"].endswith("; and 2 more in the table.")
