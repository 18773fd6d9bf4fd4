"""`unmute talk`: a spoken conversation with the mesh, from files, the keyboard or the microphone."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from mesh.cli import Command
from mesh.client.settings import ClientSettings, on_interrupt, require_serving
from mesh.errors import MeshError, ResourceExhaustedError
from mesh.settings import OrchestratorAddress

if TYPE_CHECKING:
    from mesh.client.conversation import Conversation, Sink, Source
    from mesh.client.script import Plan, Utterance
    from mesh.client.views import JsonView, TerminalView
    from unmute.conversation.v1 import conversation_pb2 as pb

INPUT_RATE = 24_000


class TalkSettings(OrchestratorAddress, ClientSettings):
    """Holds a spoken conversation with the mesh.

    Give it audio files to speak (WAV, FLAC, OGG, MP3; any rate), --text to type, or neither to talk with the
    microphone. Files and texts are said one after the other, each when the last answer was played to its end.
    """

    files: CliPositionalArg[list[Path]] = Field([], description="Audio files to speak, in this order.")
    text: list[str] = Field([], description="Type this instead of speaking; may be repeated; after the files.")
    save: Path | None = Field(None, description="Save what the assistant said, as it was played, to this WAV file.")
    character: str = Field("", description="Character to talk to; `unmute characters` lists them.")
    instructions: str = Field("", description="Your own system prompt, instead of a character.")
    voice: str = Field("", description="Voice of the assistant.")
    language: str = Field("", description="Language that you speak, BCP-47, as en or fr. Unset: the character's.")
    turns: int | None = Field(
        None, ge=1, description="Stop after this many complete answers. Unset: when all is said and answered."
    )
    start_at: float | None = Field(
        None, ge=0, description="Begin to speak this many seconds after the start, even over a greeting."
    )
    barge_in: float | None = Field(
        None, ge=0, description="Interrupt: speak each file this many seconds after the assistant began to sound."
    )
    wait: float = Field(0.0, ge=0, description="When the mesh is full, go on asking for a place for this many seconds.")
    mute: bool = Field(False, description="With the microphone: do not play the answer on the loudspeaker.")

    @model_validator(mode="after")
    def _one_prompt(self) -> TalkSettings:
        if self.character and self.instructions:
            raise ValueError("--character and --instructions exclude each other")
        return self

    @property
    def uses_microphone(self) -> bool:
        """Nothing is given to say: a person speaks."""
        return not self.files and not self.text


def run(settings: TalkSettings) -> int:
    """Talks; returns 0 when all was answered, 130 after Ctrl-C during a scripted conversation."""
    from mesh.client.views import JsonView, TerminalView

    # Before the call: a file that cannot be read or written is known without the mesh.
    utterances = _utterances(settings)
    if settings.save is not None and not settings.save.absolute().parent.is_dir():
        raise MeshError(f"{settings.save}: there is no such folder to save to")
    view = JsonView() if settings.json_output else TerminalView()
    try:
        return asyncio.run(_talk(settings, utterances, view))
    finally:
        view.close()


async def _talk(settings: TalkSettings, utterances: list[Utterance], view: JsonView | TerminalView) -> int:
    """Talks as soon as there is a place."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.wait
    while True:
        try:
            return await _converse(settings, utterances, view)
        except _NoPlaceError as refusal:
            if loop.time() + refusal.delay > deadline:
                raise MeshError(f"{refusal.message}. Try again in {refusal.delay:.2g} s, or with --wait") from None
            view.notice(f"{refusal.message}; trying again in {refusal.delay:.2g} s")
            await asyncio.sleep(refusal.delay)


class _NoPlaceError(MeshError):
    """There is no place for a conversation just now; nothing was said yet."""

    def __init__(self, error: ResourceExhaustedError) -> None:
        cause = error.message.removeprefix("orchestrator service: ")
        super().__init__(f"the mesh is full: {cause}" if error.reason == "AT_CAPACITY" else cause)
        self.delay = error.retry_delay


async def _converse(settings: TalkSettings, utterances: list[Utterance], view: JsonView | TerminalView) -> int:
    from mesh.client.conversation import Conversation
    from mesh.client.script import Script

    with ExitStack() as devices:
        microphone, rate = _open_microphone(settings, devices)
        async with settings.open_channel(settings.orchestrator) as channel:
            await require_serving(channel, "orchestrator", settings.orchestrator)
            script = Script(_plan(settings, utterances), asyncio.get_running_loop().time())
            conversation = Conversation(
                channel,
                _config(settings, rate),
                script,
                view,
                address=settings.orchestrator,
                microphone=microphone,
                open_loudspeaker=_Opener(devices) if microphone is not None and not settings.mute else None,
            )
            stopped = False

            def stop() -> None:
                nonlocal stopped
                stopped = True
                conversation.stop()

            try:
                with on_interrupt(stop):
                    await conversation.run()
            except ResourceExhaustedError as error:
                if conversation.player is not None:
                    raise
                raise _NoPlaceError(error) from None
            finally:
                _report(conversation, settings, view)
    return 130 if stopped and not settings.uses_microphone else 0


def _plan(settings: TalkSettings, utterances: list[Utterance]) -> Plan:
    from mesh.client.script import Plan

    return Plan(
        utterances=utterances,
        start_at=settings.start_at,
        barge_in=settings.barge_in,
        turns=settings.turns,
        timeout=settings.timeout,
    )


def _utterances(settings: TalkSettings) -> list[Utterance]:
    from mesh.audio import read_audio_file
    from mesh.client.script import Spoken, Typed

    spoken = [Spoken(str(path), read_audio_file(path, INPUT_RATE)) for path in settings.files]
    for text in settings.text:
        if not text.strip():
            raise MeshError("--text: there is nothing in it")
    return [*spoken, *(Typed(text) for text in settings.text)]


def _config(settings: TalkSettings, rate: int) -> pb.SessionConfig:
    from mesh.client.conversation import input_format
    from unmute.conversation.v1 import conversation_pb2 as pb

    config = pb.SessionConfig(input_format=input_format(rate), interim_transcripts=True, reports_playback=True)
    if settings.character:
        config.instructions.preset.character_id = settings.character
    if settings.instructions:
        config.instructions.text = settings.instructions
    if settings.voice:
        config.voice_id = settings.voice
    if settings.language:
        config.language_codes.append(settings.language)
    return config


def _open_microphone(settings: TalkSettings, devices: ExitStack) -> tuple[Source | None, int]:
    if not settings.uses_microphone:
        return None, INPUT_RATE
    from mesh.client.devices import Microphone, NoAudioDeviceError

    try:
        microphone = devices.enter_context(Microphone())
    except NoAudioDeviceError as error:
        raise MeshError(
            f"the microphone cannot be used: {error.message}. Without one: unmute talk FILE, or --text"
        ) from error
    return microphone, microphone.rate


class _Opener:
    """Opens the loudspeaker once the rate is known, and leaves its closing to the stack."""

    def __init__(self, devices: ExitStack) -> None:
        self._devices = devices

    def __call__(self, rate: int) -> Sink:
        from mesh.client.devices import Loudspeaker

        return self._devices.enter_context(Loudspeaker(rate, live=True))


def _report(conversation: Conversation, settings: TalkSettings, view: JsonView | TerminalView) -> None:
    """Saves the answer and prints what it took, however the conversation ended."""
    from mesh.audio import write_wav

    player, stopwatch = conversation.player, conversation.stopwatch
    if player is None or stopwatch is None:
        return
    recording = player.recording()
    if settings.save is not None and len(recording):
        write_wav(settings.save, recording, player.rate)
    saved = str(settings.save) if settings.save is not None and len(recording) else ""
    view.summary(stopwatch.answers, stopwatch.interruptions, saved, len(recording) / player.rate)


command = Command(help="Talk to the mesh: speak a file, type, or use the microphone.", settings=TalkSettings, run=run)
