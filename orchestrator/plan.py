"""What a session is to be: its settings checked, filled in, and turned into what the parts of the session need."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from mesh.audio import Format, read_format
from mesh.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from orchestrator.characters import Character, Characters, choose_voice
from orchestrator.config import (
    FIELD,
    check_mask,
    in_force,
    merge,
    read_max_tokens,
    read_modalities,
    read_speaking_rate,
    read_turns,
)
from orchestrator.feeds import FeedError, Feeds
from orchestrator.prompts.base import COMPACT_CONTEXT_TOKENS, Headline, PromptContext, system_prompt
from orchestrator.prompts.news import News
from orchestrator.settings import OrchestratorSettings
from orchestrator.tools import ToolBox
from orchestrator.tools.choice import Functions, of_server, read_choice, read_functions
from orchestrator.turns.settings import Config
from orchestrator.upstreams import Services, Voice
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_INSTRUCTIONS = 100_000
DEFAULT_RATE = 24_000


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
    functions: Functions = field(default_factory=Functions)
    only_given_functions: bool = False
    """Without any that are given, the model has none: not the server's own."""
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

    async def first(self, update: pb.SessionUpdate) -> Plan:
        """The plan for the first settings.

        Raises:
            MeshError: they cannot be served; names the field.
        """
        config = update.session
        if not config.HasField("input_format"):
            raise InvalidArgumentError(f"{FIELD}.input_format", "is required")
        check_mask(update)
        return await self._plan(config, only_given_functions="tools" in update.update_mask.paths)

    async def changed(self, old: Plan, update: pb.SessionUpdate) -> Plan:
        """The plan after a later update; what it leaves unset stays.

        Raises:
            MeshError: it cannot be served; names the field.
        """
        merged = merge(old.proto, update)
        for name in ("input_format", "output_format"):
            if merged.HasField(name) and getattr(merged, name) != getattr(old.proto, name):
                raise InvalidArgumentError(f"{FIELD}.{name}", "is fixed by the first message")
            getattr(merged, name).CopyFrom(getattr(old.proto, name))
        only_given = old.only_given_functions or "tools" in update.update_mask.paths
        plan = await self._plan(merged, only_given_functions=only_given)
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

    async def _plan(self, config: pb.SessionConfig, *, only_given_functions: bool) -> Plan:
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
        turns = read_turns(config, settings)
        functions = await self._session_functions(config, only_given=only_given_functions)
        speaks = read_modalities(config.output_modalities, f"{FIELD}.output_modalities") is not False
        languages = self._languages(config, language)
        core = Config(
            turns=turns,
            language_codes=languages,
            tools=functions.specs,
            speaks_first=character is not None and character.speaks_first,
            reports_playback=config.reports_playback,
            interim_transcripts=config.interim_transcripts,
            turn_predictions=config.turn_predictions,
            speaks=speaks,
            answer_tool_results=not config.HasField("answer_tool_results") or config.answer_tool_results,
            debug=config.debug,
        )
        return Plan(
            proto=in_force(config, input_format, output_format, voice, turns, self._default.id),
            services=self._services,
            input_format=input_format,
            output_format=output_format,
            prompt=prompt,
            language_code=language,
            stt_language_codes=languages,
            voice=voice,
            speaking_rate=read_speaking_rate(config, voice),
            config=core,
            functions=functions,
            only_given_functions=only_given_functions,
            max_output_tokens=read_max_tokens(config),
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

    async def _session_functions(self, config: pb.SessionConfig, *, only_given: bool) -> Functions:
        """The functions of the session; the server's own where none are given, unless `only_given`."""
        model, box = self._services.llm, self._environment.tools
        functions = await read_functions(config.tools, model, box, f"{FIELD}.tools")
        if not config.tools and model.tools and not only_given:
            names = self._environment.settings.default_tools
            functions = of_server({tool.name: tool for tool in box.defaults(names)})
        use, name = read_choice(config.tool_choice, config.tool_name, functions, FIELD)
        return replace(functions, use=use, name=name)

    async def functions(self, config: pb.ResponseConfig, plan: Plan, field: str) -> Functions:
        """The functions of one response; the session's where it gives none.

        Raises:
            MeshError: they cannot be served; `field` is the path of `config`.
        """
        functions = plan.functions
        if config.tools:
            model, box = self._services.llm, self._environment.tools
            functions = await read_functions(config.tools, model, box, f"{field}.tools")
        if config.out_of_band:
            functions = functions.of_client()
        if config.tools or config.tool_choice:
            use, name = read_choice(config.tool_choice, config.tool_name, functions, field)
            functions = replace(functions, use=use, name=name)
        return functions


def _base(code: str) -> str:
    return code.replace("_", "-").partition("-")[0].lower()
