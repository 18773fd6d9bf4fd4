"""Tiny checkpoints with random weights, laid out as Kyutai's are, so that the production loader loads them offline."""

from __future__ import annotations

import copy
import functools
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# moshi reads it when it is imported.
os.environ.setdefault("NO_TORCH_COMPILE", "1")

import sentencepiece
import torch
from moshi.models import loaders
from safetensors.torch import save_file

PAD, EPAD = 3, 0
BINS = 32
"""Entries of a codebook."""
TEXT = (
    "hello world how are you today I am fine thank you this is a tiny test of the speech mesh "
    "bonjour le monde comment allez vous je vais bien merci un deux trois quatre cinq"
)
WORDS = TEXT.split()
_LANGUAGE_MODEL: dict[str, Any] = {
    "card": BINS,
    "dim": 32,
    "existing_text_padding_id": PAD,
    "num_heads": 2,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 16,
    "depformer_num_heads": 2,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "depformer_gating": "silu",
    "depformer_max_period": 10000,
    "depformer_layer_scale": None,
}
_FILES: dict[str, Any] = {
    "mimi_name": "mimi.safetensors",
    "mimi_config_name": "mimi_config.json",
    "tokenizer_name": "tokenizer.model",
    "moshi_name": "model.safetensors",
    "model_id": {"sig": "tiny0000", "epoch": 1},
}
_NOT_FOR_THE_MODEL = (*_FILES, "model_type", "lm_gen_config", "tts_config", "stt_config")


def make_stt(
    root: Path, *, seed: int = 1, delay: float = 0.5, prefix: float = 0.0, heads: int = 4, **config: Any
) -> Path:
    """Writes a speech-to-text checkpoint that mixes words, PAD and EPAD as a real one does; returns its folder."""
    vocabulary = _write_tokenizer(root)
    full = stt_config(vocabulary, delay=delay, prefix=prefix, heads=heads) | config
    torch.manual_seed(seed)
    model = loaders.get_moshi_lm(None, model_arguments(full), dtype=torch.float32)
    with torch.no_grad():
        for embedding in (*model.emb, model.text_emb):
            embedding.weight.mul_(6.0)
        model.text_linear.weight.mul_(3.0)
        model.text_linear.bias[PAD] = 3.0
        model.text_linear.bias[EPAD] = 2.4
    return save(root, full, model)


HEARD = {27: "hello", 11: "bonjour"}
"""Codes that `build_mimi(seed=2)` gives to a tone of 200 Hz and to one of 3000 Hz, and to no silence; their words."""


def make_listener(root: Path, *, delay: float = 0.5, heads: int = 4) -> Path:
    """Writes a speech-to-text checkpoint that says a word every 3 steps of a tone, and knows silence as a pause.

    Its language model is a hand-made table of the token before and of the sound's first code: boundary, word, nothing.
    """
    vocabulary = _write_tokenizer(root)
    config = stt_config(vocabulary, delay=delay, heads=heads)
    model = loaders.get_moshi_lm(None, model_arguments(config), dtype=torch.float32)
    tokenizer = sentencepiece.SentencePieceProcessor(str(root / "tokenizer.model"))
    words = {code: tokenizer.piece_to_id(f"\u2581{word}") for code, word in HEARD.items()}
    quiet, after_other, after_boundary, after_word = 0, 29, 30, 31
    with torch.no_grad():
        # Layers that add nothing: what comes in goes out.
        for name, parameter in model.named_parameters():
            if "alpha" not in name:
                parameter.zero_()
        model.emb[0].weight[:BINS, quiet] = 1.0
        model.text_emb.weight[:, after_other] = 1.0
        _move(model.text_emb.weight, EPAD, after_other, after_boundary)
        model.text_linear.bias[PAD] = 3.0
        model.text_linear.weight[EPAD, after_other] = 0.5
        for place, (code, token) in enumerate(words.items(), start=1):
            _move(model.emb[0].weight, code, quiet, place)
            _move(model.text_emb.weight, token, after_other, after_word)
            model.text_linear.weight[EPAD, place] = 0.5
            model.text_linear.weight[token, place] = 0.5
            model.text_linear.weight[token, after_boundary] = 0.5
        for head in model.extra_heads:
            head.weight[0] = -1.0
            head.weight[0, quiet] = 1.0
            head.weight[0, after_other:] = 0.0
    return save(root, config, model, mimi=build_mimi(seed=2))


def _move(table: Any, row: int, source: int, target: int) -> None:
    table[row, source] = 0.0
    table[row, target] = 1.0


def make_tts(
    root: Path, *, seed: int = 2, n_q: int = 8, voices: tuple[str, ...] = ("alice.wav", "bob.wav"), **config: Any
) -> Path:
    """Writes a text-to-speech checkpoint and a folder `voices` with embeddings; returns its folder."""
    vocabulary = _write_tokenizer(root)
    full = tts_config(vocabulary, n_q=n_q) | config
    torch.manual_seed(seed)
    model = loaders.get_moshi_lm(None, model_arguments(full), dtype=torch.float32)
    with torch.no_grad():
        for embedding in (*model.emb, model.text_emb):
            embedding.weight.mul_(4.0)
    save(root, full, model, n_q=n_q)
    folder = root / "voices"
    folder.mkdir(exist_ok=True)
    for index, voice in enumerate(voices):
        generator = torch.Generator().manual_seed(100 + index)
        wavs = torch.randn(1, 16, 5, generator=generator)
        signature = full["model_id"]
        path = folder / f"{voice}.{signature['sig']}@{signature['epoch']}.safetensors"
        save_file({"speaker_wavs": wavs}, path)
    return root


def stt_config(
    vocabulary: int, *, n_q: int = 8, heads: int = 4, delay: float = 0.5, prefix: float = 0.0
) -> dict[str, Any]:
    """Returns the config.json of a speech-to-text model."""
    return {
        **_LANGUAGE_MODEL,
        **_FILES,
        "model_type": "stt",
        "n_q": n_q,
        "dep_q": 0,
        "delays": [0] * (n_q + 1),
        "text_card": vocabulary,
        "context": 12,
        "max_period": 100000,
        "depformer_num_layers": 1,
        "depformer_context": 8,
        "cross_attention": False,
        "conditioners": {},
        "fuser": None,
        "extra_heads_num_heads": heads,
        "extra_heads_dim": 6,
        "bias_proj": True,
        "lm_gen_config": {"temp": 0.0, "temp_text": 0.0, "top_k": 250, "top_k_text": 50},
        "stt_config": {"audio_delay_seconds": delay, "audio_silence_prefix_seconds": prefix},
    }


def tts_config(vocabulary: int, *, n_q: int = 8, delay: float = 0.32, multistream: bool = False) -> dict[str, Any]:
    """Returns the config.json of a text-to-speech model."""
    tables = {
        "cfg": [str(value / 2) for value in range(2, 9)],
        "control": ["ok"],
    }
    conditioners: dict[str, Any] = {
        name: {"type": "lut", "lut": {"n_bins": len(values), "dim": 8, "tokenizer": "noop", "possible_values": values}}
        for name, values in tables.items()
    }
    conditioners["speaker_wavs"] = {"type": "tensor", "tensor": {"dim": 16}}
    return {
        **_LANGUAGE_MODEL,
        **_FILES,
        "model_type": "tts",
        "n_q": n_q,
        "dep_q": n_q,
        "delays": [0, 0] + [2] * (n_q - 1),
        "text_card": vocabulary,
        "context": 20,
        "max_period": 10000,
        "depformer_dim_feedforward": 64,
        "depformer_num_layers": 2,
        "depformer_weights_per_step_schedule": [0, 1] + [2] * (n_q - 2),
        "depformer_low_rank_embeddings": 8,
        "cross_attention": True,
        "demux_second_stream": True,
        "conditioners": conditioners,
        "fuser": {
            "sum": ["control", "cfg"],
            "cross": ["speaker_wavs"],
            "prepend": [],
            "cross_attention_pos_emb": True,
            "cross_attention_pos_emb_scale": 1.0,
        },
        "tts_config": {"audio_delay": delay, "second_stream_ahead": 2, "multistream": multistream},
        "lm_gen_config": {"temp": 0.6, "temp_text": 0.6, "top_k": 250, "top_k_text": 50},
    }


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what moshi's `LMModel` takes of a config.json."""
    return {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in _NOT_FOR_THE_MODEL}


def save(root: Path, config: Mapping[str, Any], model: Any, *, n_q: int = 8, mimi: Any = None) -> Path:
    """Writes the files of a checkpoint; config.json names the others by their bare names, as on the hub."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "mimi_config.json").write_text(json.dumps(mimi_config(n_q)))
    _save_weights(mimi or build_mimi(n_q), root / "mimi.safetensors")
    _save_weights(model, root / "model.safetensors")
    (root / "config.json").write_text(json.dumps(config, indent=1))
    return root


def mimi_config(n_q: int = 8, *, dim: int = 16, context: int = 8) -> dict[str, Any]:
    """Returns a codec of 1920 samples a frame, as the real one, with hardly any weights."""
    config: dict[str, Any] = copy.deepcopy(loaders._mimi_config)
    config["seanet"].update(dimension=dim, n_filters=2)
    config["quantizer"].update(dimension=8, n_q=n_q, bins=BINS, input_dimension=dim, output_dimension=dim)
    config["transformer"].update(
        d_model=dim,
        num_heads=2,
        num_layers=2,
        dim_feedforward=32,
        context=context,
        layer_scale=1.0,
        input_dimension=dim,
        output_dimensions=[dim],
    )
    return config


def build_mimi(n_q: int = 8, *, seed: int = 0) -> Any:
    """Returns a codec with random weights whose codes differ from frame to frame."""
    torch.manual_seed(seed)
    mimi = loaders.get_mimi(None, mimi_config(n_q), num_codebooks=n_q)
    with torch.no_grad():
        # Codebooks start as zeros.
        for name, buffer in mimi.named_buffers():
            if name.endswith("embedding_sum"):
                buffer.copy_(torch.randn_like(buffer) * 0.3)
            elif name.endswith("_initialized"):
                buffer.fill_(1.0)
        # Random weights die out through so many convolutions.
        for parameter in mimi.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.7)
        # Keeps the output inside [-1, 1].
        mimi.decoder.model[-1].conv.conv.weight.mul_(0.02)
    return mimi


def _save_weights(module: Any, path: Path) -> None:
    save_file({name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}, path)


def _write_tokenizer(root: Path) -> int:
    """Writes tokenizer.model and returns the size of its vocabulary."""
    root.mkdir(parents=True, exist_ok=True)
    model = _train_tokenizer()
    (root / "tokenizer.model").write_bytes(model)
    return int(sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size())


@functools.cache
def _train_tokenizer() -> bytes:
    """Trains a tokenizer with the ids of Kyutai's: 0 unknown, 1 begin, 2 end, 3 padding."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[index:] + WORDS[:index]) for index in range(len(WORDS))]),
        model_writer=out,
        vocab_size=128,
        model_type="unigram",
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=PAD,
        character_coverage=1.0,
        minloglevel=2,
    )
    return out.getvalue()
