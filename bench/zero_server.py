"""One service of the mesh with an engine that takes no time, in a process of its own.

python -m bench.zero_server stt|llm|tts PORT [FRAMES_PER_WORD]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.zero import VOICE_RATE, ZeroLlm, ZeroStt, ZeroTts
from llm_service.server import LlmService
from mesh.service import Service, run
from mesh.settings import ServerSettings
from stt_service.server import SttService
from tts_service.server import TtsService
from tts_service.settings import TtsSettings

SERVICES: dict[str, Callable[[int], Service]] = {
    # At the rate of the callers, so that the service need not resample.
    "stt": lambda _: SttService(ZeroStt(VOICE_RATE)),
    "llm": lambda _: LlmService(ZeroLlm()),
    "tts": lambda frames_per_word: TtsService(ZeroTts(frames_per_word), TtsSettings()),
}

if __name__ == "__main__":
    name, port, *frames = sys.argv[1:]
    # 4 is the pace of speech.
    sys.exit(
        run(name, lambda _: SERVICES[name](int(*frames or ["4"])), ServerSettings(port=int(port), log_level="WARNING"))
    )
