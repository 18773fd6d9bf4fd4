"""One service of the mesh with an engine that takes no time, in a process of its own.

python -m bench.zero_server stt|llm|tts PORT
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

SERVICES: dict[str, Callable[[], Service]] = {
    # At the rate of the callers, so that the service need not resample.
    "stt": lambda: SttService(ZeroStt(VOICE_RATE)),
    "llm": lambda: LlmService(ZeroLlm()),
    "tts": lambda: TtsService(ZeroTts(frames_per_word=4), TtsSettings()),
}

if __name__ == "__main__":
    name, port = sys.argv[1:]
    sys.exit(run(name, lambda _: SERVICES[name](), ServerSettings(port=int(port), log_level="WARNING")))
