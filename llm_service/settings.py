"""Settings of the language-model service."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from mesh.secrets import read_secret
from mesh.settings import ServerSettings


def _read_object(value: object) -> object:
    """Returns JSON text as the object it says."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _read_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _openai_key() -> SecretStr | None:
    return read_secret("OPENAI_API_KEY")


def _openai_url() -> str:
    return os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"


JsonObject = Annotated[dict[str, Any], NoDecode, BeforeValidator(_read_object)]


class CommonSettings(ServerSettings):
    """What more than one engine takes."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_LLM_")

    port: int = Field(50053, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field(
        "llama_cpp", description="Engine to use, by the name of its entry point: llama_cpp, openai or vllm."
    )
    model: Annotated[str | None, BeforeValidator(_read_text)] = Field(
        None,
        description="llama_cpp: path of a GGUF file with a chat template. vllm: hub id or folder. openai: what the "
        "server calls it. Unset: SmolLM2-135M-Instruct with llama_cpp; the server's only model with openai.",
    )
    idle_timeout: float = Field(
        600.0,
        gt=0,
        le=86400,
        description="A call ends after this many seconds in which nothing was asked and nothing answered.",
    )
    slots: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Answers that are written at once. Unset: 4 with llama_cpp, 32 with openai, --max-num-seqs with "
        "vllm.",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description="Sampling temperature for requests that set none. Unset: 0.2 with llama_cpp, else the model's own.",
    )
    max_output_tokens: int | None = Field(
        None,
        ge=1,
        description="Limit of an answer's tokens for requests that set none. Unset: 512 with llama_cpp, else the "
        "model's own.",
    )


class LlamaCppSettings(CommonSettings):
    """What the llama.cpp engine takes."""

    context_tokens: int = Field(2048, ge=128, le=1 << 20, description="llama_cpp: tokens of context for each slot.")
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="llama_cpp: threads of computation. More than one only on cores that nothing else uses.",
    )
    repeat_penalty: float = Field(
        1.05,
        ge=1,
        le=2,
        description="llama_cpp: penalty on tokens that were just used; keeps small models out of loops. 1 is off.",
    )


class OpenAiSettings(CommonSettings):
    """What the engine for OpenAI-compatible servers takes."""

    base_url: str = Field(
        default_factory=_openai_url,
        description="openai: URL of the server's API, as http://127.0.0.1:11434/v1. Unset: OPENAI_BASE_URL, or OpenAI.",
    )
    api_key: SecretStr | None = Field(
        default_factory=_openai_key,
        description="openai: key of the server. Unset: OPENAI_API_KEY, or its _FILE.",
    )
    connect_seconds: float = Field(5.0, gt=0, description="openai: longest time to connect.")
    first_token_seconds: float = Field(
        30.0, gt=0, description="openai: longest time from a request to the first token of its answer."
    )
    token_seconds: float = Field(15.0, gt=0, description="openai: longest time between tokens.")
    retries: int = Field(
        2, ge=0, le=10, description="openai: attempts to make again when the server fails before the first token."
    )
    send_prefix: bool = Field(
        False,
        description="openai: send the prompt ahead, while the user still speaks, for one token that is thrown away. "
        "Worth it with a server of your own that caches prompts; each costs a request.",
    )
    extra_body: JsonObject = Field(
        default_factory=dict,
        description='openai: JSON object that every request carries besides, as {"reasoning_effort": "none"}.',
    )


class VllmSettings(CommonSettings):
    """What the vLLM engine takes, under vLLM's own names."""

    max_model_len: int | None = Field(None, ge=1, description="vllm: tokens of context. Unset: the model's.")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1, description="vllm: share of the GPU's memory.")
    dtype: str | None = Field(None, description="vllm: type of weights and activations, as bfloat16.")
    quantization: str | None = Field(None, description="vllm: method the weights are quantised with, as awq.")
    tensor_parallel_size: int | None = Field(None, ge=1, description="vllm: GPUs that share the model.")
    enforce_eager: bool | None = Field(None, description="vllm: no compilation: starts sooner, answers slower.")
    max_num_seqs: int | None = Field(None, ge=1, description="vllm: answers that are written at once.")
    tool_call_parser: str | None = Field(
        None, description="vllm: how the model writes calls of functions, as hermes. Unset: it calls none."
    )
    reasoning_parser: str | None = Field(
        None, description="vllm: how the model writes its reasoning, as qwen3. Unset: between <think> and </think>."
    )
    engine_args: JsonObject = Field(
        default_factory=dict, description='vllm: its other arguments, as JSON: {"kv_cache_dtype": "fp8"}.'
    )


class LlmSettings(LlamaCppSettings, OpenAiSettings, VllmSettings):
    """Serves a language model until Ctrl-C; the help of a flag that one engine alone has begins with its name."""
