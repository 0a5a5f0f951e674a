"""A whole study small enough for seconds: pictures, responses, a bank, a random backbone and a random captioner, all as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import GPT2Config

from scuba_ray.config import RunConfig, make_config
from scuba_ray.models.caption_text import train_caption_tokenizer
from scuba_ray.models.captioner_directory import CaptionerAbout, write_captioner
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.clip_export import train_text_tokenizer, write_open_clip_directory
from scuba_ray.models.prefix_model import PrefixModel
from scuba_ray.tables.store import RunFolder
from tests.models.tiny import TOWERS, WORDS

STIMULI, TEST, REPEATS, SESSIONS, BANK = 60, 15, 2, 2, 90
TABLES = ("responses", "embeddings", "bank", "fits", "voxels", "projections", "captions")
OK, CONSTANT, BAD = 10, 10, 11
"""Voxels 0 to 9 answer to the pictures' colours; voxel 10 is constant; most trials of voxel 11 are missing."""


def write_pictures(folder: Path, count: int, seed: int, prefix: str) -> np.ndarray:
    """Pictures of three coloured bands; returns the colours, (count, 9)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    colours = rng.integers(0, 255, (count, 3, 3), dtype=np.uint8)
    for index, bands in enumerate(colours):
        pixels = np.repeat(np.repeat(bands[:, None], 40, axis=1), 24, axis=0)
        pixels = pixels.astype(np.int16) + rng.integers(-20, 20, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{prefix}{index:04d}.png")
    return colours.reshape(count, 9) / 255.0


def write_subject(folder: Path, seed: int = 0) -> Path:
    """A subject in the `arrays` layout."""
    rng = np.random.default_rng(seed + 1000)
    colours_SC = write_pictures(folder / "images", STIMULI, seed, "s")
    ids = [f"s{index:04d}" for index in range(STIMULI)]
    order = np.concatenate([rng.permutation(STIMULI) for _ in range(REPEATS)])
    signal_SV = (colours_SC - colours_SC.mean(0)) @ rng.normal(size=(9, OK + 2))
    responses_TV = (signal_SV[order] + 0.2 * rng.normal(size=(len(order), OK + 2))).astype(np.float32)
    session_T = np.arange(len(order)) * SESSIONS // len(order)
    responses_TV += 5 * session_T[:, None].astype(np.float32)
    responses_TV[:, CONSTANT] = 3.0
    responses_TV[: len(order) // 2, BAD] = np.nan
    responses_TV[3, 0] = np.inf
    (folder / "dataset.json").write_text(
        json.dumps({"layout": "arrays", "version": 1, "subject": "tiny", "geometry": "fsaverage5"})
    )
    split = ["test"] * TEST + ["train"] * (STIMULI - TEST)
    pq.write_table(
        pa.table({"stimulus_id": ids, "uri": [f"{one}.png" for one in ids], "split": split}), folder / "stimuli.parquet"
    )
    trials = {"trial": np.arange(len(order)), "stimulus_id": [ids[i] for i in order], "session": session_T.astype(np.int32)}
    pq.write_table(pa.table(trials), folder / "trials.parquet")
    voxels = {
        "voxel_id": np.arange(OK + 2) + 100,
        "hemi": ["lh", "rh"] * (OK // 2 + 1),
        "vertex": np.arange(OK + 2, dtype=np.int32) * 50,
        "rois": [["faces"], ["food", "places"], []] * ((OK + 2) // 3),
    }
    pq.write_table(pa.table(voxels), folder / "voxels.parquet")
    np.save(folder / "responses.npy", responses_TV)
    return folder


def write_backbone(out: Path, seed: int = 0, **changes: Any) -> Path:
    """A vision transformer with random weights: it tells colours apart, which a random ResNet hardly does."""
    tokenizer = train_text_tokenizer(WORDS, 300)
    vision = {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    config = {
        **TOWERS,
        "vision_cfg": vision,
        "text_cfg": {**TOWERS["text_cfg"], "vocab_size": tokenizer.get_vocab_size()},
        **changes,
    }
    torch.manual_seed(seed)
    network = open_clip.CLIP(**config)
    network.visual.conv1.weight.data.mul_(5)
    return write_open_clip_directory(out, model_config=config, state_dict=network.state_dict(), tokenizer=tokenizer)


def write_captioner_for(out: Path, backbone: Path, seed: int = 0) -> Path:
    """A captioner with random weights for the backbone in a directory. Large weights: different embeddings, different words."""
    network = OpenClipBackbone("tiny", f"local-dir:{backbone}")
    tokenizer = train_caption_tokenizer(WORDS, 300)
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = PrefixModel(network.dim, 2, config)
    for parameter in model.clip_project.parameters():
        parameter.data.normal_(std=3.0)
    about = CaptionerAbout(network.fingerprint, network.name, network.dim, prefix_length=2, hidden=model.hidden)
    write_captioner(out, model, tokenizer, about)
    return out


@dataclass(frozen=True)
class TinyStudy:
    """Where everything lies."""

    folder: Path

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Settings of a run; nested ones are replaced by dotted keywords with `__`: fit__chunk=3."""
        settings: dict[str, Any] = {
            "name": "tiny",
            "out": str(self.folder / "run"),
            "engine": {"name": "local"},
            "subjects": [{"name": "subj01", "path": str(self.folder / "subject")}],
            "backbones": [{"name": "tiny", "model": f"local-dir:{self.folder / 'backbone'}"}],
            "prepare": {"chunk": 5},
            "encode": {"batch": 16, "chunk": 25},
            "fit": {"chunk": 5, "permutations": 50, "folds": 3, "alphas": 5, "low_level": False, "bands": []},
            "bank": {"images": str(self.folder / "pictures")},
            "project": {"chunk": 5, "beta": 20, "nearest": 8},
            "caption": {"model": str(self.folder / "captioner"), "chunk": 25, "max_tokens": 8},
            "rerank": None,
            "score": None,
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            here = settings
            for parent in parents:
                here = here[parent]
            here[last] = value
        return settings

    def config(self, **changes: Any) -> RunConfig:
        return make_config(self.settings(**changes))


def write_study(folder: Path) -> TinyStudy:
    write_backbone(folder / "backbone")
    write_captioner_for(folder / "captioner", folder / "backbone")
    write_subject(folder / "subject")
    write_pictures(folder / "pictures", BANK, 7, "b")
    return TinyStudy(folder)


def assert_equal_tables(one: RunFolder, two: RunFolder, tables: tuple[str, ...] = TABLES) -> None:
    """Keys, text and integers exactly, floats to 1e-5."""
    for name in tables:
        a, b = one.read(name), two.read(name)
        assert a.schema.equals(b.schema) and a.num_rows == b.num_rows, name
        for column in a.column_names:
            first, second = a[column].combine_chunks(), b[column].combine_chunks()
            if pa.types.is_fixed_size_list(first.type) or pa.types.is_list(first.type):
                assert first.is_null().equals(second.is_null()), (name, column)
                first, second = first.flatten(), second.flatten()
            if pa.types.is_floating(first.type):
                assert first.is_null().equals(second.is_null()), (name, column)
                pair = [values.drop_null().to_numpy(zero_copy_only=False).astype(float) for values in (first, second)]
                np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-7, err_msg=f"{name}.{column}")
            else:
                assert first.equals(second), (name, column)
