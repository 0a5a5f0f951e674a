"""Scenes: one to three drawings on a varied background, rendered in batches on the CPU or a GPU.

A scene is numbers (which drawing, where, how large, which art), never a file; `render` turns numbers into pictures. The same
code makes the training data of the phantom's models (a new batch every step), its bank and a subject's stimuli.
Tensors carry `B` scenes, `O` = 3 object slots, `N` drawings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SIDE = 64
"""Width and height of a scene in pixels."""
SLOTS = 3
GROUND = 4
"""The background is a grid of GROUND x GROUND colours, drawn out smoothly: plain, shaded or mottled."""
SPRITE = 48

# size (side, as a fraction of the picture) of each drawing in scenes of one, two and three, and where their centres go
_SIZES = ((0.50, 0.88), (0.36, 0.52), (0.30, 0.44))
_JITTER = (0.06, 0.05, 0.03)
_LAYOUTS = {
    1: (((0.5, 0.5),),),
    2: (((0.27, 0.5), (0.73, 0.5)), ((0.5, 0.27), (0.5, 0.73)), ((0.28, 0.3), (0.72, 0.7)), ((0.28, 0.7), (0.72, 0.3))),
    3: (
        ((0.25, 0.27), (0.75, 0.27), (0.5, 0.75)),
        ((0.25, 0.73), (0.75, 0.73), (0.5, 0.25)),
        ((0.27, 0.25), (0.27, 0.75), (0.75, 0.5)),
        ((0.73, 0.25), (0.73, 0.75), (0.25, 0.5)),
    ),
}
# subcategory words that name a thing by themselves ("a bird"); other words qualify their family ("prepared food")
_OWN_KIND = {"mammal", "bird", "bug", "reptile", "amphibian", "fruit", "vegetable", "flower", "building"}
_FAMILIES = {"animal", "food", "face", "place", "person", "plant", "transport", "hand"}


def kinds_of(subcategory: str) -> tuple[str, ...]:
    """Kinds a person would use, from the data's own subcategory: `animal-mammal` is a mammal and an animal."""
    words = [word for word in subcategory.replace(" & ", " and ").split("-") if word != "other"]
    family, rest = words[0], words[1:]
    if family not in _FAMILIES:
        return tuple(part for part in " ".join(words).split(" and ") if part)
    if len(rest) == 1 and rest[0] in _OWN_KIND:
        return (rest[0], family)
    return tuple(dict.fromkeys([f"{' '.join(rest)} {family}".strip(), family]))


@dataclass(frozen=True)
class Drawings:
    """The drawings there are: published names, keywords, categories, and pixels in two arts (0 Noto, 1 Twemoji)."""

    names: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    category: tuple[str, ...]
    subcategory: tuple[str, ...]
    pixels_ANCHW: torch.Tensor

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """For each drawing the kinds it is one of, narrow to wide."""
        return tuple(kinds_of(subcategory) for subcategory in self.subcategory)

    @cached_property
    def pyramid_LANCHW(self) -> torch.Tensor:
        """Premultiplied RGBA in [0, 255] at two sharpnesses (0 full, 1 half), so that small drawings do not alias."""
        full = self.pixels_ANCHW.float()
        alpha = full[:, :, 3:] / 255
        full = torch.cat([full[:, :, :3] * alpha, full[:, :, 3:]], dim=2).flatten(0, 1)
        half = F.interpolate(F.avg_pool2d(full, 2), size=(SPRITE, SPRITE), mode="bilinear", align_corners=False)
        both = torch.stack([full, half]).round().to(torch.uint8)
        return both.view(2, *self.pixels_ANCHW.shape)

    def to(self, device: str) -> Drawings:
        """The same drawings with their pixels on `device`."""
        moved = Drawings(self.names, self.keywords, self.category, self.subcategory, self.pixels_ANCHW.to(device))
        moved.__dict__["pyramid_LANCHW"] = self.pyramid_LANCHW.to(device)
        return moved


@lru_cache(maxsize=1)
def load_drawings() -> Drawings:
    """The packaged drawings (built by `phantom/build_drawings.py`)."""
    sprites = files("scuba_ray") / "phantom" / "sprites"
    records = json.loads((sprites / "drawings.json").read_text(encoding="utf-8"))
    arts = []
    for name in ("noto", "twemoji"):
        with as_file(sprites / f"{name}.webp") as path, Image.open(path) as sheet:
            pixels = torch.from_numpy(np.array(sheet.convert("RGBA")))
        rows, columns = pixels.shape[0] // SPRITE, pixels.shape[1] // SPRITE
        tiles = pixels.view(rows, SPRITE, columns, SPRITE, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, SPRITE, SPRITE)
        arts.append(tiles[: len(records)])
    return Drawings(
        names=tuple(record["name"] for record in records),
        keywords=tuple(tuple(record["keywords"]) for record in records),
        category=tuple(record["category"] for record in records),
        subcategory=tuple(record["subcategory"] for record in records),
        pixels_ANCHW=torch.stack(arts),
    )


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes. Lengths and centres are fractions of the picture; an empty slot has drawing -1."""

    drawing_BO: torch.Tensor
    size_BO: torch.Tensor
    x_BO: torch.Tensor
    y_BO: torch.Tensor
    mirror_BO: torch.Tensor
    art_BO: torch.Tensor
    ground_BCGG: torch.Tensor

    def __len__(self) -> int:
        return self.drawing_BO.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> Scenes:
        return Scenes(*(getattr(self, field.name)[rows] for field in fields(self)))


def sample_drawings(
    generator: torch.Generator,
    count: int,
    drawings: Drawings,
    weights_N: torch.Tensor | None = None,
    share_of_counts: Sequence[float] = (0.35, 0.40, 0.25),
) -> torch.Tensor:
    """Which drawings are in `count` scenes: (count, 3) int64, -1 where a slot is empty, never one twice in a scene.

    `share_of_counts` are the shares of scenes with one, two and three drawings; drawings are uniform unless weighted.
    """
    device = generator.device
    weights = torch.ones(len(drawings), device=device) if weights_N is None else weights_N.to(device)
    drawn = torch.multinomial(weights, count * SLOTS, replacement=True, generator=generator).view(count, SLOTS)
    many = torch.multinomial(torch.tensor(share_of_counts, device=device), count, replacement=True, generator=generator) + 1
    drawn[torch.arange(SLOTS, device=device) >= many[:, None]] = -1
    twice = (drawn[:, 1] == drawn[:, 0]) & (drawn[:, 1] >= 0)
    drawn[twice, 1] = (drawn[twice, 1] + 1) % len(drawings)
    for earlier in (0, 1, 0):
        twice = (drawn[:, 2] == drawn[:, earlier]) & (drawn[:, 2] >= 0)
        drawn[twice, 2] = (drawn[twice, 2] + 1) % len(drawings)
    return drawn


def sample_scenes(generator: torch.Generator, drawing_BO: torch.Tensor) -> Scenes:
    """Draw sizes, places, art and background for given drawings (filled slots first, -1 after them)."""
    device = generator.device
    drawing_BO = drawing_BO.to(device)
    count = len(drawing_BO)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, device=device)

    many_B = (drawing_BO >= 0).sum(1).clamp(min=1)
    ranges = torch.tensor(_SIZES, device=device)[many_B - 1]
    size_BO = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * uniform(count, SLOTS)
    table, options = _layout_table(device)
    choice_B = (uniform(count) * options[many_B - 1]).long()
    centre_BO2 = table[many_B - 1, choice_B]
    jitter_B = torch.tensor(_JITTER, device=device)[many_B - 1]
    centre_BO2 = centre_BO2 + (uniform(count, SLOTS, 2) * 2 - 1) * jitter_B[:, None, None]
    half = size_BO[:, :, None] / 2
    centre_BO2 = torch.minimum(torch.maximum(centre_BO2, half), 1 - half)
    # a base colour, a tilt between two colours, and mottle, each of random strength
    base = uniform(count, 1, 1, 1) + (uniform(count, 3, 1, 1) - 0.5) * uniform(count, 1, 1, 1)
    strength = uniform(count, 2, 1, 1) ** 2
    ramp = torch.linspace(-1, 1, GROUND, device=device)
    tilt = uniform(count, 3, 2, 1, 1) * 2 - 1
    shade = tilt[:, :, 0] * ramp[None, None, :, None] + tilt[:, :, 1] * ramp[None, None, None, :]
    mottle = uniform(count, 3, GROUND, GROUND) * 2 - 1
    ground = base + 0.35 * strength[:, :1] * shade + 0.30 * strength[:, 1:] * mottle
    return Scenes(
        drawing_BO=drawing_BO,
        size_BO=size_BO,
        x_BO=centre_BO2[..., 0],
        y_BO=centre_BO2[..., 1],
        mirror_BO=uniform(count, SLOTS) < 0.5,
        art_BO=(uniform(count, SLOTS) < 0.5).long(),
        ground_BCGG=ground.clamp(0, 1),
    )


def _layout_table(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres by number of drawings and layout, (3, 4, 3, 2), and how many layouts each number has."""
    table = torch.full((SLOTS, 4, SLOTS, 2), 0.5)
    for many, layouts in _LAYOUTS.items():
        for row, layout in enumerate(layouts):
            table[many - 1, row, :many] = torch.tensor(layout)
    return table.to(device), torch.tensor([len(_LAYOUTS[many]) for many in (1, 2, 3)], device=device)


def render(scenes: Scenes, drawings: Drawings, device: str = "cpu") -> torch.Tensor:
    """Pictures of scenes, uint8 (B, 3, 64, 64) on `device`. Later slots are drawn over earlier ones.

    Drawings are scaled, mirrored and placed, never turned.
    """
    pyramid = drawings.pyramid_LANCHW
    scenes = Scenes(*(getattr(scenes, field.name).to(device) for field in fields(scenes)))
    picture = F.interpolate(scenes.ground_BCGG * 255, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    for slot in range(SLOTS):
        rows = (scenes.drawing_BO[:, slot] >= 0).nonzero().squeeze(1)
        if not len(rows):
            continue
        size = scenes.size_BO[rows, slot]
        level = (size * SIDE < SPRITE * 0.6).long()
        tiles = pyramid[level, scenes.art_BO[rows, slot], scenes.drawing_BO[rows, slot]].float()
        flip = 1 - 2 * scenes.mirror_BO[rows, slot].float()
        theta = torch.zeros(len(rows), 2, 3, device=picture.device)
        theta[:, 0, 0] = flip / size
        theta[:, 1, 1] = 1 / size
        theta[:, 0, 2] = -flip * (2 * scenes.x_BO[rows, slot] - 1) / size
        theta[:, 1, 2] = -(2 * scenes.y_BO[rows, slot] - 1) / size
        grid = F.affine_grid(theta, [len(rows), 4, SIDE, SIDE], align_corners=False)
        layer = F.grid_sample(tiles, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        picture[rows] = picture[rows] * (1 - layer[:, 3:] / 255) + layer[:, :3]
    return picture.round().clamp(0, 255).to(torch.uint8)


def caption_order(scenes: Scenes) -> torch.Tensor:
    """Drawings of each scene from large to small, (B, 3); empty slots (-1) last."""
    size_BO = torch.where(scenes.drawing_BO >= 0, scenes.size_BO, -1.0)
    return scenes.drawing_BO.gather(1, size_BO.argsort(dim=1, descending=True, stable=True))


def name_captions(scenes: Scenes, drawings: Drawings) -> list[str]:
    """The caption a scene's content dictates: the names of its drawings, largest first, joined by `and`."""
    rows = caption_order(scenes).tolist()
    return [" and ".join(drawings.names[index] for index in row if index >= 0) for row in rows]
