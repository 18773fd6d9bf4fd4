"""Functions and the choice among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.errors import EventError, unsupported
from gateway.schema.session import ApprovalFilter, McpChoice, McpTool, Tool, ToolChoice, ToolFilter
from unmute.conversation.v1 import conversation_pb2 as pb

_CHOICES: dict[str, pb.ToolChoice.ValueType] = {
    "auto": pb.TOOL_CHOICE_AUTO,
    "none": pb.TOOL_CHOICE_NONE,
    "required": pb.TOOL_CHOICE_REQUIRED,
}
_CHOICE_NAMES = {value: name for name, value in _CHOICES.items()}


def to_protos(tools: Sequence[Tool], param: str) -> list[pb.Tool]:
    """Returns tools for Converse; `param` is their path.

    Raises:
        EventError: a tool server that the operator has not set up, or parameters that are no JSON.
    """
    return [_to_proto(tool, f"{param}[{index}]") for index, tool in enumerate(tools)]


def _to_proto(tool: Tool, param: str) -> pb.Tool:
    if isinstance(tool, McpTool):
        return pb.Tool(server=_server(tool, param))
    schema = "" if tool.parameters is None else _json(tool.parameters, f"{param}.parameters")
    function = pb.FunctionTool(name=tool.name, description=tool.description or "", parameters_json_schema=schema)
    return pb.Tool(function=function)


def _server(tool: McpTool, param: str) -> pb.ServerTool:
    for name in ("server_url", "connector_id", "tunnel_id", "authorization", "headers"):
        if getattr(tool, name) is not None:
            raise unsupported(
                f"{param}.{name}",
                "Tool servers are set up by the operator of this server: give the server_label of one, and no address",
            )
    approval = tool.require_approval
    if approval == "always" or (isinstance(approval, ApprovalFilter) and approval.always is not None):
        raise unsupported(f"{param}.require_approval", "Calls of tool servers cannot wait for approval here")
    allowed = tool.allowed_tools
    if isinstance(allowed, ToolFilter):
        if allowed.read_only is not None:
            raise unsupported(f"{param}.allowed_tools.read_only", "Tools are chosen by their names here")
        allowed = allowed.tool_names
    return pb.ServerTool(label=tool.server_label, allowed_tools=allowed or [])


def set_choice(choice: ToolChoice, config: pb.SessionConfig | pb.ResponseConfig, param: str) -> None:
    """Writes a choice into `config`; `param` is its path.

    Raises:
        EventError: a choice among a server's tools.
    """
    config.tool_name = ""
    if isinstance(choice, str):
        config.tool_choice = _CHOICES[choice]
    elif isinstance(choice, McpChoice):
        raise unsupported(param, "A choice among the tools of one server is not possible here")
    else:
        config.tool_choice, config.tool_name = pb.TOOL_CHOICE_NAMED, choice.name


def to_event(tools: Sequence[pb.Tool]) -> list[dict[str, Any]]:
    """Returns tools as events show them."""
    return [_tool(tool) for tool in tools]


def choice_to_event(config: pb.SessionConfig) -> str | dict[str, Any]:
    """Returns a choice as events show it."""
    if config.tool_choice == pb.TOOL_CHOICE_NAMED:
        return {"type": "function", "name": config.tool_name}
    return _CHOICE_NAMES.get(config.tool_choice, "auto")


def _tool(tool: pb.Tool) -> dict[str, Any]:
    if tool.HasField("server"):
        shown: dict[str, Any] = {"type": "mcp", "server_label": tool.server.label, "require_approval": "never"}
        if tool.server.allowed_tools:
            shown["allowed_tools"] = list(tool.server.allowed_tools)
        return shown
    function = tool.function
    shown = {"type": "function", "name": function.name, "description": function.description}
    if function.parameters_json_schema:
        shown["parameters"] = json.loads(function.parameters_json_schema)
    return shown


def _json(value: Any, param: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise EventError(f"Invalid '{param}': it is no JSON.", "invalid_value", param) from None
