"""The phantom's diffusion model: a small Stable Diffusion's networks, its text encoder, and the directory they are kept in.

Pictures are 64 px scenes, latents 8 x 8 x 8. The text encoder is the phantom backbone's own text tower as transformers'
`CLIPTextModel`: the same weights under other names, so that `DiffusionPipeline.from_pretrained` loads the directory.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from scuba_ray.models.clip_export import END, PAD, START
from scuba_ray.models.files import packaged
from scuba_ray.phantom.clip_scores import CONTEXT

LATENT = 8


def new_autoencoder() -> AutoencoderKL:
    """64 px pictures to 8 x 8 x 8 latents and back, 1.6 M weights."""
    return AutoencoderKL(
        3, 3, ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4, (24, 40, 64, 88),
        layers_per_block=1, latent_channels=LATENT, norm_num_groups=8, sample_size=64,
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    """Text-conditional UNet on 8 x 8 and 4 x 4, with cross-attention to the text at every depth."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=LATENT, out_channels=LATENT, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def text_encoder_of(backbone_name: str) -> CLIPTextModel:
    """The text tower of a phantom backbone as transformers' own class: the same weights, other names."""
    stored = load_file(packaged(backbone_name) / "open_clip_model.safetensors")
    source = {name: tensor.float() for name, tensor in stored.items()}
    width = source["token_embedding.weight"].shape[1]
    layers = len({name.split(".")[2] for name in source if name.startswith("transformer.resblocks.")})
    vocabulary = source["token_embedding.weight"].shape[0]
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=width // 32, max_position_embeddings=CONTEXT, hidden_act="gelu",
            pad_token_id=0, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        )
    )  # fmt: skip
    named = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    renamed = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    renamed["attn.out_proj"] = "self_attn.out_proj"
    for layer in range(layers):
        ours, theirs = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            for old, new in renamed.items():
                named[f"{theirs}{new}.{kind}"] = source[f"{ours}{old}.{kind}"]
            parts = source[f"{ours}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                named[f"{theirs}self_attn.{name}_proj.{kind}"] = part
    prefix = "text_model." if any(name.startswith("text_model.") for name in encoder.state_dict()) else ""
    missing, unknown = encoder.load_state_dict({prefix + name: value for name, value in named.items()}, strict=False)
    assert not unknown and all(name.endswith("position_ids") for name in missing), (missing, unknown)
    return encoder.eval().requires_grad_(False)


def tokenizer_of(backbone_name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a phantom backbone as transformers' own class."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(packaged(backbone_name) / "tokenizer.json"),
        model_max_length=CONTEXT,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
    )


def save(
    directory: Path, *, vae: AutoencoderKL, unet: UNet2DConditionModel, encoder: CLIPTextModel, schedule: dict[str, object]
) -> None:
    """Write a diffusers directory in half precision, with DPM-Solver++ (order 2) as its scheduler, as the paper samples."""
    for network in (vae, unet):
        network.register_to_config(_name_or_path="")  # where training went on from is nobody else's directory
    StableDiffusionPipeline(
        vae=vae.half(), text_encoder=encoder.half(), tokenizer=tokenizer_of("clip"), unet=unet.half(),
        scheduler=DPMSolverMultistepScheduler.from_config(schedule),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(directory, safe_serialization=True)  # fmt: skip
