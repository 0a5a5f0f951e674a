"""Settings of images that are made: from captions (BrainSCUBA), by gradient (BrainDiVE), and of who judges them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scuba_ray.config.parts import Part, registered

Target = Literal["rois", "voxels", "query", "parts"]


class DiffusionConfig(Part):
    # a diffusers model: a directory, phantom:diffusion, or a name on the Hugging Face hub. Stable Diffusion's original names were
    # removed from the hub in 2025, so there is no default
    model: str = Field(min_length=1)
    # hub names only: the commit to take, so that a result can be made again; a branch can move
    revision: str | None = None
    # sampling steps; larger is slower and finer (the paper uses 50)
    steps: int = Field(50, ge=1, description="the paper uses 50")
    # dpm-solver++ (order 2, the paper's), or the scheduler that the model comes with (turbo models need their own)
    scheduler: Literal["dpm-solver++", "model"] = "dpm-solver++"
    # side of the pictures in pixels; none is the model's own
    size: int | None = Field(None, ge=8)
    # arithmetic. float16 and bfloat16 are faster on a GPU and change pictures, so they are part of a result's fingerprint
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    # pictures made together; larger is faster until memory ends. Where memory ends, a worker goes on with half of it and says so
    batch: int = Field(8, ge=1)
    # compile the network on its first batch: minutes at the start, faster afterwards
    compile: bool = False


class TextRouteConfig(Part):
    # the registered synthesizer, or `module:Class`
    synthesizer: Annotated[str, registered("synthesizer")] = "text"
    # another model than `synthesize.diffusion` for this route
    diffusion: DiffusionConfig | None = None
    # captions that prompts are made from: values of `method`. Each is a `method` of its own in the table `images`
    captions: tuple[Literal["brainscuba", "brainscuba-rerank", "lavca"], ...] = Field(("brainscuba",), min_length=1)
    # prompt of a region or a query: {a} is "a" or "an", {noun} one of its nouns; a voxel's prompt is its caption
    template: str = Field(
        "A photo of {a} {noun}", pattern=r"\{noun\}", description="a sentence with {noun} in it, and perhaps {a}"
    )
    # nouns of a region that are drawn; its images take them in turn
    nouns: int = Field(5, ge=1)
    # which ones. drive: of the `considered` most frequent in its captions, those whose prompt its voxels are predicted to answer
    # to most, so that words which every region's captions have do not stand for one. frequency: the most frequent
    choose: Literal["drive", "frequency"] = "drive"
    considered: int = Field(20, ge=1)
    # strength of classifier-free guidance; larger follows the prompt more closely and varies less. 0 for turbo models
    guidance: float = Field(7.5, ge=0)

    @model_validator(mode="after")
    def _considers_enough(self) -> TextRouteConfig:
        if self.choose == "drive" and self.considered < self.nouns:
            raise ValueError(f"considered ({self.considered}) must be >= nouns ({self.nouns}), which are chosen among them")
        return self


class GradientRouteConfig(Part):
    # the registered synthesizer, or `module:Class`
    synthesizer: Annotated[str, registered("synthesizer")] = "gradient"
    # another model than `synthesize.diffusion` for this route
    diffusion: DiffusionConfig | None = None
    # which of `synthesize.targets` are made by gradient; it takes several times as long
    targets: tuple[Target, ...] = ("rois",)
    # images of each target; none is `synthesize.images`
    images: int | None = Field(None, ge=1)
    # strength g of the brain's gradient; larger drives the voxels harder and looks less natural (BrainDiVE uses 130)
    scale: float = Field(130.0, ge=0, description="BrainDiVE uses 130")
    # strength of self-attention guidance, against smooth nothings (BrainDiVE uses .75); 0 spares a network pass a step
    self_attention: float = Field(0.75, ge=0, description="BrainDiVE uses .75")


class ProbeConfig(Part):
    # zero-shot categories and their prompts. paper: faces, bodies, places, food, words with as many prompts as BrainDiVE's
    # probe. phantom: the same five, in the words of the phantom's drawings. Or categories and prompts of your own
    prompts: Literal["paper", "phantom"] | dict[str, tuple[str, ...]] = "paper"
    # which category a region belongs to, where it is not called like it: {FFA-1: faces, PPA: places}
    category_of: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_prompts(self) -> ProbeConfig:
        if isinstance(self.prompts, dict):
            if len(self.prompts) < 2:
                raise ValueError(f"prompts must be of two categories or more, got {len(self.prompts)}")
            empty = sorted(name for name, prompts in self.prompts.items() if not prompts)
            if empty:
                raise ValueError(f"prompts: {', '.join(empty)} has none")
        return self


class SynthesizeConfig(Part):
    diffusion: DiffusionConfig
    # what images are made for: rois (regions), voxels (single ones), query (the voxels that answer most to a text), parts (of
    # regions, as the analysis `clusters` of this run divides them)
    targets: tuple[Target, ...] = Field(("rois", "voxels"), min_length=1)
    # regions; none takes all
    rois: tuple[str, ...] = ()
    # single voxels: their ids, or how many; then the best predicted ones of each region in turn
    voxels: tuple[int, ...] | Annotated[int, Field(ge=0)] = 12
    # texts of `query` targets, and how many voxels each stands for: those with the largest predicted response to it
    queries: tuple[str, ...] = ()
    reach: int = Field(100, ge=1)
    # regions whose `parts` get images; none takes all that `clusters` divides
    parts: tuple[str, ...] = ()
    # images of each target, by each route
    images: int = Field(8, ge=1)
    # at most so many images of each part by each route; none is as many as of other targets
    part_images: int | None = Field(None, ge=1)
    # most images of a subject, of all targets and routes together; targets beyond it are left out, and the run says which
    budget: int = Field(2000, ge=1)
    # only voxels with q < .05 stand for a target, where q is known; without, every fitted voxel does
    significant: bool = True
    # from captions to images; none leaves it out
    text: TextRouteConfig | None = TextRouteConfig()
    # from the voxels' own gradient to images; none leaves it out
    gradient: GradientRouteConfig | None = None
    # a backbone of this run, other than the captioned one, whose encoding model judges the images too; one that had no part in
    # making them is the fairer judge
    judge: str | None = None
    probe: ProbeConfig = ProbeConfig()
    # images per chunk: what is made again after a worker is lost
    chunk: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> SynthesizeConfig:
        if self.text is None and self.gradient is None:
            raise ValueError("no route is left: give `text` or `gradient`, or leave synthesize out")
        if ("query" in self.targets) != bool(self.queries):
            raise ValueError("targets has query exactly where `queries` has texts")
        if self.parts and "parts" not in self.targets:
            raise ValueError("parts names regions whose parts get images, and targets has no parts: add it, or leave parts out")
        for name in ("targets", "rois", "queries", "voxels", "parts"):
            values = () if isinstance(getattr(self, name), int) else getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must be different, got {', '.join(map(str, values))}")
        if not all(query.strip() for query in self.queries):
            raise ValueError("queries has an empty text: give a few words, such as 'a plate of food'")
        steered = () if self.gradient is None else self.gradient.targets
        if self.gradient is not None and not set(steered) & set(self.targets):
            raise ValueError(
                f"gradient.targets: {', '.join(steered) or 'nothing'}, none of targets ({', '.join(self.targets)}), so nothing "
                "would be made by gradient: give it some of them, or leave gradient out"
            )
        return self
