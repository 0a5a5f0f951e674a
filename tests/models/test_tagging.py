"""Which tagger a name gives, and what a run is told when it is not there."""

from __future__ import annotations

import pytest

from scuba_ray.errors import ConfigError
from scuba_ray.models import tagging
from scuba_ray.models.tagging import PIPELINE, DictionaryTagger, installed, make_tagger


def test_the_dictionary_needs_nothing() -> None:
    tagger = make_tagger("dictionary")
    assert tagger.nouns("A man riding a horse") == ["man", "horse"] and tagger.verbs("A man riding a horse") == ["ride"]
    assert not tagger.parses and tagger.relations("A man riding a horse") == []


def test_auto_is_spacy_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "installed", lambda name: False)
    assert make_tagger("auto").name == "dictionary"


def test_a_pipeline_that_is_not_installed_is_told() -> None:
    assert not installed("no_such_pipeline")
    with pytest.raises(ConfigError, match="install both, or use tagger: dictionary"):
        make_tagger("spacy:no_such_pipeline")
    with pytest.raises(ConfigError, match="no tagger is called 'guess'"):
        make_tagger("guess")


def test_a_plugin_works_by_its_path() -> None:
    assert isinstance(make_tagger("scuba_ray.models.tagging:DictionaryTagger"), DictionaryTagger)


@pytest.mark.skipif(not installed(PIPELINE), reason="spaCy and its small English pipeline are optional")
def test_spacy_knows_relations() -> None:
    tagger = make_tagger("auto")
    assert tagger.name == f"spacy:{PIPELINE}" and tagger.parses
    assert tagger.relations("A giraffe eating leaves.") == ["giraffe eat leaf"]
    assert tagger.verbs("A woman is holding a parked bike") == ["hold"]
