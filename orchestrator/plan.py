"""What a session is to be: its settings checked, filled in, and turned into what the parts of the session need."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace

from mesh.audio import Format, read_format
from mesh.durations import to_duration, to_seconds
from mesh.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from orchestrator.characters import Character, Characters, choose_voice
from orchestrator.detection import read_detection, write_detection
from orchestrator.feeds import FeedError, Feeds
from orchestrator.prompts.base import COMPACT_CONTEXT_TOKENS, Headline, PromptContext, system_prompt
from orchestrator.prompts.news import News
from orchestrator.settings import OrchestratorSettings
from orchestrator.tools import OfferedTool, ToolBox
from orchestrator.turns.settings import Config, ToolSpec, TurnSettings
from orchestrator.upstreams import Services, ToolDefinition, Voice
from orchestrator.upstreams.contract import ToolUse
from unmute.conversation.v1 import conversation_pb2 as pb

FIELD = "session_update.session"
MAX_INSTRUCTIONS = 100_000
MAX_TOOLS = 128
DEFAULT_RATE = 24_000

_TOOL_USE = {
    pb.TOOL_CHOICE_UNSPECIFIED: ToolUse.AUTO,
    pb.TOOL_CHOICE_AUTO: ToolUse.AUTO,
    pb.TOOL_CHOICE_NONE: ToolUse.NONE,
    pb.TOOL_CHOICE_REQUIRED: ToolUse.REQUIRED,
    pb.TOOL_CHOICE_NAMED: ToolUse.NAMED,
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What all sessions share."""

    settings: OrchestratorSettings
    characters: Characters
    tools: ToolBox
    feeds: Feeds


@dataclass(frozen=True, slots=True)
class Plan:
    """A session's settings in force."""

    proto: pb.SessionConfig
    """As the client is shown them, defaults filled in."""
    services: Services
    input_format: Format
    output_format: Format
    prompt: str
    """The whole system prompt."""
    language_code: str
    """Language of the answers; may be empty."""
    stt_language_codes: tuple[str, ...]
    voice: Voice
    speaking_rate: float | None
    config: Config
    """What the core knows."""
    definitions: tuple[ToolDefinition, ...] = ()
    server_tools: dict[str, OfferedTool] = field(default_factory=dict)
    tool_use: ToolUse = ToolUse.AUTO
    tool_name: str = ""
    max_output_tokens: int | None = None

    @property
    def compact(self) -> bool:
        """The model is small."""
        return 0 < self.services.llm.context_tokens <= COMPACT_CONTEXT_TOKENS


class Planner:
    """Makes the plans of one session; a character stays as it first was all through it, random parts and news too."""

    def __init__(self, environment: Environment, services: Services, seed: int | None = None) -> None:
        self._environment = environment
        self._services = services
        self._seed = random.SystemRandom().getrandbits(64) if seed is None else seed
        self._taken: dict[str, Character] = {}
        self._headlines: dict[str, tuple[Headline, ...]] = {}

    async def first(self, config: pb.SessionConfig) -> Plan:
        """The plan for the first settings.

        Raises:
            MeshError: they cannot be served; names the field.
        """
        if not config.HasField("input_format"):
            raise InvalidArgumentError(f"{FIELD}.input_format", "is required")
        return await self._plan(config)

    async def changed(self, old: Plan, update: pb.SessionConfig) -> Plan:
        """The plan after a later update; what it leaves unset stays.

        Raises:
            MeshError: it cannot be served; names the field.
        """
        for name in ("input_format", "output_format"):
            if update.HasField(name) and getattr(update, name) != getattr(old.proto, name):
                raise InvalidArgumentError(f"{FIELD}.{name}", "is fixed by the first message")
        merged = pb.SessionConfig()
        merged.CopyFrom(old.proto)
        for repeated in ("tools", "language_codes"):
            if len(getattr(update, repeated)):
                merged.ClearField(repeated)
        if (mode := update.turn_detection.WhichOneof("mode")) is not None:
            # Of the old mode nothing stays: its threshold would win over a new eagerness.
            merged.turn_detection.ClearField(mode)
        if update.HasField("instructions") and not update.HasField("voice_id"):
            # Another character comes with its own voice.
            merged.ClearField("voice_id")
        merged.MergeFrom(update)
        plan = await self._plan(merged)
        return replace(plan, config=replace(plan.config, speaks_first=False))

    async def instructions(self, instructions: pb.Instructions, plan: Plan, field: str) -> str:
        """The whole system prompt for instructions of one response."""
        prompt, _, _ = await self._prompt(instructions, plan.proto.language_codes, field)
        return prompt

    def voice(self, voice_id: str, field: str) -> Voice:
        """The voice of that id.

        Raises:
            NotFoundError: the text-to-speech service has none.
        """
        for voice in self._services.voices:
            if voice.id == voice_id:
                return voice
        raise NotFoundError(field, f"no voice {voice_id!r}")

    async def _plan(self, config: pb.SessionConfig) -> Plan:
        settings = self._environment.settings
        input_format = read_format(config.input_format, f"{FIELD}.input_format")
        prompt, language, character = await self._prompt(
            config.instructions, config.language_codes, f"{FIELD}.instructions"
        )
        voice = self._choose_voice(config, character, language)
        if config.HasField("output_format"):
            output_format = read_format(config.output_format, f"{FIELD}.output_format")
        else:
            output_format = Format(voice.sample_rate or DEFAULT_RATE)
        turns = _turns(config, settings)
        definitions, server_tools, specs = await self._tools(config)
        use, name = _tool_choice(config, definitions)
        languages = self._languages(config, language)
        core = Config(
            turns=turns,
            language_codes=languages,
            tools=specs,
            speaks_first=character is not None and character.speaks_first,
            reports_playback=config.reports_playback,
            interim_transcripts=config.interim_transcripts,
            turn_predictions=config.turn_predictions,
        )
        return Plan(
            proto=_in_force(config, input_format, output_format, voice, turns, self._default.id),
            services=self._services,
            input_format=input_format,
            output_format=output_format,
            prompt=prompt,
            language_code=language,
            stt_language_codes=languages,
            voice=voice,
            speaking_rate=_speaking_rate(config),
            config=core,
            definitions=definitions,
            server_tools=server_tools,
            tool_use=use,
            tool_name=name,
            max_output_tokens=_max_tokens(config),
        )

    async def _prompt(
        self, instructions: pb.Instructions, languages: object, field: str
    ) -> tuple[str, str, Character | None]:
        """The system prompt, its language, and the character if it is one's."""
        compact = 0 < self._services.llm.context_tokens <= COMPACT_CONTEXT_TOKENS
        if instructions.WhichOneof("instructions") == "text":
            text = instructions.text
            if not text.strip():
                raise InvalidArgumentError(f"{field}.text", "is empty")
            if len(text) > MAX_INSTRUCTIONS:
                raise InvalidArgumentError(f"{field}.text", f"is longer than {MAX_INSTRUCTIONS} characters")
            context = PromptContext(compact=compact, language_code=instructions.language_code)
            return system_prompt(text, context), instructions.language_code, None
        if instructions.WhichOneof("instructions") == "preset":
            where = f"{field}.preset.character_id"
            character = self._character(instructions.preset.character_id, where)
        else:
            where, character = field, self._default
        self._check_language(character, where)
        language = instructions.language_code or character.language
        context = PromptContext(compact=compact, language_code=language)
        if isinstance(character.instructions, News):
            context = await self._with_news(character.instructions, context)
        draw = random.Random(f"{self._seed}/{character.id}")  # noqa: S311 - games, not secrets
        return system_prompt(character.instructions.build(draw, context), context), language, character

    async def _with_news(self, news: News, context: PromptContext) -> PromptContext:
        url = news.feed or self._environment.settings.news_feed
        if not url:
            return replace(context, news_problem="no news feed is set up here")
        try:
            if url not in self._headlines:
                self._headlines[url] = await self._environment.feeds.headlines(url)
        except FeedError as error:
            return replace(context, news_problem=error.message)
        return replace(context, headlines=self._headlines[url])

    def _character(self, character_id: str, field: str) -> Character:
        """The character as the session first took it, whatever the file says now."""
        if character_id not in self._taken:
            self._taken[character_id] = self._environment.characters.get(character_id, field)
        return self._taken[character_id]

    @property
    def _default(self) -> Character:
        if "" not in self._taken:
            default = self._environment.characters.default
            self._taken[""] = self._taken.setdefault(default.id, default)
        return self._taken[""]

    def _check_language(self, character: Character, field: str) -> None:
        language = _base(character.language)
        heard = [_base(code) for code in self._services.stt_language_codes]
        spoken = [_base(code) for voice in self._services.voices for code in voice.language_codes]
        for known, service in ((heard, "speech to text understands"), (spoken, "text to speech speaks")):
            if known and language not in known and "mul" not in known:
                languages = ", ".join(dict.fromkeys(known))
                raise FailedPreconditionError(
                    f"{field}: {character.id} speaks {language}, but {service} only {languages} here",
                    reason="INVALID_REQUEST",
                )

    def _languages(self, config: pb.SessionConfig, language: str) -> tuple[str, ...]:
        """The user's languages; those of the assistant where the user's are not set."""
        codes = tuple(config.language_codes) or ((language,) if language else ())
        known = {_base(code): None for code in self._services.stt_language_codes}
        for index, code in enumerate(codes):
            if known and _base(code) not in known and "mul" not in known:
                at = f"language_codes[{index}]" if config.language_codes else "instructions.language_code"
                raise InvalidArgumentError(
                    f"{FIELD}.{at}", f"speech to text understands only {', '.join(known)} here, not {code!r}"
                )
        return codes

    def _choose_voice(self, config: pb.SessionConfig, character: Character | None, language: str) -> Voice:
        if config.HasField("voice_id") and config.voice_id:
            return self.voice(config.voice_id, f"{FIELD}.voice_id")
        voices = self._services.voices
        wanted = character or self._default
        if language and _base(language) != _base(wanted.language):
            wanted = wanted.model_copy(update={"voice": {}, "language": language})
        choice = choose_voice(wanted, [(voice.model, voice.id, voice.language_codes) for voice in voices])
        fitting = [voice for voice in voices if (voice.model, voice.id) == (choice.model, choice.voice_id)]
        return (fitting or list(voices) or [Voice("", "", (), DEFAULT_RATE)])[0]

    async def _tools(
        self, config: pb.SessionConfig
    ) -> tuple[tuple[ToolDefinition, ...], dict[str, OfferedTool], tuple[ToolSpec, ...]]:
        model = self._services.llm
        if len(config.tools) > MAX_TOOLS:
            raise InvalidArgumentError(f"{FIELD}.tools", f"are more than {MAX_TOOLS}")
        if config.tools and not model.tools:
            raise FailedPreconditionError(
                f"{FIELD}.tools: the language model {model.id} cannot call functions", reason="INVALID_REQUEST"
            )
        definitions: list[ToolDefinition] = []
        specs: list[ToolSpec] = []
        offered: dict[str, OfferedTool] = {}
        taken: set[str] = set()

        def take(name: str, field: str) -> None:
            if name in taken:
                raise InvalidArgumentError(field, f"a second function is called {name!r}")
            taken.add(name)

        for index, tool in enumerate(config.tools):
            field = f"{FIELD}.tools[{index}]"
            match tool.WhichOneof("tool"):
                case "function":
                    definition = _read_function(tool.function, f"{field}.function")
                    take(definition.name, f"{field}.function.name")
                    definitions.append(definition)
                    specs.append(ToolSpec(definition.name, on_client=True))
                case "server":
                    field = f"{field}.server"
                    for one in await self._environment.tools.offered(
                        tool.server.label, tuple(tool.server.allowed_tools), field
                    ):
                        take(one.name, field)
                        offered[one.name] = one
                case _:
                    raise InvalidArgumentError(field, "must be function or server")
        if not config.tools and model.tools:
            names = self._environment.settings.default_tools
            offered = {tool.name: tool for tool in self._environment.tools.defaults(names)}
        for one in offered.values():
            definitions.append(ToolDefinition(one.name, one.description, one.parameters_json_schema))
            specs.append(ToolSpec(one.name, slow=one.slow))
        return tuple(definitions), offered, tuple(specs)


def _read_function(function: pb.FunctionTool, field: str) -> ToolDefinition:
    name = function.name
    if not (
        0 < len(name) <= 64
        and all(character.isascii() and (character.isalnum() or character in "_-") for character in name)
    ):
        raise InvalidArgumentError(f"{field}.name", "must be 1 to 64 of a-z, A-Z, 0-9, _ and -")
    schema = function.parameters_json_schema or '{"type": "object", "properties": {}}'
    try:
        parsed = json.loads(schema)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidArgumentError(f"{field}.parameters_json_schema", "is no JSON object")
    return ToolDefinition(name, function.description, schema)


def _tool_choice(config: pb.SessionConfig, definitions: tuple[ToolDefinition, ...]) -> tuple[ToolUse, str]:
    if config.tool_choice not in _TOOL_USE:
        raise InvalidArgumentError(f"{FIELD}.tool_choice", f"unknown value {config.tool_choice}")
    use = _TOOL_USE[config.tool_choice]
    if use is ToolUse.REQUIRED and not definitions:
        raise InvalidArgumentError(f"{FIELD}.tool_choice", "demands a function, but there are none")
    if use is ToolUse.NAMED and config.tool_name not in [definition.name for definition in definitions]:
        raise InvalidArgumentError(f"{FIELD}.tool_name", f"no function is called {config.tool_name!r}")
    return use, config.tool_name if use is ToolUse.NAMED else ""


def _turns(config: pb.SessionConfig, settings: OrchestratorSettings) -> TurnSettings:
    turns = TurnSettings(
        silence_duration=settings.silence_duration,
        pause_threshold=settings.pause_threshold,
        preemptive=settings.preemptive,
        idle_timeout=settings.silence_fill or None,
        max_output_lead=settings.max_output_lead,
        drain_duration=max(0.5, 0.8 * settings.drain_seconds),
    )
    turns = read_detection(config.turn_detection, turns, f"{FIELD}.turn_detection")
    if config.HasField("max_output_lead"):
        lead = to_seconds(config.max_output_lead)
        if not 0.02 <= lead <= 10:
            raise InvalidArgumentError(f"{FIELD}.max_output_lead", "must be 0.02 to 10 seconds")
        turns = replace(turns, max_output_lead=lead)
    return turns


def _speaking_rate(config: pb.SessionConfig) -> float | None:
    if not config.HasField("speaking_rate"):
        return None
    if not 0.25 <= config.speaking_rate <= 4:
        raise InvalidArgumentError(f"{FIELD}.speaking_rate", "must be 0.25 to 4")
    return config.speaking_rate


def _max_tokens(config: pb.SessionConfig) -> int | None:
    if not config.HasField("max_output_tokens"):
        return None
    if config.max_output_tokens < 1:
        raise InvalidArgumentError(f"{FIELD}.max_output_tokens", "must be at least 1")
    return config.max_output_tokens


def _in_force(
    config: pb.SessionConfig,
    input_format: Format,
    output_format: Format,
    voice: Voice,
    turns: TurnSettings,
    character_id: str,
) -> pb.SessionConfig:
    """The settings with their defaults filled in."""
    full = pb.SessionConfig()
    full.CopyFrom(config)
    full.input_format.CopyFrom(input_format.to_proto())
    full.output_format.CopyFrom(output_format.to_proto())
    if voice.id:
        full.voice_id = voice.id
    if full.instructions.WhichOneof("instructions") is None:
        full.instructions.preset.character_id = character_id
    full.max_output_lead.CopyFrom(to_duration(turns.max_output_lead))
    write_detection(turns, full.turn_detection)
    return full


def _base(code: str) -> str:
    return code.replace("_", "-").partition("-")[0].lower()
