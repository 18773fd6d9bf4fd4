"""From a checkpoint to a warm runner."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh.errors import FailedPreconditionError, InvalidArgumentError
from mesh.kyutai import Checkpoint, Footprint, Hub, Runtime, check_memory, explain_memory, state_bytes
from mesh.kyutai.memory import weight_bytes
from tts_service.engines.kyutai.row import FRAME, RATE, Traits
from tts_service.engines.kyutai.runner import Runner
from tts_service.engines.kyutai.voices import KyutaiVoice, VoiceBook, check_speakers

log = logging.getLogger(__name__)

TEMPERATURE = 0.6
MAX_CODEBOOKS = 32
MAX_SPEAKERS = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the flags ask for."""

    batch_size: int
    n_q: int
    """0: all."""
    cfg: float
    voices: str
    """A folder or a repository."""
    voice: str
    """The default voice; empty: any."""
    languages: Sequence[str]
    temperature: float = TEMPERATURE


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve."""

    runner: Runner
    traits: Traits
    footprint: Footprint
    voices: Sequence[KyutaiVoice]
    """The default first."""
    book: VoiceBook
    conditions: Conditions


class Conditions:
    """Makes what a row is conditioned on; reads no files, and may be used from any thread."""

    def __init__(self, model: Any, cfg: float, frames: int) -> None:
        """`frames` is the length of an embedding, the same for all of a server's voices."""
        self._speakers = int(model.max_speakers)
        self._frames = frames
        self._cfgs = sorted(model.valid_cfg_conditionings)
        self._cfg = self._check(cfg) if self._cfgs else None

    def make(self, voice: KyutaiVoice, embeddings: Sequence[Any]) -> Any:
        """Returns moshi's `ConditionAttributes` for a voice.

        Raises:
            FailedPreconditionError: an embedding has another shape than those of the other voices.
            InvalidArgumentError: its cfg is none that the model has learnt.
        """
        import torch
        from moshi.conditioners import ConditionAttributes, TensorCondition

        channels, frames = embeddings[0].shape[1:]
        if any(embedding.shape[1:] != (channels, self._frames) for embedding in embeddings):
            raise FailedPreconditionError(
                f"the voice {voice.voice.id} has {frames} frames, and the default voice {self._frames}",
                reason="WRONG_VOICE",
            )
        tensor = torch.zeros(1, self._speakers, frames, channels)
        mask = torch.zeros(1, self._speakers, frames, dtype=torch.bool)
        for index, embedding in enumerate(embeddings):
            tensor[:, index] = embedding.transpose(1, 2)
            mask[:, index] = True
        cfg = self._cfg if voice.cfg is None or not self._cfgs else self._check(voice.cfg)
        return ConditionAttributes(
            text={"control": "ok", "cfg": None if cfg is None else format(cfg, ".1f")},
            tensor={"speaker_wavs": TensorCondition(tensor.view(1, -1, channels), mask.view(1, -1))},
        )

    def _check(self, cfg: float) -> float:
        if cfg not in self._cfgs:
            known = ", ".join(f"{value:g}" for value in self._cfgs)
            raise InvalidArgumentError("--cfg", f"this model has learnt {known}, and not {cfg:g}")
        return cfg


def load(checkpoint: Checkpoint, runtime: Runtime, wanted: Wanted, hub: Hub | None = None) -> Loaded:
    """Loads, checks, allocates and warms the model; blocks for as long as that takes.

    Raises:
        MeshError: the files do not fit together, a voice is missing, a flag does not suit the model, or the memory
            does not suffice.
    """
    n_q = _choose_codebooks(checkpoint, wanted.n_q)
    identity = _identity(checkpoint)
    # Before the large files are read: whoever mistypes a voice learns it at once.
    book = VoiceBook(wanted.voices, f".{identity}.safetensors", wanted.languages, hub)
    voices = book.find(wanted.voice)
    for voice in voices:
        check_speakers(voice, MAX_SPEAKERS)
    embeddings = book.embeddings(voices[0])
    with explain_memory(runtime, wanted.batch_size):
        model = load_model(checkpoint, runtime, n_q)
    conditions = Conditions(model, wanted.cfg, embeddings[0].shape[2])
    default = conditions.make(voices[0], embeddings)
    footprint = measure(model, default, wanted.temperature)
    memory = runtime.memory()
    if memory is not None:
        check_memory(footprint, wanted.batch_size, *memory)
    with explain_memory(runtime, wanted.batch_size, footprint.per_slot):
        runner = Runner(model, default, batch_size=wanted.batch_size, temperature=wanted.temperature)
        runner.warm_up()
    log.info(
        "%s is warm: %d utterances on %s with %d codebooks, %.0f MB of weights, %.1f MB an utterance, %d voices",
        checkpoint.name, wanted.batch_size, runtime.device, n_q, footprint.weights / 1e6, footprint.per_slot / 1e6,
        len(voices),
    )  # fmt: skip
    return Loaded(runner, traits_of(model), footprint, voices, book, conditions)


def load_model(checkpoint: Checkpoint, runtime: Runtime, n_q: int) -> Any:
    """Returns moshi's `TTSModel`, with a codec that only decodes.

    Raises:
        FailedPreconditionError: the files do not fit together, or make a model of a kind that is not served.
    """
    import torch
    from moshi.models.tts import TTSModel

    try:
        model = TTSModel.from_checkpoint_info(
            checkpoint.info(), n_q=n_q, temp=TEMPERATURE, cfg_coef=1.0, device=runtime.device, dtype=runtime.dtype
        )
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError, AssertionError, OSError) as error:
        first = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
        raise _wrong(
            checkpoint, f"it and the files beside it do not make a model: {type(error).__name__}: {first}"
        ) from error
    _check(checkpoint, model)
    # Nothing is encoded here: it would cost every utterance some memory.
    model.mimi.encoder_transformer = None
    return model


def traits_of(model: Any) -> Traits:
    """Returns what rows must know of a `TTSModel`."""
    from moshi.models.tts import Entry

    tokenizer = model.tokenizer
    return Traits(
        machine=model.machine,
        make_entry=lambda tokens, padding: Entry(tokens=tokens, text="", padding=padding),
        encode=lambda word: [int(token) for token in tokenizer.encode(word)],
        delay=model.delay_steps,
        acoustic_delay=max(model.lm.delays),
        ahead=model.machine.second_stream_ahead,
        final_padding=model.final_padding,
        multi_speaker=model.multi_speaker,
    )


def measure(model: Any, conditions: Any, temperature: float) -> Footprint:
    """Returns what the weights and one utterance take."""
    # Without a step: what is compiled for one row would have to be compiled again, and worse, for more.
    runner = Runner(model, conditions, batch_size=1, temperature=temperature)
    try:
        per_slot = state_bytes(model.mimi, runner.generator) + runner.generator.voice_bytes
    finally:
        runner.close()
    return Footprint(weight_bytes(model.mimi, model.lm), per_slot)


def _choose_codebooks(checkpoint: Checkpoint, wanted: int) -> int:
    most = int(checkpoint.config["n_q"])
    if wanted > most:
        raise InvalidArgumentError("--n-q", f"{checkpoint.name} has {most} codebooks, and not {wanted}")
    return wanted or min(most, MAX_CODEBOOKS)


def _identity(checkpoint: Checkpoint) -> str:
    identity = checkpoint.config.get("model_id")
    if not isinstance(identity, dict) or not {"sig", "epoch"} <= set(identity):
        raise _wrong(checkpoint, "it lacks model_id with sig and epoch, after which its voices are called")
    return f"{identity['sig']}@{identity['epoch']}"


def _check(checkpoint: Checkpoint, model: Any) -> None:
    if model.multistream:
        raise _wrong(checkpoint, "the model speaks with two voices at once, each in codebooks of its own")
    if not model.multi_speaker:
        raise _wrong(checkpoint, "the model takes its voice from audio in front of the text, and not from an embedding")
    if model.mimi.sample_rate != RATE or model.mimi.frame_size != FRAME:
        raise _wrong(checkpoint, f"the codec has frames of {model.mimi.frame_size} at {model.mimi.sample_rate} Hz")
    if model.tokenizer.vocab_size() > model.lm.text_card:
        raise _wrong(
            checkpoint,
            f"the tokenizer has {model.tokenizer.vocab_size()} entries, and the language model {model.lm.text_card}",
        )


def _wrong(checkpoint: Checkpoint, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"{checkpoint.config_path}: {why}", reason="WRONG_CONFIG")
