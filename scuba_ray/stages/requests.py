"""requests: which pictures are to be made of a subject's regions and voxels, with their prompts and seeds.

A region's prompt is made of nouns of its voxels' captions, which its pictures take in turn; a voxel's prompt is its own caption;
the gradient route has the null prompt (METHOD, section 5, which leaves the choice of nouns open). Of the most frequent nouns
those are taken whose prompt drives the region's mean model most: frequency alone brings words that all regions' captions have.
Of a part of a region, nouns that it says more than the other parts come before the rest. Rows of one method lie together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import SynthesizeConfig
from scuba_ray.core.seeds import image_seed
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import Backbone, BadRow, Chunk, Resources, StageOutput
from scuba_ray.stages.divisions import Division, divisions
from scuba_ray.stages.judging import SLICE, mean_models
from scuba_ray.stages.said import caption_prompt
from scuba_ray.stages.targets import Target, find_targets
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.image_schemas import REQUESTS
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import BRAINDIVE

NO_CAPTION = "none of its voxels has a caption by that method"
NO_NOUN = "no caption of its voxels has a noun"
SPENT = "synthesize.budget was spent on the targets before"
_VOWEL_LETTER = re.compile(r"[aeiou]|hour|hono|heir")
_CONSONANT_SOUND = re.compile(r"uni|us[ae]|ut[eio]|uk|urin|ufo|eu|ewe|once|one\b")

Prompt = tuple[str, str | None]
"""A prompt, and the noun it was made of."""


def article(noun: str) -> str:
    """`a` or `an`: by the first letter, but for a silent h (hour, honour, heir) and for a vowel that is said as a consonant
    (unicorn, user, utensil, ukulele, urinal, ufo, euro, ewe, one)."""
    return "an" if _VOWEL_LETTER.match(noun) and not _CONSONANT_SOUND.match(noun) else "a"


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The plan of one subject's pictures. Reads all voxels at once: V rows, the weights of `SLICE` voxels, a mean
    weight a target.

    A target without voxels or captions, and one beyond the budget, goes to quarantine with the reason.
    """

    subject: str
    network: Backbone
    captions: Mapping[str, str]
    """Of each method that prompts are made from, its unit of the table `captions`."""
    run: RunFolder
    settings: SynthesizeConfig
    seed: int
    resources: Resources

    name = "requests"
    version = 2
    table = "requests"
    input_columns = ("voxel_id", "rois", "fitted", "q", "r2", "r2_normalised", "drives")
    input_name = "table voxels"

    @property
    def _key(self) -> str:
        return f"{self.subject}/{self.network.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        settings, text, gradient = self.settings, self.settings.text, self.settings.gradient
        what = {"targets", "rois", "voxels", "queries", "reach", "parts", "images", "part_images", "budget", "significant"}
        return {
            "backbone": self.network.fingerprint,
            "seed": self.seed,
            "text": text and text.model_dump(mode="json", include={"captions", "template", "nouns", "choose", "considered"}),
            "gradient": gradient and gradient.model_dump(mode="json", include={"targets", "images"}),
            **settings.model_dump(mode="json", include=what),
        }

    def setup(self) -> None:
        _ = self._said, self._divided

    @cached_property
    def _said(self) -> dict[str, dict[int, tuple[str, list[str]]]]:
        """For each method the caption and nouns of each voxel that has one."""
        found = {}
        for method, key in self.captions.items():
            rows = self.run.read("captions", key=key, columns=["voxel_id", "partition", "method", "rank", "caption", "nouns"])
            plain = pc.and_(pc.equal(rows["partition"], WHOLE_BANK), pc.equal(rows["rank"], 0))
            rows = rows.filter(pc.and_(plain, pc.equal(rows["method"], method)))
            said = zip(rows["caption"].to_pylist(), rows["nouns"].to_pylist(), strict=True)
            found[method] = dict(zip(rows["voxel_id"].to_pylist(), said, strict=True))
        return found

    @cached_property
    def _divided(self) -> dict[str, Division]:
        """Parts of regions, where they are asked for: the analysis has been completed then."""
        asked = "parts" in self.settings.targets
        return divisions(self.run, self.subject, self.network.name) if asked else {}

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.concat_tables(
            self._voxels(start, min(start + SLICE, chunk.stop)) for start in range(chunk.start, chunk.stop, SLICE)
        )

    def _voxels(self, start: int, stop: int) -> pa.Table:
        """Some voxels with what they predict for the queries (w . t, t the text's unit embedding) in place of their weights."""
        columns = ("voxel_id", "rois", "q", "r2", "r2_normalised", "status", "weight")
        rows = self.run.slice("voxels", self._key, start, stop, columns=columns)
        fitted = pc.and_(pc.equal(rows["status"], "ok"), pc.is_valid(rows["weight"]))
        drive_VQ = np.zeros((len(rows), len(self.settings.queries)), np.float32)
        if self.settings.queries and pc.any(fitted).as_py():
            weight_VD = matrix(rows["weight"].filter(fitted)).astype(np.float32)
            drive_VQ[fitted.to_numpy()] = weight_VD @ self._text_DQ
        drives = pa.array(list(drive_VQ), pa.list_(pa.float32()))
        return rows.drop(["status", "weight"]).append_column("fitted", fitted).append_column("drives", drives)

    @cached_property
    def _text_DQ(self) -> Any:
        return self._embedded(self.settings.queries).numpy().T

    @cached_property
    def _tower(self) -> Backbone:
        # a few texts in the driver, which may have no other device
        return self.network.load("cpu")

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings (N, D)."""
        return unit_and_norm(self._tower.embed_texts(texts))[0]

    def __call__(self, rows: pa.Table) -> StageOutput:
        planned: dict[str, list[dict[str, Any]]] = {method: [] for method in (*self.captions, BRAINDIVE)}
        bad: list[BadRow] = []
        left, spent = self.settings.budget, False
        targets = list(find_targets(rows, self.settings, self._divided))
        direction_TD = self._directions(targets)
        for target, direction_D in zip(targets, direction_TD, strict=True):
            if not target.voxels:
                bad.append(BadRow(f"target={target.name}", target.lacking))
                continue
            for method, images in self._methods(target):
                prompts, lacking = self._prompts(target, method, direction_D)
                spent = spent or bool(prompts and images > left)
                if not prompts or spent:
                    bad.append(BadRow(f"target={target.name}, method={method}", SPENT if spent else lacking))
                    continue
                left -= images
                planned[method] += self._rows(target, method, images, prompts)
        found = [row for of_method in planned.values() for row in of_method]
        columns = {name: [row[name] for row in found] for name in REQUESTS.names if name not in {"subject", "backbone"}}
        return StageOutput(table_of(REQUESTS, {"subject": self.subject, "backbone": self.network.name, **columns}), tuple(bad))

    def _methods(self, target: Target) -> Iterator[tuple[str, int]]:
        """By which methods a target's pictures are made, and how many by each."""
        settings, asked = self.settings, {"roi": "rois", "voxel": "voxels", "query": "query", "part": "parts"}[target.kind]
        most = settings.part_images if target.kind == "part" else None

        def limited(images: int) -> int:
            return min(images, most or images)

        for method in self.captions:
            yield method, limited(settings.images)
        if settings.gradient is not None and asked in settings.gradient.targets:
            yield BRAINDIVE, limited(settings.gradient.images or settings.images)

    def _directions(self, targets: Sequence[Target]) -> Tensor:
        """The mean weight (T, D) of each target's voxels, where nouns are chosen by drive; NaN for targets without voxels."""
        text = self.settings.text
        if text is None or text.choose != "drive" or not targets:
            return torch.full((len(targets), 1), torch.nan)
        voxels = [np.array(target.voxels, np.int64) for target in targets]
        return mean_models(self.run, self._key, voxels, "cpu").direction_TD

    def _prompts(self, target: Target, method: str, direction_D: Tensor) -> tuple[list[Prompt], str]:
        """The prompts that a target's pictures take in turn, or what is lacking for one."""
        if method == BRAINDIVE:
            return [("", None)], ""
        said = [self._said[method][voxel] for voxel in target.voxels if voxel in self._said[method]]
        said = [(caption, nouns) for caption, nouns in said if caption.strip(" .")]
        if not said:
            return [], NO_CAPTION
        if target.kind == "voxel":
            return [(caption_prompt(said[0][0]), None)], ""
        text = self.settings.text
        assert text is not None, "methods other than the gradient's come from captions"
        counts = Counter(noun for _, nouns in said for noun in nouns)
        frequent = sorted(counts, key=lambda noun: (noun not in target.nouns, -counts[noun], noun))[: text.considered]
        prompts: list[Prompt] = [(text.template.replace("{a}", article(noun)).replace("{noun}", noun), noun) for noun in frequent]
        if text.choose == "drive" and prompts:
            drive_N = (self._embedded([prompt for prompt, _ in prompts]).double() @ direction_D).tolist()
            others_N = [noun not in target.nouns for noun in frequent]
            order = sorted(range(len(prompts)), key=lambda place: (others_N[place], -drive_N[place], place))
            prompts = [prompts[place] for place in order]
        return prompts[: text.nouns], NO_NOUN

    def _rows(self, target: Target, method: str, images: int, prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
        for sample in range(images):
            prompt, noun = prompts[sample % len(prompts)]
            yield {
                "target": target.name,
                "method": method,
                "sample": sample,
                "kind": target.kind,
                "prompt": prompt,
                "noun": noun,
                "seed": image_seed(self.seed, self.subject, target.name, method, sample),
                "voxels": target.voxels,
            }
