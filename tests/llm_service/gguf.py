"""A GGUF file with another chat template: the embedded model, as one that knows functions."""

from __future__ import annotations

import struct
from pathlib import Path

_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_KEY = b"tokenizer.chat_template"

# As Qwen's, whose models llama.cpp knows to call functions so.
TOOL_TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n\\nYou may call one or more functions.\\n\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n\
</tool_call><|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + \
'\\n</tool_response><|im_end|>\\n' }}
{%- elif message.tool_calls %}{{- '<|im_start|>assistant\\n' + (message.content or '') }}
{%- for call in message.tool_calls %}{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return int(value)

    def string(self) -> bytes:
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size : self.at]

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            inner = self.number("I")
            for _ in range(self.number("Q")):
                self.skip(inner)
        else:
            self.at += _SIZES[kind]


def with_template(source: Path, target: Path, template: str) -> None:
    """Writes `source` to `target`, with `template` for its chat template."""
    data = source.read_bytes()
    reader = _Reader(data)
    assert reader.number("I") == int.from_bytes(b"GGUF", "little")
    reader.number("I")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    start = end = 0
    for _ in range(pairs):
        is_template = reader.string() == _KEY
        kind = reader.number("I")
        before = reader.at
        reader.skip(kind)
        if is_template:
            start, end = before, reader.at
    assert end, "the model has no chat template"
    for _ in range(tensors):
        reader.string()
        dimensions = reader.number("I")
        reader.at += 8 * dimensions + 12
    text = template.encode()
    head = data[:start] + struct.pack("<Q", len(text)) + text + data[end : reader.at]
    body = data[-(-reader.at // _ALIGNMENT) * _ALIGNMENT :]
    target.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + body)
