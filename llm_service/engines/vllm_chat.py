"""Chat on vLLM: templates, sampling, functions, reasoning; the only module that knows its request protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llm_service.engine import Event, Finished, FinishReason, Message, Request, TextDelta, Tool, ToolCallDelta, Usage
from llm_service.engines.chat import Body, to_chat, to_json, to_tool_choice, to_tools
from llm_service.engines.text import Thoughts
from llm_service.settings import VllmSettings
from mesh.errors import FailedPreconditionError, InvalidArgumentError, MeshError, UnavailableError

_SEED_LIMIT = 1 << 63
_PREFIX_TAIL = 8
_FIELDS = {
    "messages": "messages",
    "input_text": "messages",
    "input_tokens": "messages",
    "prompt": "messages",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "response_format": "response_json_schema",
    "structured_outputs": "response_json_schema",
    "stop": "sampling.stop_sequences",
    "max_tokens": "sampling.max_output_tokens",
    "max_completion_tokens": "sampling.max_output_tokens",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_k": "sampling.top_k",
    "seed": "sampling.seed",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
}


class VllmChat:
    """Makes what vLLM's engine takes of requests, as vLLM's own server does."""

    def __init__(self, model_config: Any, renderer: Any, settings: VllmSettings) -> None:
        """Makes the renderer of the chat template and finds the parsers.

        Raises:
            FailedPreconditionError: no such parser, or one that does not fit the model.
        """
        from vllm.renderers.online_renderer import OnlineRenderer

        self._config = model_config
        self._settings = settings
        try:
            self._renderer = OnlineRenderer(
                model_config,
                renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
                enable_auto_tools=settings.tool_call_parser is not None,
                tool_parser=settings.tool_call_parser,
                reasoning_parser=settings.reasoning_parser,
            )
        except TypeError as error:
            raise FailedPreconditionError(f"vLLM has no use for the parsers: {error}") from error
        self._defaults: dict[str, Any] = model_config.get_diff_sampling_param()

    @property
    def context_tokens(self) -> int:
        """Tokens of context."""
        return int(self._config.max_model_len)

    async def prepare(self, request: Request) -> Prompt:
        """Returns what is to be answered.

        Raises:
            InvalidArgumentError: something this model cannot take; the field is relative to the request.
        """
        body = self._to_body(request.messages, request.tools) | self._to_options(request)
        if request.tools:
            body["tool_choice"] = to_tool_choice(request)
        if request.response_json_schema is not None:
            if request.tools:
                raise InvalidArgumentError("response_json_schema", "cannot be combined with tools")
            schema = to_json(request.response_json_schema, "response_json_schema")
            _check_schema(schema, "response_json_schema")
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return await self._prepare(body)

    async def prepare_prefix(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
        """Returns what is to be read. Raises as `prepare`."""
        return await self._prepare(
            self._to_body(messages, tools) | {"max_completion_tokens": 1, "add_generation_prompt": False}
        )

    def _to_body(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Body:
        native_tools = self._settings.tool_call_parser is not None
        if tools and not native_tools:
            raise InvalidArgumentError("tools", "this model calls no functions: it was given no --tool-call-parser")
        body: Body = {"messages": to_chat(messages, native_tools), "stream": True}
        if tools:
            body["tools"] = to_tools(tools)
            for index, tool in enumerate(body["tools"]):
                _check_schema(tool["function"]["parameters"], f"tools[{index}].parameters_json_schema")
                # Small models write arguments of any kind otherwise.
                tool["function"]["strict"] = True
        return body

    def _to_options(self, request: Request) -> Body:
        sampling, settings = request.sampling, self._settings
        options = {
            "temperature": settings.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": None if sampling.seed is None else sampling.seed % _SEED_LIMIT,
            "stop": list(sampling.stop_sequences) or None,
            "max_completion_tokens": sampling.max_output_tokens or settings.max_output_tokens,
        }
        return {name: value for name, value in options.items() if value is not None}

    async def _prepare(self, body: Body) -> Prompt:
        from pydantic import ValidationError
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.exceptions import VLLMClientError

        try:
            request = ChatCompletionRequest.model_validate(body)
            # It also has the parsers put their constraints into the request.
            rendered = await self._renderer.render_chat(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidArgumentError("messages", rendered.error.message)
            ((prompt,),) = rendered[1:]
            tokens = list(prompt["prompt_token_ids"])
            room = self.context_tokens - len(tokens)
            if room <= 0:
                raise _overflow(len(tokens), self.context_tokens)
            params = request.to_sampling_params(min(request.max_completion_tokens or room, room), self._defaults)
        except (ValidationError, ValueError, VLLMClientError) as error:
            raise refusal(error, self.context_tokens) from error
        return Prompt(prompt, params, self._reader(request, tokens))

    def _reader(self, request: Any, tokens: list[int]) -> Reader:
        tokenizer = self._renderer.renderer.get_tokenizer()
        if self._renderer.parser is None:
            tail = tokenizer.decode(tokens[-_PREFIX_TAIL:])
            return Reader(None, request, thinking=tail.rstrip().endswith("<think>"))
        parser = self._renderer.parser(
            tokenizer,
            request.tools,
            chat_template_kwargs=self._renderer.effective_chat_template_kwargs(request),
            model_config=self._config,
        )
        return Reader(parser, request)


class Prompt:
    """What vLLM's engine takes, and what reads its answer."""

    def __init__(self, text: Any, params: Any, reader: Reader) -> None:
        self.text = text
        self.params = params
        self.reader = reader


class Reader:
    """Turns vLLM's outputs into events."""

    def __init__(self, parser: Any, request: Any, *, thinking: bool = False) -> None:
        """`parser`: vLLM's, of functions and reasoning, or None. `thinking`: the prompt opens a thought."""
        self.usage = Usage()
        """What it took so far."""
        self._parser = parser
        self._request = request
        self._thoughts = Thoughts(thinking=thinking)
        self._named: set[int] = set()

    def read(self, output: Any) -> Iterator[Event]:
        """Returns the events in `output`; the last is `Finished`. Raises UnavailableError if vLLM gave up."""
        (piece,) = output.outputs
        usage = self.usage
        self.usage = Usage(
            len(output.prompt_token_ids or ()) or usage.input_tokens,
            output.num_cached_tokens or usage.cached_tokens,
            usage.output_tokens + len(piece.token_ids),
        )
        if self._parser is None:
            thoughts = self._thoughts.push(piece.text)
            if piece.finish_reason is not None:
                thoughts += self._thoughts.flush()
            yield from (TextDelta(text, reasoning) for text, reasoning in thoughts)
        else:
            yield from self._parse(output, piece)
        if piece.finish_reason is not None:
            yield self._end(piece.finish_reason)

    def _parse(self, output: Any, piece: Any) -> Iterator[Event]:
        delta = self._parser.parse_delta(
            delta_text=piece.text,
            delta_token_ids=list(piece.token_ids),
            request=self._request,
            prompt_token_ids=output.prompt_token_ids,
            finished=piece.finish_reason is not None,
        )
        if delta is None:
            return
        if delta.reasoning:
            yield TextDelta(delta.reasoning, reasoning=True)
        if delta.content:
            yield TextDelta(delta.content)
        for call in delta.tool_calls or ():
            name = (call.function.name if call.function else None) or ""
            arguments = (call.function.arguments if call.function else None) or ""
            if call.index in self._named:
                name, call.id = "", ""
            elif name:
                self._named.add(call.index)
            if name or arguments:
                yield ToolCallDelta(call.index, call.id or "", name, arguments)

    def _end(self, reason: str) -> Finished:
        if reason == "length":
            return Finished(FinishReason.LENGTH, self.usage)
        if reason in ("abort", "error"):
            raise UnavailableError("the language model gave its answer up")
        return Finished(FinishReason.TOOL_CALLS if self._named else FinishReason.STOP, self.usage)


def refusal(error: Exception, context: int) -> MeshError:
    """Returns what an error that vLLM blames on the request means."""
    message = (str(error).strip().splitlines() or [""])[0][:300]
    lowered = str(error).lower()
    if "context length" in lowered or "maximum model length" in lowered:
        return InvalidArgumentError(
            "messages", f"are longer than the context, which holds {context} tokens", reason="CONTEXT_OVERFLOW"
        )
    field = _FIELDS.get(str(getattr(error, "parameter", "") or ""))
    if field is None and any(word in lowered for word in ("schema", "grammar", "structured")):
        field = "response_json_schema"
    return InvalidArgumentError(field or "messages", f"vLLM cannot take this: {message}")


def _overflow(used: int, limit: int) -> InvalidArgumentError:
    return InvalidArgumentError("messages", f"take {used} tokens; the context holds {limit}", reason="CONTEXT_OVERFLOW")


def _check_schema(schema: Any, field: str) -> None:
    """Raises InvalidArgumentError for what is no JSON Schema: vLLM takes some that mean nothing."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidArgumentError(field, f"is no JSON Schema: {error.message[:200]}") from error
