"""Settings of a session and of a response."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from gateway.schema.base import Part, type_or

MAX_INSTRUCTIONS = 100_000
MAX_TOOLS = 128
Modality = Literal["text", "audio"]
TokenLimit = Annotated[int, Field(ge=1, le=1_000_000)] | Literal["inf"]
Text = Annotated[str, Field(max_length=MAX_INSTRUCTIONS)]
Name = Annotated[str, Field(max_length=256)]

# ---------------------------------------------------------------- audio


class Pcm(Part):
    """16-bit PCM, mono, at 24 kHz."""

    type: Literal["audio/pcm"]
    rate: Literal[24000] | None = None


class Pcmu(Part):
    """G.711 mu-law at 8 kHz."""

    type: Literal["audio/pcmu"]


class Pcma(Part):
    """G.711 A-law at 8 kHz."""

    type: Literal["audio/pcma"]


AudioFormat = Annotated[Pcm | Pcmu | Pcma, Field(discriminator="type")]


class NoiseReduction(Part):
    """A hint; the mesh has no noise reduction, and says so in the session that it shows."""

    type: Literal["near_field", "far_field"] | None = None
    strength: float | None = None


class Transcription(Part):
    """Whether transcripts are sent, and the user's language. The rest is for other models than the mesh's."""

    model: Name | None = None
    language: Name | None = None
    languages: Annotated[list[Name], Field(max_length=32)] | None = None
    prompt: Text | None = None
    keywords: Annotated[list[Name], Field(max_length=1024)] | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class ServerVad(Part):
    """The turn ends with silence."""

    type: Literal["server_vad"]
    create_response: bool | None = None
    interrupt_response: bool | None = None
    idle_timeout_ms: Annotated[int, Field(ge=0, le=3_600_000)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class SemanticVad(Part):
    """The turn ends when a model says so."""

    type: Literal["semantic_vad"]
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class AudioInput(Part):
    """The user's audio."""

    format: AudioFormat | None = None
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = None


class VoiceId(Part):
    """A voice by its id."""

    id: Name


class AudioOutput(Part):
    """The assistant's audio."""

    format: AudioFormat | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    voice: Name | VoiceId | None = None


class Audio(Part):
    """Audio of a session."""

    input: AudioInput | None = None
    output: AudioOutput | None = None


# ---------------------------------------------------------------- tools


class FunctionTool(Part):
    """A function that the client runs."""

    type: Literal["function"] = "function"
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class ToolFilter(Part):
    """Some of a server's tools."""

    tool_names: list[Name] | None = None
    read_only: bool | None = None


class ApprovalFilter(Part):
    """Which tools need approval."""

    always: ToolFilter | None = None
    never: ToolFilter | None = None


class McpTool(Part):
    """A tool server that the operator has set up, by its label."""

    type: Literal["mcp"]
    server_label: Name
    allowed_tools: list[Name] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalFilter | None = None
    server_description: Text | None = None
    allowed_callers: list[Literal["direct", "programmatic"]] | None = None
    defer_loading: bool | None = None
    # Where the server is, is the operator's to say: these are refused.
    server_url: str | None = None
    connector_id: str | None = None
    tunnel_id: str | None = None
    authorization: str | None = None
    headers: dict[str, str] | None = None


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[McpTool, Tag("mcp")], Discriminator(type_or("function"))
]
Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS)]


class FunctionChoice(Part):
    """This function must be called."""

    type: Literal["function"]
    name: Name


class McpChoice(Part):
    """Some function of this server must be called; refused."""

    type: Literal["mcp"]
    server_label: Name
    name: Name | None = None


ToolChoice = Literal["auto", "none", "required"] | Annotated[FunctionChoice | McpChoice, Field(discriminator="type")]


# ---------------------------------------------------------------- the rest


class Prompt(Part):
    """A character of the mesh, in the place of a prompt kept by the server."""

    id: Name
    variables: dict[str, Any] | None = None
    version: str | None = None


class Reasoning(Part):
    """A hint for models that reason."""

    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class Tracing(Part):
    """A hint for a dashboard that the mesh has not."""

    group_id: str | None = None
    metadata: Any = None
    workflow_name: str | None = None


class TokenLimits(Part):
    """Limits of a retention ratio."""

    post_instructions: int | None = None


class Retention(Part):
    """How much to keep when the conversation outgrows the model; a hint."""

    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


class Answering(Part):
    """How the assistant answers; of a session, or of one response."""

    instructions: Text | None = None
    max_output_tokens: TokenLimit | None = None
    output_modalities: Annotated[list[Modality], Field(min_length=1, max_length=2)] | None = None
    parallel_tool_calls: bool | None = None
    prompt: Prompt | None = None
    reasoning: Reasoning | None = None
    tool_choice: ToolChoice | None = None
    tools: Tools | None = None


class RealtimeSession(Answering):
    """Settings of a conversation."""

    type: Literal["realtime"] = "realtime"
    audio: Audio | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None
    model: Name | None = None
    tracing: Literal["auto"] | Tracing | None = None
    truncation: Literal["auto", "disabled"] | Retention | None = None


class TranscriptionAudio(Part):
    """Audio of a session that only transcribes."""

    input: AudioInput | None = None


class TranscriptionSession(Part):
    """Settings of a session that only transcribes."""

    type: Literal["transcription"]
    audio: TranscriptionAudio | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None


SessionSettings = Annotated[
    Annotated[RealtimeSession, Tag("realtime")] | Annotated[TranscriptionSession, Tag("transcription")],
    Discriminator(type_or("realtime")),
]
