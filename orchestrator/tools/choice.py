"""Which functions the model may call, in a session or in one response: what a request says, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.errors import FailedPreconditionError, InvalidArgumentError
from orchestrator.tools.registry import OfferedTool, ToolBox
from orchestrator.turns.settings import ToolSpec
from orchestrator.upstreams import LlmModel, ToolDefinition
from orchestrator.upstreams.contract import ToolUse
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_TOOLS = 128

_TOOL_USE = {
    pb.TOOL_CHOICE_UNSPECIFIED: ToolUse.AUTO,
    pb.TOOL_CHOICE_AUTO: ToolUse.AUTO,
    pb.TOOL_CHOICE_NONE: ToolUse.NONE,
    pb.TOOL_CHOICE_REQUIRED: ToolUse.REQUIRED,
    pb.TOOL_CHOICE_NAMED: ToolUse.NAMED,
}


@dataclass(frozen=True, slots=True)
class Functions:
    """Functions that the model may call."""

    definitions: tuple[ToolDefinition, ...] = ()
    offered: dict[str, OfferedTool] = field(default_factory=dict)
    """Those that the server runs."""
    specs: tuple[ToolSpec, ...] = ()
    """What the core knows of them."""
    use: ToolUse = ToolUse.AUTO
    name: str = ""
    """The one that must be called, for NAMED."""

    def of_client(self) -> Functions:
        """Only those that the client runs."""
        kept = tuple(one for one in self.definitions if one.name not in self.offered)
        specs = tuple(spec for spec in self.specs if spec.on_client)
        forced = self.use is ToolUse.NAMED and self.name in self.offered
        forced = forced or (self.use is ToolUse.REQUIRED and not kept)
        return Functions(kept, {}, specs, ToolUse.AUTO if forced else self.use, "" if forced else self.name)


async def read_functions(tools: Sequence[pb.Tool], model: LlmModel, box: ToolBox, field: str) -> Functions:
    """The functions that a request names.

    Args:
        tools: what it names.
        model: the language model.
        box: what the operator allows.
        field: path of the request's `tools`.

    Raises:
        MeshError: one is wrong or not to be had; names the field.
    """
    if len(tools) > MAX_TOOLS:
        raise InvalidArgumentError(field, f"are more than {MAX_TOOLS}")
    if tools and not model.tools:
        raise FailedPreconditionError(
            f"{field}: the language model {model.id} cannot call functions", reason="INVALID_REQUEST"
        )
    definitions: list[ToolDefinition] = []
    specs: list[ToolSpec] = []
    offered: dict[str, OfferedTool] = {}
    taken: set[str] = set()

    def take(name: str, at: str) -> None:
        if name in taken:
            raise InvalidArgumentError(at, f"a second function is called {name!r}")
        taken.add(name)

    for index, tool in enumerate(tools):
        at = f"{field}[{index}]"
        match tool.WhichOneof("tool"):
            case "function":
                definition = _read_function(tool.function, f"{at}.function")
                take(definition.name, f"{at}.function.name")
                definitions.append(definition)
                specs.append(ToolSpec(definition.name, on_client=True))
            case "server":
                at = f"{at}.server"
                for one in await box.offered(tool.server.label, tuple(tool.server.allowed_tools), at):
                    take(one.name, at)
                    offered[one.name] = one
            case _:
                raise InvalidArgumentError(at, "must be function or server")
    found = of_server(offered)
    return Functions((*definitions, *found.definitions), offered, (*specs, *found.specs))


def of_server(offered: dict[str, OfferedTool]) -> Functions:
    """Functions that the server runs."""
    definitions = tuple(
        ToolDefinition(one.name, one.description, one.parameters_json_schema) for one in offered.values()
    )
    return Functions(definitions, offered, tuple(ToolSpec(one.name, slow=one.slow) for one in offered.values()))


def read_choice(choice: pb.ToolChoice.ValueType, name: str, functions: Functions, field: str) -> tuple[ToolUse, str]:
    """Whether the model may, must or must not call one of `functions`, and which it must; `field` is the parent's path.

    Raises:
        InvalidArgumentError: the choice is unknown, or demands a function that there is not.
    """
    if choice not in _TOOL_USE:
        raise InvalidArgumentError(f"{field}.tool_choice", f"unknown value {choice}")
    use = _TOOL_USE[choice]
    if use is ToolUse.REQUIRED and not functions.definitions:
        raise InvalidArgumentError(f"{field}.tool_choice", "demands a function, but there are none")
    if use is ToolUse.NAMED and name not in [definition.name for definition in functions.definitions]:
        raise InvalidArgumentError(f"{field}.tool_name", f"no function is called {name!r}")
    return use, name if use is ToolUse.NAMED else ""


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
