"""Complete video pipelines with tiny random weights, written as their authors publish them: by ``save_pretrained``.

Each is some hundred kilobytes, loads offline, encodes prompts with a tokenizer trained here, samples, and has the
layout, strides and normalisation of the real one. Normalisation constants are away from 0 and 1: leaving one out shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

#: what every tiny pipeline takes in little time: a size all strides divide, and 9 frames, which 4n+1 and 8n+1 both are.
CLIP = {"frames": 9, "height": 64, "width": 64, "fps": 8.0}

_TEXT = [
    "a red ball rolls to the left over a wooden table",
    "a striped blue disc spins slowly in front of a brick wall",
    "two green squares bounce and fall on grass, still camera",
    "the camera pans over a static scene",
]


def tokenizer(length: int) -> Any:
    """A Unigram tokenizer of T5's kind, trained on a few sentences."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        _TEXT, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", made.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def word_tokenizer(length: int, text: str) -> Any:
    """A tokenizer of whole words, so that HunyuanVideo's long template leaves room for a caption."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        [text, *_TEXT], trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>"], show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", model_max_length=length)


def _t5(kind: str) -> Any:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=160,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        is_gated_act=True,
        decoder_start_token_id=0,
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def wan(folder: Path, *, experts: bool = False, per_token: bool = False) -> Path:
    """WanPipeline: 2.1, 2.2 with two experts, or 2.2-TI2V with a time for every token and 16 pixels to a cell."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    torch.manual_seed(1)
    channels = 4
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.5, 0.7, 2.0, 1.1]
    more = {"patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16} if per_token else {}
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=mean, latents_std=std, **more
    )

    def network() -> Any:
        return WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels,
            out_channels=channels, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=2, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
        )  # fmt: skip

    pipeline = WanPipeline(
        tokenizer=tokenizer(64), text_encoder=_t5("UMT5"), vae=vae, transformer=network(),
        transformer_2=network() if experts else None, boundary_ratio=0.875 if experts else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), expand_timesteps=per_token,
    )  # fmt: skip
    return _saved(pipeline, folder)


def ltx(folder: Path) -> Path:
    """LTXPipeline: packed tokens, 8x32x32."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    torch.manual_seed(2)
    vae = AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), scaling_factor=1.3,
    )  # fmt: skip
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.5, 0.7, 2.0, 1.1]))
    transformer = LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=2, caption_channels=16,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    pipeline = LTXPipeline(
        scheduler=scheduler, vae=vae, text_encoder=_t5("T5"), tokenizer=tokenizer(128), transformer=transformer
    )
    return _saved(pipeline, folder)


def cogvideox(folder: Path, *, pairs: bool = False) -> Path:
    """CogVideoXPipeline: frames before channels, v-prediction; with ``pairs`` as 1.5, two latent frames to a token."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDPMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    torch.manual_seed(3)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4, scaling_factor=0.7,
    )  # fmt: skip
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=2, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=226,
        use_rotary_positional_embeddings=True, patch_size_t=2 if pairs else None,
        patch_bias=not pairs,
    )  # fmt: skip
    scheduler = CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0, beta_schedule="scaled_linear"
    )
    pipeline = CogVideoXPipeline(
        tokenizer=tokenizer(226), text_encoder=_t5("T5"), vae=vae, transformer=transformer, scheduler=scheduler
    )
    return _saved(pipeline, folder)


def hunyuan(folder: Path) -> Path:
    """HunyuanVideoPipeline: two text encoders, a guidance value."""
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    torch.manual_seed(4)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, scaling_factor=0.6
    )
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=16, pooled_projection_dim=16, rope_axes_dim=(4, 4, 4),
    )  # fmt: skip
    llama = LlamaConfig(
        vocab_size=160, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2, pad_token_id=0
    )
    clip = CLIPTextConfig(
        vocab_size=160, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    pipeline = HunyuanVideoPipeline(
        text_encoder=LlamaModel(llama), tokenizer=word_tokenizer(351, DEFAULT_PROMPT_TEMPLATE["template"]),
        transformer=transformer, vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=CLIPTextModel(clip),
        tokenizer_2=tokenizer(77),
    )  # fmt: skip
    return _saved(pipeline, folder)


def _saved(pipeline: Any, folder: Path) -> Path:
    """Every parameter moved away from its initial value, so that none gives a zero gradient by its initialisation."""
    generator = torch.Generator().manual_seed(7)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            with torch.no_grad():
                for parameter in part.parameters():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    pipeline.save_pretrained(folder)
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {"wan": wan, "ltx": ltx, "cogvideox": cogvideox, "hunyuanvideo": hunyuan}


def edit_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
