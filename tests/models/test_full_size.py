"""The published sizes: ViT-B/32 as an open_clip directory and CLIPCap on GPT-2 small, with random weights, end to end."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from scuba_ray.config import BackboneConfig, CaptionConfig
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.clip_export import write_open_clip_directory
from scuba_ray.models.clipcap import PUBLISHED_BACKBONE, PrefixCaptioner, make_captioner
from tests.models.published import token_of, write_clipcap, write_gpt2
from tests.models.tiny import picture
from tests.parity.published_beam import generate_beam

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backbone_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("full") / "ViT-B-32"
    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    state = open_clip.create_model("ViT-B-32-quickgelu").state_dict()
    return write_open_clip_directory(out, model_config=config, state_dict=state)


@pytest.fixture(scope="module")
def clipcap(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("full")
    config = write_gpt2(place / "gpt2", vocab_size=50257, n_embd=768, n_layer=12, n_head=12, n_positions=1024)
    write_clipcap(place / "coco_weights.pt", config, dim=512, prefix_length=10)
    return place / "coco_weights.pt", place / "gpt2"


def test_pictures_to_captions(backbone_directory: Path, clipcap: tuple[Path, Path]) -> None:
    backbone = make_backbone(BackboneConfig(name="clip", model=f"local-dir:{backbone_directory}"))
    assert backbone.dim == 512
    checkpoint, gpt2 = clipcap
    stated = CaptionConfig(
        model=f"clipcap:{checkpoint}", language_model=str(gpt2), trained_for=backbone.fingerprint, max_tokens=8
    )
    captioner = make_captioner(stated)
    captioner.check_backbone(backbone)
    backbone.load("cpu")
    embeddings = backbone.embed_images(torch.stack([backbone.preprocess(picture(seed)) for seed in range(3)]))
    assert embeddings.shape == (3, 512)
    assert backbone.embed_texts(["a photo of a dog"]).shape == (1, 512)
    captions = captioner.load("cpu").captions(embeddings)
    assert [len(beams) for beams in captions] == [5, 5, 5]
    assert all(beam.logprob < 0 for beams in captions for beam in beams)


def test_the_published_checkpoint_decodes_as_published(clipcap: tuple[Path, Path]) -> None:
    checkpoint, gpt2 = clipcap
    captioner = PrefixCaptioner(f"clipcap:{checkpoint}", language_model=str(gpt2), max_tokens=5).load("cpu")
    assert (captioner.dim, captioner.trained_for) == (512, PUBLISHED_BACKBONE)
    network = captioner._network
    assert network is not None
    embedding = torch.randn(3, 512) * 2
    found = captioner.decode(embedding, ["one", "two", "three"])
    for voxel, row in enumerate(embedding):
        reference = generate_beam(network.gpt, network.prefix(row[None]), token_of(gpt2, "."), entry_length=5)
        tokens = [beam[:length].tolist() for beam, length in zip(found.token_VML[voxel], found.length_VM[voxel], strict=True)]
        assert tokens == reference.tokens or reference.margin < 1e-5
