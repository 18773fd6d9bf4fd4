"""A session's mind: asks the language model for answers and lets it read ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from mesh.errors import MeshError, retry_delay_of, to_log
from orchestrator.plan import Plan
from orchestrator.prompts.base import examples, greeting
from orchestrator.prompts.brevity import SentenceLimit
from orchestrator.prompts.history import estimate_tokens, message_tokens, trim
from orchestrator.tools.choice import Functions
from orchestrator.turns.actions import Cue, StartAnswer
from orchestrator.turns.events import (
    AnswerCall,
    AnswerCallPiece,
    AnswerFailed,
    AnswerFinished,
    AnswerText,
    AnswerUsed,
    Event,
    Service,
)
from orchestrator.turns.items import Message, Role
from orchestrator.upstreams import AnswerRequest, LlmSession
from orchestrator.upstreams.calls import is_retryable
from orchestrator.upstreams.contract import ToolDefinition, ToolUse

_log = logging.getLogger(__name__)

ANSWER_TOKENS = 256
"""Room kept for an answer without a limit of its own, in a context of no unusual size."""
SHORT_ANSWER_TOKENS = 80
"""The limit of a small model's answer: one that finds no end loops."""
SHORT_ANSWER_CHARACTERS = 120
"""A small model's answer ends with the first sentence that ends beyond this: it only gets worse."""

GOODBYE = 'I have been silent for a long time. Say goodbye to me now in one short sentence, and end with "Bye!"'
LEAVING = "I have to go. See you soon, bye!"
"""The same for a small model: it answers in kind, and follows no instructions."""
SILENT = "Please ask me what I would like to talk about."
"""What a small model is told in place of the silence marker: it makes nothing of that."""
RESULT = "The result has come. Tell me about it."

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Answerer:
    """Performs `StartAnswer`, `StopAnswer` and `PrefillPrefix`."""

    def __init__(
        self,
        open_llm: Callable[[], LlmSession],
        feed: Callable[[Event], None],
        spawn: Spawn,
        failed: Callable[[Service], None],
        succeeded: Callable[[Service], None],
    ) -> None:
        """Works for one session.

        Args:
            open_llm: begins an exchange with the model.
            feed: takes events.
            spawn: starts a task of the session.
            failed: is told that the service failed.
            succeeded: is told that it works.
        """
        self._open_llm = open_llm
        self._llm = open_llm()
        self._feed = feed
        self._spawn = spawn
        self._failed = failed
        self._succeeded = succeeded
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._call_ids: set[str] = set()
        self._prefilled: tuple[Message, ...] = ()

    def start(self, action: StartAnswer, plan: Plan) -> None:
        """Asks for an answer."""
        self._prefilled = ()
        request = make_request(action, plan)
        asked_for = action.options.max_output_tokens or plan.max_output_tokens
        limit = SentenceLimit(SHORT_ANSWER_CHARACTERS) if plan.compact and not asked_for else None
        answer = self._answer_aside if action.aside else self._answer
        task = self._spawn(answer(request, limit, spoken=action.spoken))
        self._tasks[action.answer_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(action.answer_id, None))

    def stop(self, answer_id: str) -> None:
        """The answer is not wanted any more."""
        task = self._tasks.pop(answer_id, None)
        if task is not None:
            task.cancel()

    def prefill(self, messages: tuple[Message, ...], plan: Plan) -> None:
        """Lets the model read what an answer will begin with."""
        prefix = compose(messages, Cue.NONE, plan.prompt, plan, definitions=plan.functions.definitions)
        if self._tasks or prefix == self._prefilled:
            return
        self._prefilled = prefix
        self._llm.prefill(prefix, plan.functions.definitions)

    async def close(self) -> None:
        """Ends the exchange with the model."""
        await self._llm.close()

    async def _answer(self, request: AnswerRequest, limit: SentenceLimit | None, *, spoken: bool) -> None:
        await self._write(self._llm, request, limit, spoken=spoken)

    async def _answer_aside(self, request: AnswerRequest, limit: SentenceLimit | None, *, spoken: bool) -> None:
        """Answers beside another answer, which holds the conversation's own exchange."""
        llm = self._open_llm()
        try:
            await self._write(llm, request, limit, spoken=spoken)
        finally:
            await llm.close()

    async def _write(
        self, llm: LlmSession, request: AnswerRequest, limit: SentenceLimit | None, *, spoken: bool
    ) -> None:
        answer_id = request.answer_id
        call_ids: dict[str, str] = {}
        ended = False
        try:
            async with aclosing(cast("Any", llm.answer(request))) as answer:
                async for event in answer:
                    if limit is not None and isinstance(event, AnswerText):
                        text, ended = limit.take(event.text)
                        if text:
                            self._feed(replace(event, text=text))
                        if not ended:
                            continue
                        self._succeeded(Service.LLM)
                        if spoken:
                            # The speech waits for the end; what the answer took may come while it is spoken.
                            self._feed(AnswerFinished(answer_id))
                        break
                    if isinstance(event, AnswerCall | AnswerCallPiece):
                        if event.call_id not in call_ids:
                            call_ids[event.call_id] = self._unique(event.call_id)
                        event = replace(event, call_id=call_ids[event.call_id])
                    if isinstance(event, AnswerFinished):
                        self._succeeded(Service.LLM)
                    self._feed(event)
            if ended:
                usage = await llm.stopped()
                self._feed(AnswerUsed(answer_id, usage) if spoken else AnswerFinished(answer_id, usage=usage))
        except MeshError as error:
            _log.warning("an answer failed: %s", to_log(error))
            self._fail(answer_id, error.message, retryable=is_retryable(error), retry_delay=retry_delay_of(error))
        except Exception:  # noqa: BLE001 - whatever a broken service sends must not end the conversation
            _log.exception("an answer failed")
            self._fail(answer_id, "llm service sent something that cannot be read", retryable=True)

    def _fail(self, answer_id: str, message: str, *, retryable: bool, retry_delay: float | None = None) -> None:
        self._tasks.pop(answer_id, None)
        self._feed(AnswerFailed(answer_id, message, retryable, retry_delay))
        if retryable:
            self._failed(Service.LLM)

    def _unique(self, call_id: str) -> str:
        """Models number the calls of each answer anew; in a session every id is used once."""
        wanted = call_id or "call"
        unique, count = wanted, 1
        while unique in self._call_ids or not unique:
            count += 1
            unique = f"{wanted}_{count}"
        self._call_ids.add(unique)
        return unique


def make_request(action: StartAnswer, plan: Plan) -> AnswerRequest:
    """What the model is asked."""
    options = action.options
    limit = options.max_output_tokens or plan.max_output_tokens or (SHORT_ANSWER_TOKENS if plan.compact else None)
    functions = options.shell if isinstance(options.shell, Functions) else plan.functions
    use = functions.use
    if use in (ToolUse.REQUIRED, ToolUse.NAMED) and action.messages and action.messages[-1].role is Role.TOOL:
        # The call that was demanded has been made; to demand it again would never end.
        use = ToolUse.AUTO
    return AnswerRequest(
        answer_id=action.answer_id,
        messages=compose(
            action.messages, action.cue, options.instructions or plan.prompt, plan, limit, functions.definitions
        ),
        tools=functions.definitions,
        tool_use=use,
        tool_name=functions.name if use is ToolUse.NAMED else "",
        max_output_tokens=limit,
        # A small model that begins a second paragraph has nothing more to say.
        stop_sequences=("\n\n",) if plan.compact else (),
        fresh=action.attempt > 1,
    )


def compose(
    messages: tuple[Message, ...],
    cue: Cue,
    prompt: str,
    plan: Plan,
    max_output_tokens: int | None = None,
    definitions: tuple[ToolDefinition, ...] = (),
) -> tuple[Message, ...]:
    """The system prompt and as much of the conversation as fits, ending with what the model is to answer."""
    said = list(messages)
    match cue:
        case Cue.GREETING if not said:
            said.append(Message(Role.USER, greeting(plan.language_code)))
        case Cue.SILENCE if plan.compact and said and said[-1].role is Role.USER:
            said[-1] = Message(Role.USER, SILENT)
        case Cue.GOODBYE:
            if said and said[-1].role is Role.USER:
                said.pop()
            said.append(Message(Role.USER, LEAVING if plan.compact else GOODBYE))
        case Cue.TOOL_RESULT if said and said[-1].role is Role.ASSISTANT:
            said.append(Message(Role.USER, RESULT))
        case _:
            pass
    context = plan.services.llm.context_tokens
    tools = sum(estimate_tokens(one.name + one.description + one.parameters_json_schema) for one in definitions)
    room = min(max_output_tokens or ANSWER_TOKENS, context // 2)
    system, shown = Message(Role.SYSTEM, prompt), examples(plan.compact, plan.language_code)
    room += sum(message_tokens(message) for message in shown)
    kept = trim((system, *said), context, room + tools)
    return (kept[0], *shown, *kept[1:])
