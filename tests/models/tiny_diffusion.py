"""Diffusion models of their real classes with random weights, small enough for a test, as directories."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SIDE = 32
"""Pixels of its pictures; latents have a quarter of that."""
CONTEXT = 24
"""Tokens it reads; a token is a letter."""
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
"""Stable Diffusion's noise schedule."""


def letters() -> CLIPTokenizer:
    """CLIP's tokenizer without merges."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=CONTEXT)


def text_settings(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, projection_dim=32,
    )  # fmt: skip


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(text_settings(tokenizer))


def autoencoder(**settings: object) -> AutoencoderKL:
    return AutoencoderKL(
        3, 3, ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3, (8, 8, 16),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=SIDE, **settings,
    )  # fmt: skip


def tiny_pipeline(seed: int = 0, prediction: str = "epsilon") -> StableDiffusionPipeline:
    """Random networks; the text reaches the picture strongly enough for another prompt to show."""
    torch.manual_seed(seed)
    tokenizer = letters()
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=text_encoder(tokenizer), tokenizer=tokenizer, unet=unet,
        scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, prediction_type=prediction),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def write_diffusion(out: Path, seed: int = 0, prediction: str = "epsilon") -> Path:
    """Write it as `from_pretrained` reads it; `prediction` is epsilon or v_prediction."""
    tiny_pipeline(seed, prediction).save_pretrained(out, safe_serialization=True)
    return out


def write_xl(out: Path, **latents: object) -> Path:
    """Stable Diffusion XL: two text encoders, the size of the picture as a condition, zeros for the null prompt."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, attention_head_dim=(2, 4), norm_num_groups=8, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=autoencoder(**latents), text_encoder=text_encoder(letters()), tokenizer=letters(), tokenizer_2=letters(),
        text_encoder_2=CLIPTextModelWithProjection(text_settings(letters())), unet=unet,
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1), add_watermarker=False,
    ).save_pretrained(out, safe_serialization=True)  # fmt: skip
    return out


def write_flux(out: Path) -> Path:
    """A transformer trained by flow matching, with CLIP's and T5's text encoder. Its T5 reads 512 tokens."""
    torch.manual_seed(0)
    alphabet = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    t5 = T5Tokenizer(vocab=[*alphabet, *((letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz")], extra_ids=0)
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    reader = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(shift_factor=0.1), transformer=transformer,
        text_encoder=text_encoder(letters()), tokenizer=letters(), text_encoder_2=reader, tokenizer_2=t5,
    ).save_pretrained(out, safe_serialization=True)  # fmt: skip
    return out
