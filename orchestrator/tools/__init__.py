"""Functions that a model may call and the server runs: typed Python callables and MCP servers."""

from orchestrator.tools.functions import FunctionTool, ToolError
from orchestrator.tools.registry import OfferedTool, ToolBox, load_tool_box

__all__ = ["FunctionTool", "OfferedTool", "ToolBox", "ToolError", "load_tool_box"]
