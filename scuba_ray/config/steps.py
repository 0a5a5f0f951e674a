"""Settings of the steps, in the order of the paper. A field's comment gives its unit and what larger means."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scuba_ray.config.parts import Part, registered
from scuba_ray.protocols import LOW_LEVEL


class EncodeConfig(Part):
    # images per network pass; larger is faster until memory ends, results do not change
    batch: int = Field(128, ge=1)
    # images per chunk (and rows per Parquet part); a chunk is what is redone after a fault
    chunk: int = Field(1024, ge=1)
    # pixels above which a picture is refused as a decompression bomb
    max_pixels: int = Field(100_000_000, ge=1)
    # seconds after which a decoder that is not done with a picture is ended, and the picture quarantined
    decode_seconds: float = Field(60.0, gt=0)
    # arithmetic of the network. float16 and bfloat16 (autocast) are faster on a GPU and change embeddings slightly, so they are
    # part of a result's fingerprint
    precision: Literal["float32", "float16", "bfloat16"] = "float32"


class FitConfig(Part):
    # ridge: closed form, alpha per voxel by cross-validation. sgd: the published optimiser
    method: Literal["ridge", "sgd"] = "ridge"
    # ridge penalties tried, as decimal exponents [from, to] and their number; larger shrinks more
    alpha_log10: tuple[float, float] = (-2.0, 5.0)
    alphas: int = Field(20, ge=1)
    # folds of *images* for choosing alpha
    folds: int = Field(5, ge=2)
    # voxels per chunk
    chunk: int = Field(512, ge=1)
    # permutations of test responses for p; 0 leaves p and q null
    permutations: int = Field(1000, ge=0)
    # images that are permuted together
    permutation_block: int = Field(1, ge=1)
    # the low-level baseline (size, luminance, contrast, spatial frequencies) fitted beside the backbones, as a control
    low_level: bool = True
    # second feature sets of banded fits, beside the image embedding: low-level, caption (column caption of stimuli.parquet)
    bands: tuple[Literal["low-level", "caption"], ...] = ("low-level",)
    # noise ceiling (share of variance) below which no normalised score is given
    ceiling_floor: float = Field(0.1, ge=0, le=1)
    # sgd only: encode the training images anew every epoch with random gain, shift and noise, as published: a network pass per
    # training image, epoch and worker (METHOD: 909,300 a subject). false fits the cached embeddings, at next to no cost
    jitter: bool = True
    # sgd only: passes over the training images, images per step, initial rate, weight decay (published values)
    epochs: int = Field(100, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1.5e-2, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> FitConfig:
        lowest, highest = self.alpha_log10
        if lowest > highest:
            raise ValueError(f"alpha_log10 must go from the smaller to the larger exponent, got [{lowest:g}, {highest:g}]")
        if LOW_LEVEL in self.bands and not self.low_level:
            raise ValueError("bands has low-level, which needs low_level: true; without the baseline, set bands: []")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands must be different, got {', '.join(self.bands)}")
        return self


class BankConfig(Part):
    # a bank built before (a folder of shards); or
    path: str | None = None
    # pictures to build the run's own bank from (kept in RUN/bank): a registered image source and where it lives
    source: Annotated[str, registered("images")] = "folder"
    images: str | None = None
    # pictures whose bytes came before: drop quarantines them (the first one stays), keep counts them again
    duplicates: Literal["drop", "keep"] = "drop"
    # leave out pictures whose embedding has at least this cosine with that of a subject's test image; none leaves all in
    similar: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _one(self) -> BankConfig:
        if (self.path is None) == (self.images is None):
            raise ValueError("give either `path` (a bank built before) or `images` (pictures to build one from)")
        if self.path is not None and self.similar is not None:
            raise ValueError("similar is for building a bank: give it with `images`, or to scuba bank build with --subject")
        return self


class ProjectConfig(Part):
    # inverse temperature of the softmax over the bank; larger averages fewer images (the paper uses 150)
    beta: float = Field(150.0, gt=0, description="the paper uses 150")
    # exact: every bank image. index: the nearest `candidates` by the bank's FAISS index (`scuba bank index`), with a bound on
    # what is left out; voxels above `tolerance` are projected exactly after all
    method: Literal["exact", "index"] = "exact"
    candidates: int = Field(1024, ge=1, le=2048, description="FAISS searches at most 2048 on a GPU")
    # largest share of the softmax mass that the images left out may have; larger is faster and less exact
    tolerance: float = Field(1e-3, gt=0, lt=1)
    # arithmetic of the scores; tf32 and bfloat16 are faster on a GPU (errors: `core.projection`) and part of the fingerprint
    scores: Literal["float32", "tf32", "bfloat16"] = "float32"
    # GiB of the bank that a worker may hold in memory (of its device); more than that it reads from disk at every pass
    hold_gib: float = Field(4.0, ge=0)
    # nearest bank images kept per voxel
    nearest: int = Field(64, ge=1)
    # bank images per tile: working memory is chunk * tile * 4 bytes
    tile: int = Field(8192, ge=1)
    # voxels per chunk
    chunk: int = Field(512, ge=1)


class CaptionConfig(Part):
    # a captioner directory (`scuba captioner train`), phantom:NAME, clipcap:CHECKPOINT.pt, or `module:Class`
    model: str
    # clipcap only: directory of the GPT-2 tokenizer and config the checkpoint belongs to
    language_model: str | None = None
    # clipcap only: fingerprint of the backbone the checkpoint reads, where that is not open_clip:ViT-B-32-quickgelu/openai by
    # name, such as a copy of it in a local directory (the error message of a mismatch gives the fingerprint)
    trained_for: str | None = None
    # beam: CLIPCap's own rule. greedy: always the likeliest token (what CLIPCap's published `generate2` does). nucleus: drawn
    rule: Literal["beam", "greedy", "nucleus"] = "beam"
    # beam only: beams kept at every step; larger searches wider
    beams: int = Field(5, ge=1)
    # nucleus only: probability mass of the likeliest tokens that one is drawn from; larger is more varied
    top_p: float = Field(0.9, gt=0, le=1)
    # nucleus only: captions drawn per voxel; the likeliest one is shown, re-ranking chooses among all
    samples: int = Field(5, ge=1)
    # nucleus only: seed of the draws; a voxel's draws depend on it, on the voxel and on nothing else
    seed: int = Field(0, ge=0)
    # longest caption, tokens
    max_tokens: int = Field(67, ge=1)
    # softmax temperature of the next token; larger is flatter
    temperature: float = Field(1.0, gt=0)
    # a beam ends at this token
    stop: str = "."
    # arithmetic of the language model. float16 and bfloat16 are faster on a GPU and can change a caption, so they are part of a
    # result's fingerprint
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    # voxels decoded together; larger is faster until memory ends, results do not change
    batch: int = Field(64, ge=1)
    # GiB that decoding may take on a worker's device beside the weights; fewer voxels than `batch` are decoded together if that
    # is needed (formula: `models.cached_gpt2.decoding_bytes`). none sets no limit
    memory_gib: float | None = Field(None, gt=0)
    # projections per chunk
    chunk: int = Field(1024, ge=1)


class ReportConfig(Part):
    # title of the page; none uses the run's name
    title: str | None = None
    # show pictures of what subjects saw; false where a data set's terms forbid to pass them on (NSD's do). Pictures of the bank
    # and those that were made are shown in any case
    stimuli: bool = True
    # thumbnails of the bank's pictures, which come from the web unseen: show, blur (shapes and colours only) or hide them all
    bank: Literal["show", "blur", "hide"] = "show"
    # text file of image ids, one a line, whose pictures are never shown: what a filter of your own objects to
    leave_out: str | None = None
