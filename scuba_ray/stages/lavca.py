"""lavca: a caption per voxel from what its nearest pictures have in common, after LaVCa, beside BrainSCUBA's own.

The descriptions of a voxel's nearest pictures give candidate keywords (nouns by tf-idf, with document frequencies over the
descriptions of all voxels' nearest pictures; or a language model's list). Those that the voxel's weights want, by a softmax of
the text tower's cosines, are kept, and a sentence is made of them: by the template, or by the language model, of whose sentences
the one nearest to the weights is taken. Nobody decodes a voxel's own embedding here, so `logprob` is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import LavcaConfig
from scuba_ray.core.keywords import keep_by_drive, rank_by_tf_idf, sentence_of
from scuba_ray.core.vectors import cosine
from scuba_ray.models import language
from scuba_ray.models.language import LanguageModel, Refusal
from scuba_ray.protocols import Backbone, BadRow, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import matrix, table_of, vectors
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import LAVCA

_SETTINGS = {"pictures", "keywords", "considered", "beta", "threshold", "keep", "compose", "candidates"}


@dataclass(frozen=True, kw_only=True)
class Lavca:
    """LaVCa captions of one subject's voxels.

    A worker holds the subject's weights (V * D * 4 bytes), the descriptions, and the embedding of every keyword it has met.
    """

    subject: str
    backbone: Backbone
    """The captioned one: its text tower judges keywords and sentences."""
    language: LanguageModel | None
    """Who finds keywords; none for the tf-idf of nouns."""
    descriptions: str
    """Unit of the table `descriptions`."""
    run: RunFolder
    settings: LavcaConfig
    resources: Resources
    device: str = "cpu"

    name = "lavca"
    version = 1
    table = "captions"
    input_columns = ("voxel_id", "nearest_ids", "weight")
    input_name = "table projections"

    def fingerprint(self) -> Mapping[str, Any]:
        """The address, key and patience of a service are not part of it."""
        asked = (
            None if self.language is None else {**self.language.fingerprint(), "prompts": [language.KEYWORDS, language.SENTENCES]}
        )
        settings = self.settings.model_dump(mode="json", include=_SETTINGS)
        return {"method": LAVCA, "backbone": self.backbone.fingerprint, "language": asked, **settings}

    def setup(self) -> None:
        _ = self._network, self._writer, self._described, self._weights

    @cached_property
    def _network(self) -> Backbone:
        return self.backbone.load(self.device)

    @cached_property
    def _writer(self) -> LanguageModel | None:
        return None if self.language is None else self.language.load(self.device)

    @cached_property
    def _described(self) -> pa.Table:
        columns = ("image_id", "caption", "nouns")
        return self.run.read("descriptions", key=self.descriptions, columns=columns).combine_chunks()

    @cached_property
    def _noun_counts(self) -> dict[str, int]:
        """In how many descriptions each noun occurs; a description has each of its nouns once."""
        counts = pc.value_counts(pc.list_flatten(self._described["nouns"]))
        return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))

    @cached_property
    def _weights(self) -> pa.Table:
        key = f"{self.subject}/{self.backbone.name}"
        return self.run.read("voxels", key=key, columns=("voxel_id", "weight")).combine_chunks()

    @cached_property
    def _texts(self) -> dict[str, Tensor]:
        return {}

    def read(self, chunk: Chunk) -> pa.Table:
        key = f"{self.subject}/{self.backbone.name}"
        columns = ("voxel_id", "partition", "nearest_ids")
        rows = self.run.slice("projections", key, chunk.start, chunk.stop, columns=columns)
        rows = rows.filter(pc.equal(rows["partition"], WHOLE_BANK)).drop(["partition"])
        place = pc.index_in(rows["voxel_id"], value_set=self._weights["voxel_id"])
        weight = vectors(matrix(self._weights["weight"].take(place))) if len(rows) else pa.array([], self._weights["weight"].type)
        return rows.append_column("weight", weight)

    def __call__(self, rows: pa.Table) -> StageOutput:
        voxels, weight_VD = rows["voxel_id"].to_pylist(), torch.tensor(matrix(rows["weight"]))
        candidates = self._candidates([self._places(ids) for ids in rows["nearest_ids"].to_pylist()])
        refused = {index: found for index, found in enumerate(candidates) if isinstance(found, Refusal)}
        offered = {index: found for index, found in enumerate(candidates) if not isinstance(found, Refusal)}
        text_of = self._embedded([word for words in offered.values() for word in words])
        kept = {index: self._kept(words, text_of, weight_VD[index]) for index, words in offered.items()}
        said: dict[int, list[str]] = {}
        for index, sentences in zip(kept, self._sentences(list(kept.values())), strict=True):
            if isinstance(sentences, Refusal):
                refused[index] = sentences
            else:
                said[index] = sentences
        ranked = self._ranked(said, weight_VD)
        columns = {
            "subject": self.subject,
            "backbone": self.backbone.name,
            "voxel_id": [voxels[index] for index in said],
            "partition": WHOLE_BANK,
            "method": LAVCA,
            "rank": 0,
            "caption": [sentences[0][0] for sentences in ranked],
            "nouns": [kept[index] for index in said],
            "candidates": [[text for text, _ in sentences] for sentences in ranked],
            "candidate_scores": [[score for _, score in sentences] for sentences in ranked],
        }
        bad = tuple(
            BadRow(f"subject={self.subject}, voxel_id={voxels[index]}", refused[index].reason, refused[index].retry)
            for index in sorted(refused)
        )
        return StageOutput(table_of(CAPTIONS, columns), bad)

    def _places(self, ids: Sequence[str]) -> pa.Array:
        """Rows of the descriptions of a voxel's nearest pictures; a picture that has none is passed over."""
        nearest = pa.array(ids[: self.settings.pictures], pa.string())
        return pc.index_in(nearest, value_set=self._described["image_id"]).drop_null()

    def _candidates(self, places: Sequence[pa.Array]) -> list[list[str] | Refusal]:
        """Candidate keywords of each voxel, best first."""
        wanted = self.settings.considered
        found: list[list[str] | Refusal] = [Refusal("not one of its nearest pictures has a description", False) for _ in places]
        described = [index for index, place in enumerate(places) if len(place)]
        if self._writer is not None:
            texts = [self._described["caption"].take(places[index]).to_pylist() for index in described]
            answers = self._writer.lists([language.ask_for_keywords(some, wanted) for some in texts])
            for index, answer in zip(described, answers, strict=True):
                found[index] = answer
            return found
        for index in described:
            nouns = self._described["nouns"].take(places[index]).to_pylist()
            ranked = rank_by_tf_idf(nouns, self._noun_counts, len(self._described), wanted)
            found[index] = ranked or Refusal("not one of the descriptions of its nearest pictures has a noun", False)
        return found

    def _kept(self, candidates: list[str], text_of: Mapping[str, Tensor], weight_D: Tensor) -> list[str]:
        settings, text_KD = self.settings, torch.stack([text_of[word] for word in candidates])
        kept = keep_by_drive(text_KD, weight_D, beta=settings.beta, threshold=settings.threshold, keep=settings.keep)
        return [candidates[index] for index in kept]

    def _embedded(self, words: Sequence[str]) -> Mapping[str, Tensor]:
        """Text embeddings of those words, and of all that this worker has met before."""
        new = [word for word in dict.fromkeys(words) if word not in self._texts]
        self._texts.update(zip(new, self._network.embed_texts(new).float().cpu(), strict=True))
        return self._texts

    def _sentences(self, kept: Sequence[list[str]]) -> Sequence[list[str] | Refusal]:
        """Sentences made of each voxel's keywords."""
        if self.settings.compose == "template":
            return [[sentence_of(keywords)] for keywords in kept]
        assert self._writer is not None, "LavcaConfig wants a language model for `compose: language`"
        return self._writer.lists([language.ask_for_sentences(keywords, self.settings.candidates) for keywords in kept])

    def _ranked(self, said: Mapping[int, list[str]], weight_VD: Tensor) -> list[list[tuple[str, float]]]:
        """Each voxel's sentences with their cosine to its weights, best first."""
        text_ND = self._network.embed_texts([text for sentences in said.values() for text in sentences]).float().cpu()
        voxel_N = [index for index, sentences in said.items() for _ in sentences]
        score_N = cosine(text_ND, weight_VD[voxel_N]).nan_to_num(-1.0)
        scores = torch.split(score_N, [len(sentences) for sentences in said.values()])
        scored = [
            list(zip(sentences, score.tolist(), strict=True)) for sentences, score in zip(said.values(), scores, strict=True)
        ]
        return [sorted(pairs, key=lambda pair: -pair[1]) for pairs in scored]
