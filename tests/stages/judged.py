"""A phantom subject fitted on two networks, written as tables, and pictures of known content in place of made ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from scuba_ray.config import SubjectConfig, SynthesizeConfig, WeightsConfig
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.phantom.concepts import PAPER_ROIS, load_vocabulary
from scuba_ray.phantom.make import make_phantom
from scuba_ray.phantom.scenes import load_drawings, render, sample_scenes
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.judge_images import JudgeImages, targets_of
from scuba_ray.tables.columns import table_of, vectors
from scuba_ray.tables.image_schemas import IMAGES, REQUESTS, SYNTHESES
from scuba_ray.tables.progress import Result
from scuba_ray.tables.schemas import embeddings_schema, voxels_schema
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

NETWORKS = ("clip", "judge")
KEY = "phantom/clip"
SAMPLES = 5


def put(run: RunFolder, table: str, key: str, rows: pa.Table) -> None:
    """Write a finished unit of one part."""
    unit, chunk = run.begin(step=table, table=table, key=key, fingerprint="f" * 16), Chunk(0, 0, max(len(rows), 1))
    unit.write(chunk, rows)
    run.finish(unit, [chunk])


def pictures_of(region: str, count: int, seed: int) -> list[bytes]:
    """PNG files, each of one drawing of a region."""
    drawings = load_drawings()
    names = {name for concept in load_vocabulary().concepts if concept.roi == region for name in concept.drawings}
    known = torch.tensor([row for row, name in enumerate(drawings.names) if name in names])
    generator = torch.Generator().manual_seed(seed)
    drawing_BO = torch.full((count, 3), -1)
    drawing_BO[:, 0] = known[torch.randint(len(known), (count,), generator=generator)]
    pixels_BHW3 = render(sample_scenes(generator, drawing_BO), drawings).permute(0, 2, 3, 1).numpy()
    files = [BytesIO() for _ in range(count)]
    for pixels_HW3, file in zip(pixels_BHW3, files, strict=True):
        Image.fromarray(pixels_HW3).save(file, "PNG")
    return [file.getvalue() for file in files]


@dataclass
class World:
    """The subject's own files and numbers."""

    folder: Path
    voxel_ids: np.ndarray
    rois: list[list[str]]
    stimulus_ids: list[str]
    split: list[str]
    embedding_SD: dict[str, np.ndarray]
    """Of each network the stimuli's raw embeddings, float16."""
    response_VS: np.ndarray
    weight_VD: dict[str, np.ndarray]
    bias_V: dict[str, np.ndarray]

    @property
    def subject(self) -> SubjectConfig:
        return SubjectConfig(name="phantom", path=str(self.folder))

    def members(self, roi: str) -> list[int]:
        return [int(one) for one, rois in zip(self.voxel_ids, self.rois, strict=True) if roi in rois]

    def write(self, run: RunFolder, *, without: Mapping[str, Sequence[int]] | None = None) -> None:
        """Tables embeddings, responses and voxels; `without` are voxels that a network has no weights of."""
        put(run, "responses", "phantom", pa.table({"voxel_id": self.voxel_ids, "responses": list(self.response_VS)}))
        for name in NETWORKS:
            half_SD, dim = self.embedding_SD[name], self.embedding_SD[name].shape[1]
            key = {"subject": "phantom", "backbone": name}
            rows = {**key, "stimulus_id": self.stimulus_ids, "embedding": vectors(half_SD), "split": self.split}
            put(run, "embeddings", f"phantom/{name}", table_of(embeddings_schema(dim), rows))
            fitted_V = ~np.isin(self.voxel_ids, (without or {}).get(name, ()))
            voxels = {
                **key,
                "voxel_id": self.voxel_ids,
                "rois": self.rois,
                "weight": vectors(self.weight_VD[name], fitted_V),
                "bias": pa.array(self.bias_V[name], mask=~fitted_V),
                "status": ["ok" if fitted else "constant" for fitted in fitted_V],
            }
            put(run, "voxels", f"phantom/{name}", table_of(voxels_schema(dim), voxels))

    def natural(self, name: str, voxels: Sequence[int]) -> np.ndarray:
        """Mean predicted response of some voxels to all stimuli, the one-shot formula in float64."""
        raw_SD, rows = self.embedding_SD[name].astype(np.float64), np.isin(self.voxel_ids, voxels)
        unit_SD = raw_SD / np.linalg.norm(raw_SD.astype(np.float32), axis=1, keepdims=True)
        return (unit_SD @ self.weight_VD[name][rows].astype(np.float64).T + self.bias_V[name][rows]).mean(1)


def make_world(folder: Path) -> World:
    """A phantom of 150 voxels and 400 pictures, embedded, averaged and fitted by the formulas."""
    make_phantom(folder, seed=3, voxels=150, images=400, bank=1)
    dataset = ArraysDataset("phantom", str(folder))
    stimuli, trials = dataset.stimuli(), dataset.trials()
    ids = stimuli["stimulus_id"].to_pylist()
    files = [dataset.images().read(uri) for uri in stimuli["uri"].to_pylist()]
    embedding_SD, weight_VD, bias_V = {}, {}, {}
    single_TV = np.load(folder / "responses.npy")
    single_TV = (single_TV - np.nanmean(single_TV, 0)) / np.nanstd(single_TV, 0)
    of_T = np.array([ids.index(one) for one in trials["stimulus_id"].to_pylist()])
    response_VS = np.stack([np.nanmean(single_TV[of_T == row], 0) for row in range(len(ids))], axis=1).astype(np.float32)
    for name in NETWORKS:
        half_SD = embedded(name, files).astype(np.float16)
        X_SD = half_SD.astype(np.float64) / np.linalg.norm(half_SD.astype(np.float64), axis=1, keepdims=True)
        mean_D, mean_V = X_SD.mean(0), response_VS.mean(1)
        centred_SD = X_SD - mean_D
        gram_DD = centred_SD.T @ centred_SD + 0.3 * np.eye(X_SD.shape[1])
        weight_VD[name] = np.linalg.solve(gram_DD, centred_SD.T @ (response_VS - mean_V[:, None]).T).T.astype(np.float32)
        bias_V[name] = (mean_V - weight_VD[name] @ mean_D).astype(np.float32)
        embedding_SD[name] = half_SD
    voxels = dataset.voxels()
    rois = voxels["rois"].to_pylist()
    split = stimuli["split"].to_pylist()
    return World(folder, voxels["voxel_id"].to_numpy(), rois, ids, split, embedding_SD, response_VS, weight_VD, bias_V)


def embedded(name: str, pngs: Sequence[bytes]) -> np.ndarray:
    """Raw embeddings (N, D), float32, one picture at a time's preprocessing."""
    network = OpenClipBackbone(name, f"phantom:{name}").load("cpu")
    pixels = [network.preprocess(Image.open(BytesIO(png)).convert("RGB")) for png in pngs]
    return network.embed_images(torch.stack(pixels)).numpy()


def plan(
    run: RunFolder,
    targets: Mapping[str, tuple[str, Sequence[int]]],
    pictures: Mapping[str, Sequence[bytes]],
    method: str = "brainscuba",
) -> None:
    """Tables requests (target: kind, voxels) and syntheses (of each target its pictures), one method."""
    rows: dict[str, list[Any]] = {name: [] for name in ("target", "kind", "voxels", "sample", "png")}
    for target, (kind, voxels) in targets.items():
        for sample, png in enumerate(pictures[target]):
            for name, value in zip(rows, (target, kind, list(voxels), sample, png), strict=True):
                rows[name].append(value)
    about = {"subject": "phantom", "backbone": "clip", "method": method, "prompt": "a photo", "noun": "photo", "seed": 7}
    keys = {name: rows[name] for name in ("target", "kind", "sample")}
    put(run, "requests", KEY, table_of(REQUESTS, {**about, **keys, "voxels": rows["voxels"]}))
    made = {**about, **keys, "png": rows["png"], "seconds": 0.5, "batch": 4, "truncated": False}
    put(run, "syntheses", f"{KEY}/{method}", table_of(SYNTHESES, made))


def judge_stage(world: World, run: RunFolder, *, judge: bool = True, weights: bool = False, **probe: Any) -> JudgeImages:
    """The stage; `weights` says that the subject's weights were fitted elsewhere."""
    own, other = (OpenClipBackbone(name, f"phantom:{name}") for name in NETWORKS)
    elsewhere = SubjectConfig(name="phantom", weights=WeightsConfig(path="w.parquet", backbone="clip"))
    settings = {"diffusion": {"model": "phantom:diffusion"}, "probe": {"prompts": "phantom", **probe}}
    return JudgeImages(
        subject=elsewhere if weights else world.subject,
        backbone="clip",
        network=own,
        judge=other if judge else None,
        syntheses=tuple(run.keys("syntheses")),
        run=run,
        settings=SynthesizeConfig.model_validate(settings),
        resources=Resources(),
    )


def judged(stage: JudgeImages, chunk: int = 3) -> pa.Table:
    """Complete the step and read its table."""
    steps = Steps(stage.run, lambda: None, about={})  # type: ignore[arg-type,return-value]
    done: Result = steps.complete(stage, key=KEY, rows=len(targets_of(stage.run, KEY)), chunk=chunk, inputs=[], here=True)
    table = stage.run.read("images", key=done.key)
    assert table.schema.equals(IMAGES)
    return table


def region_pictures(seed: int = 0) -> dict[str, list[bytes]]:
    """Pictures of each of the paper's regions."""
    return {roi: pictures_of(roi, SAMPLES, seed + index) for index, roi in enumerate(PAPER_ROIS)}
