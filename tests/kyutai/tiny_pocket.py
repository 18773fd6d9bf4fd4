"""A tiny Pocket TTS with random weights, laid out so that the production loader loads it offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentencepiece
import torch
import yaml
from pocket_tts import TTSModel, export_model_state
from safetensors.torch import save_file

from tests.kyutai import tiny


def make_pocket(root: Path, *, seed: int = 0, voices: tuple[str, ...] = ("alice", "bob")) -> Path:
    """Writes config.yaml, weights and a folder `voices`, a voice of audio among them; returns the folder."""
    tiny._write_tokenizer(root)
    vocabulary = sentencepiece.SentencePieceProcessor(str(root / "tokenizer.model")).vocab_size()
    config = _config(vocabulary)
    with_tokenizer = {**config, "flow_lm": {**config["flow_lm"]}}
    with_tokenizer["flow_lm"]["lookup_table"] = {
        **config["flow_lm"]["lookup_table"],
        "tokenizer_path": str(root / "tokenizer.model"),
    }
    scratch = root / "scratch.yaml"
    scratch.write_text(yaml.safe_dump(with_tokenizer))
    torch.manual_seed(seed)
    model = TTSModel.load_model(config=scratch)
    scratch.unlink()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.1)
        model.flow_lm.speaker_proj_weight.normal_(std=0.1)
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, root / "model.safetensors"
    )
    config["weights_path"] = "model.safetensors"
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    (root / "voices").mkdir()
    for index, voice in enumerate(voices):
        prompt = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(index)) * 0.1
        export_model_state(model.get_state_for_audio_prompt(prompt), root / "voices" / f"{voice}.safetensors")
    return root


def _config(vocabulary: int) -> dict[str, Any]:
    return {
        "weights_path": None,
        "flow_lm": {
            "insert_bos_before_voice": True,
            "dtype": "float32",
            "flow": {"depth": 1, "dim": 16},
            "transformer": {"d_model": 32, "hidden_scale": 2, "max_period": 10000, "num_heads": 2, "num_layers": 2},
            "lookup_table": {
                "dim": 32,
                "n_bins": vocabulary,
                "tokenizer": "sentencepiece",
                "tokenizer_path": "tokenizer.model",
            },
        },
        "mimi": {
            "dtype": "float32",
            "sample_rate": 24000,
            "inner_dim": 8,
            "outer_dim": 16,
            "channels": 1,
            "frame_rate": 12.5,
            "seanet": {
                "dimension": 16,
                "channels": 1,
                "n_filters": 2,
                "n_residual_layers": 1,
                "ratios": [6, 5, 4],
                "kernel_size": 7,
                "residual_kernel_size": 3,
                "last_kernel_size": 3,
                "dilation_base": 2,
                "pad_mode": "constant",
                "compress": 2,
            },
            "transformer": {
                "d_model": 16,
                "num_heads": 2,
                "num_layers": 1,
                "layer_scale": 0.01,
                "context": 25,
                "dim_feedforward": 32,
                "input_dimension": 16,
                "output_dimensions": [16],
            },
            "quantizer": {"dimension": 8, "output_dimension": 16},
        },
    }
