"""A typed Python callable as a tool: its signature is the JSON schema, its docstring the description."""

from __future__ import annotations

import asyncio
import inspect
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mesh.errors import MeshError


class ToolError(MeshError):
    """A tool cannot do what it was asked; the model is told the message."""

    default_reason = "TOOL_FAILED"


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A Python callable that models may call."""

    name: str
    description: str
    parameters_json_schema: str
    slow: bool
    """The conversation goes on meanwhile; the result starts an answer of its own."""
    _function: Callable[..., Any]
    _arguments: type[BaseModel]

    @classmethod
    def of(cls, function: Callable[..., Any], *, name: str = "", slow: bool = False) -> FunctionTool:
        """Wraps `function`, plain or async; every parameter needs a type, and the docstring says what it does.

        A plain function runs in a thread. What it returns is given to the model as it is if it is text, else as JSON.
        A function with the attribute `slow = True` counts as slow.

        Raises:
            TypeError: a parameter without a type, or no docstring.
        """
        name = name or function.__name__
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"the tool {name} needs a docstring: it is what the model reads")
        hints = typing.get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"the tool {name} may not take *args, **kwargs or positional-only parameters")
            if parameter.name not in hints:
                raise TypeError(f"the parameter {parameter.name} of the tool {name} needs a type")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = arguments.model_json_schema()
        schema.pop("title", None)
        text = json.dumps(schema, ensure_ascii=False)
        return cls(name, description, text, slow or bool(getattr(function, "slow", False)), function, arguments)

    async def run(self, arguments_json: str) -> str:
        """Checks the arguments, calls the function and returns its result as text.

        Raises:
            ToolError: the arguments do not fit.
        """
        try:
            arguments = self._arguments.model_validate_json(arguments_json or "{}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ToolError(f"bad arguments: {where + ': ' if where else ''}{first['msg']}") from error
        values = {name: getattr(arguments, name) for name in type(arguments).model_fields}
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**values)
        else:
            result = await asyncio.to_thread(self._function, **values)
        return result if isinstance(result, str) else json.dumps(_plain(result), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
