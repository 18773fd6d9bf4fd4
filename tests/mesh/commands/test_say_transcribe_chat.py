"""`unmute say`, `transcribe` and `chat` against scripted services, through real gRPC."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from mesh.durations import to_duration
from tests.mesh.commands.scripted import serving, unmute
from unmute.audio.v1 import audio_pb2
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

RATE = 24_000


class Speaker(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Says each character as a hundredth of a second."""

    def __init__(self, *, finishes: bool = True) -> None:
        self.texts: list[str] = []
        self.config = tts_pb2.SynthesisConfig()
        self.finishes = finishes

    def add(self, server: grpc.aio.Server) -> None:
        tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(self, server)

    async def Synthesize(self, request: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        raise NotImplementedError

    async def ListVoices(self, request: Any, context: Any) -> tts_pb2.ListVoicesResponse:  # noqa: N802
        return tts_pb2.ListVoicesResponse()

    async def StreamSynthesize(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        self.config.CopyFrom((await anext(aiter(requests))).config)
        if self.config.voice_id == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND, "config.voice_id: no such voice: nobody")
        layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE)
        await context.write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready(format=layout, voice_id="heart")))
        async for request in requests:
            self.texts.append(request.text.text)
            chunk = audio_pb2.AudioChunk(data=b"\x00\x20" * (RATE // 100) * len(request.text.text))
            await context.write(tts_pb2.StreamSynthesizeResponse(audio=chunk))
        if self.finishes:
            await context.write(tts_pb2.StreamSynthesizeResponse(done=tts_pb2.Done()))


async def test_say_saves_the_speech_and_reports(
    unix_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speaker, path = Speaker(), tmp_path / "out.wav"
    async with serving(unix_address, speaker.add):
        flags = ["--tts", unix_address, "--save", str(path), "--voice", "heart", "--rate", "1.25", "--json"]
        assert await unmute("say", "Hello, you.", *flags) == 0
    assert speaker.texts == ["Hello, you."]
    assert speaker.config.speaking_rate == 1.25
    report = json.loads(capsys.readouterr().out)
    assert report["audio_seconds"] == pytest.approx(0.11)
    assert report["voice"] == "heart"
    samples, rate = soundfile.read(path)
    assert (len(samples), rate) == (11 * RATE // 100, RATE)


async def test_say_speaks_standard_input_line_by_line(
    unix_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("One.\nTwo.\n"))
    speaker = Speaker()
    async with serving(unix_address, speaker.add):
        assert await unmute("say", "-", "--tts", unix_address, "--save", str(tmp_path / "out.wav")) == 0
    assert speaker.texts == ["One.\n", "Two.\n"]


async def test_say_names_standard_input_that_is_no_text(
    unix_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"bad \xff\n"), encoding="utf-8"))
    async with serving(unix_address, Speaker().add):
        assert await unmute("say", "-", "--tts", unix_address, "--save", str(tmp_path / "out.wav")) == 1
    assert capsys.readouterr().err == "unmute say: standard input is not valid UTF-8\n"


async def test_say_names_what_went_wrong(unix_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save = ["--tts", unix_address, "--save", str(tmp_path / "out.wav")]
    async with serving(unix_address, Speaker(finishes=False).add):
        assert await unmute("say", "Hello", *save, "--voice", "nobody") == 1
        assert "no such voice: nobody" in capsys.readouterr().err
        assert await unmute("say", "Hello", *save) == 1
        assert "ended the call before all was spoken" in capsys.readouterr().err
        assert await unmute("say", "  ", *save) == 1
        assert "no text" in capsys.readouterr().err
        assert await unmute("say", "Hello", "--save", str(tmp_path / "none" / "out.wav")) == 1
        assert "no such folder" in capsys.readouterr().err


class Listener(stt_pb2_grpc.SpeechToTextServiceServicer):
    """Hears the same two words in everything, or refuses."""

    def __init__(self, refusal: str = "", *, deaf: bool = False) -> None:
        self.seconds = 0.0
        self.config = stt_pb2.TranscribeConfig()
        self.refusal = refusal
        self.deaf = deaf

    def add(self, server: grpc.aio.Server) -> None:
        stt_pb2_grpc.add_SpeechToTextServiceServicer_to_server(self, server)

    async def ListModels(self, request: Any, context: Any) -> stt_pb2.ListModelsResponse:  # noqa: N802
        return stt_pb2.ListModelsResponse()

    async def Transcribe(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        self.config.CopyFrom((await anext(aiter(requests))).config)
        if self.refusal:
            await context.abort(grpc.StatusCode.NOT_FOUND, self.refusal)
        await context.write(stt_pb2.TranscribeResponse(ready=stt_pb2.Ready(model="scripted")))
        async for request in requests:
            self.seconds += len(request.audio.data) / 2 / self.config.format.sample_rate_hertz
        if self.deaf:
            return
        await context.write(stt_pb2.TranscribeResponse(interim_transcript=stt_pb2.InterimTranscript(text=" Good even")))
        words = [timed(" Good", 0.1, 0.3), timed(" evening.", 0.3, 0.9)]
        await context.write(
            stt_pb2.TranscribeResponse(final_transcript=stt_pb2.FinalTranscript(text=" Good evening.", words=words))
        )


def timed(text: str, start: float, end: float) -> audio_pb2.TimedText:
    span = audio_pb2.AudioSpan(start_offset=to_duration(start), end_offset=to_duration(end))
    return audio_pb2.TimedText(text=text, span=span)


@pytest.fixture
def speech(tmp_path: Path) -> str:
    path = tmp_path / "speech.flac"
    soundfile.write(path, np.full(22_050, 0.1), 44_100)
    return str(path)


async def test_transcribe_prints_the_text(unix_address: str, speech: str, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    async with serving(unix_address, listener.add):
        assert await unmute("transcribe", speech, "--stt", unix_address) == 0
    assert capsys.readouterr().out == "Good evening.\n"
    assert listener.seconds == pytest.approx(0.5, abs=0.001)


async def test_transcribe_prints_words_interim_text_and_json(
    unix_address: str, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(unix_address, Listener().add):
        assert await unmute("transcribe", speech, "--stt", unix_address, "--words", "--interim", "--real-time") == 0
        shown = capsys.readouterr()
        assert await unmute("transcribe", speech, "--stt", unix_address, "--json") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.split() for line in shown.out.splitlines()] == [["0.10", "0.30", "Good"], ["0.30", "0.90", "evening."]]
    assert shown.err == "... Good even\n"
    assert [line["event"] for line in lines] == ["ready", "interim_transcript", "final_transcript"]
    assert lines[-1]["text"] == " Good evening."


async def test_transcribe_names_what_went_wrong(
    unix_address: str, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(unix_address, Listener("config.model: no such model: x").add):
        assert await unmute("transcribe", speech, "--stt", unix_address, "--model", "x") == 1
    assert "no such model: x" in capsys.readouterr().err


async def test_transcribe_says_when_no_speech_was_heard(
    unix_address: str, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(unix_address, Listener(deaf=True).add):
        assert await unmute("transcribe", speech, "--stt", unix_address) == 1
    assert "no speech was heard" in capsys.readouterr().err


class Writer(llm_pb2_grpc.LlmServiceServicer):
    """Answers each question with its number and the question."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.starts: list[llm_pb2.Start] = []
        self.breaks = breaks

    def add(self, server: grpc.aio.Server) -> None:
        llm_pb2_grpc.add_LlmServiceServicer_to_server(self, server)

    async def ListModels(self, request: Any, context: Any) -> llm_pb2.ListModelsResponse:  # noqa: N802
        return llm_pb2.ListModelsResponse()

    async def Generate(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        async for request in requests:
            self.starts.append(request.generate)
            answer = request.generate.answer_id
            question = request.generate.messages[-1].text
            for text in (f"{len(self.starts)}: ", question):
                await context.write(llm_pb2.GenerateResponse(text=llm_pb2.TextDelta(text=text), answer_id=answer))
            if self.breaks:
                return
            usage = llm_pb2.Usage(input_token_count=7, output_token_count=2)
            finished = llm_pb2.Finished(reason=llm_pb2.FINISH_REASON_STOP, usage=usage)
            await context.write(llm_pb2.GenerateResponse(finished=finished, answer_id=answer))


async def test_chat_answers_one_question(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer()
    flags = ["--llm", unix_address, "--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--seed", "1"]
    async with serving(unix_address, writer.add):
        assert await unmute("chat", "Why, and how?", *flags) == 0
        assert capsys.readouterr().out == "1: Why, and how?\n"
        assert await unmute("chat", "Why?", "--llm", unix_address, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "text": "2: Why?",
        "finish_reason": "stop",
        "input_tokens": 7,
        "cached_tokens": 0,
        "output_tokens": 2,
    }
    first, second = writer.starts
    assert [(message.role, message.text) for message in first.messages] == [
        (llm_pb2.ROLE_SYSTEM, "Be brief."),
        (llm_pb2.ROLE_USER, "Why, and how?"),
    ]
    assert first.sampling.HasField("temperature")
    assert (first.sampling.temperature, first.sampling.max_output_tokens, first.sampling.seed) == (0, 9, 1)
    assert not second.sampling.HasField("max_output_tokens")


async def test_chat_remembers_and_obeys_commands(
    unix_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "Hello\nAgain\n/system Speak French.\n\n/new\nBonjour\n/dance\n/quit\nnever asked\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    writer = Writer()
    async with serving(unix_address, writer.add):
        assert await unmute("chat", "--llm", unix_address) == 0
    texts = [[message.text for message in start.messages] for start in writer.starts]
    assert texts == [["Hello"], ["Hello", "1: Hello", "Again"], ["Speak French.", "Bonjour"]]
    out = capsys.readouterr().out
    assert "2: Again\n" in out
    assert "no such command: /dance" in out


class Rambler(Writer):
    """Goes on until it is stopped; types what its user would."""

    def __init__(self, keyboard: int) -> None:
        super().__init__()
        self.keyboard = keyboard

    async def Generate(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        answer = ""
        async for request in requests:
            if request.WhichOneof("request") == "generate":
                self.starts.append(request.generate)
                answer = request.generate.answer_id
                text = llm_pb2.TextDelta(text="So")
                await context.write(llm_pb2.GenerateResponse(text=text, answer_id=answer))
                os.write(self.keyboard, b"And then?\n/stop\n")
            else:
                finished = llm_pb2.Finished(reason=llm_pb2.FINISH_REASON_STOPPED)
                await context.write(llm_pb2.GenerateResponse(finished=finished, answer_id=answer))
                if len(self.starts) == 2:
                    os.write(self.keyboard, b"/quit\n")


async def test_chat_stops_an_answer_and_goes_on(unix_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed, keyboard = os.pipe()
    writer = Rambler(keyboard)
    with os.fdopen(typed) as source:
        monkeypatch.setattr(sys, "stdin", source)
        os.write(keyboard, b"Hello\n")
        async with serving(unix_address, writer.add):
            assert await unmute("chat", "--llm", unix_address) == 0
        os.close(keyboard)
    assert [(message.text, message.interrupted) for message in writer.starts[1].messages] == [
        ("Hello", False),
        ("So", True),
        ("And then?", False),
    ]


async def test_chat_names_a_service_that_is_lost(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(unix_address, Writer(breaks=True).add):
        assert await unmute("chat", "Why?", "--llm", unix_address) == 1
    error = capsys.readouterr().err
    assert "llm" in error
    assert "in the middle of an answer" in error


@pytest.mark.parametrize("command", ["talk", "say", "transcribe", "chat"])
async def test_help_explains_every_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await unmute(command, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: unmute {command}")
    assert "_ADDRESS" in out
