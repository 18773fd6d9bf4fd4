"""The gateway over HTTP: the WebSocket, and what a client asks before it opens one."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter, ValidationError

from gateway import dialects, parse
from gateway.auth import DEFAULT_SECONDS, Access, AccessError, Grant, credential
from gateway.beta import asks_for_beta
from gateway.errors import EventError, from_mesh, unsupported
from gateway.limits import Places
from gateway.schema.secrets import SecretRequest
from gateway.session import Opening, RealtimeSession
from gateway.settings import ApiSettings, GatewaySettings
from gateway.translate import session
from gateway.unmute.session import UnmuteSession
from gateway.voices import Voices, listed
from mesh.errors import MeshError, ResourceExhaustedError
from mesh.metrics import Metrics
from mesh.secrets import split_tokens
from mesh.web.clients import client_of
from mesh.web.metrics import WebMetrics
from mesh.web.orchestrator import Orchestrator, lifespan
from mesh.web.origin import same_origin
from mesh.web.sockets import StarletteSocket

_SECRET_REQUEST: TypeAdapter[SecretRequest] = TypeAdapter(SecretRequest)
_FOREIGN = EventError("Pages of this origin may not connect without a key.", "origin_not_allowed")
MAX_SECRET_REQUEST_BYTES = 1_048_576
_NO_STORE = {"Cache-Control": "no-store"}


def create_app(settings: GatewaySettings, metrics: Metrics | None = None) -> FastAPI:
    """Returns the gateway as an application of its own; it connects to the orchestrator when it starts.

    Args:
        settings: of the gateway.
        metrics: where its sessions are counted. None: nobody asks.
    """
    token = settings.orchestrator_token.get_secret_value() if settings.orchestrator_token else ""

    connect = lifespan(lambda: Orchestrator(settings.orchestrator, token))
    app = FastAPI(title="Unmute", lifespan=connect, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Says that the gateway serves, whatever the mesh does."""
        return {"status": "ok"}

    app.include_router(make_router(settings, metrics))
    return app


def make_router(settings: ApiSettings, metrics: Metrics | None = None) -> APIRouter:
    """Returns the routes below `/v1`, for an application whose `state.orchestrator` is an `Orchestrator`."""
    api = _Api(settings, metrics or Metrics())
    router = APIRouter(prefix="/v1")
    router.add_api_websocket_route("/realtime", api.realtime)
    router.add_api_route("/realtime/client_secrets", api.client_secrets, methods=["POST"])
    router.add_api_route("/realtime/{rest:path}", api.unsupported, methods=["GET", "POST"])
    router.add_api_route("/health", api.health, methods=["GET"])
    router.add_api_route("/voices", api.voices, methods=["GET"])
    router.add_api_route("/voices", api.clone_voice, methods=["POST"])
    router.add_api_route("/characters", api.characters, methods=["GET"])
    return router


class _Api:
    """The routes, and what they share."""

    def __init__(self, settings: ApiSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._counts = WebMetrics(metrics, "gateway", limit=settings.max_sessions, active=lambda: self._places.active)
        keys = split_tokens(settings.api_keys.get_secret_value()) if settings.api_keys else ()
        self._access = Access(keys)
        self._places = Places(settings.max_sessions, settings.max_sessions_per_key)
        self._voices = Voices()

    # ------------------------------------------------------------ the WebSocket

    async def realtime(self, websocket: WebSocket) -> None:
        """Holds a session."""
        protocols = list(websocket.scope.get("subprotocols", ()))
        try:
            grant = self._admit(websocket, protocols)
        except AccessError as error:
            await websocket.send_denial_response(_refusal(from_mesh(error), 401))
            return
        if self._is_foreign(websocket, grant):
            await websocket.send_denial_response(_refusal(_FOREIGN, 403))
            return
        query = websocket.query_params
        if "call_id" in query:
            other = unsupported("call_id", "Calls over SIP and WebRTC are not supported: use a WebSocket")
            await websocket.send_denial_response(_refusal(other, 400))
            return
        await websocket.accept(dialects.PROTOCOL if dialects.PROTOCOL in protocols else None)
        opening = Opening(
            grant,
            client=client_of(websocket.client.host if websocket.client else None),
            model=query.get("model", "")[:256],
            beta=asks_for_beta(websocket.headers.get("openai-beta", ""), protocols),
            transcription=query.get("intent") == "transcription",
        )
        socket = StarletteSocket(websocket)
        first: list[str | bytes] = []
        if dialects.may_be_unmute(protocols, keyed=grant.keyed, model=opening.model):
            first = await _first_words(socket)
        await self._converse(socket, websocket.app.state.orchestrator, opening, first)

    async def _converse(
        self, socket: StarletteSocket, orchestrator: Orchestrator, opening: Opening, first: list[str | bytes]
    ) -> None:
        realtime: RealtimeSession | UnmuteSession
        if first and dialects.is_unmute(first[0]):
            realtime = UnmuteSession(socket, orchestrator, self._voices, self._settings, opening.client)
        else:
            realtime = RealtimeSession(socket, orchestrator, self._voices, self._settings, opening)
        try:
            with self._places.take(opening.grant.owner):
                await realtime.run(first)
        except ResourceExhaustedError as error:
            await realtime.part(error)
        finally:
            self._counts.ended(realtime.parted_for)

    def _admit(self, connection: Request | WebSocket, protocols: list[str] | None = None) -> Grant:
        return self._access.admit(credential(connection.headers, protocols or ()))

    def _is_foreign(self, connection: Request | WebSocket, grant: Grant) -> bool:
        """A page of another site has sent it; whoever has a key may use it from any page."""
        return not grant.keyed and not same_origin(connection.headers, self._settings.allowed_origins)

    # ------------------------------------------------------------ HTTP

    async def health(self, request: Request) -> Response:
        """Says what of the mesh is up; nobody needs a key for it."""
        states = await request.app.state.orchestrator.health()
        up = {f"{name}_up": states.get(name) == "ready" for name in ("tts", "stt", "llm", "orchestrator")}
        return JSONResponse({**up, "voice_cloning_up": False, "ok": all(up.values())}, headers=_NO_STORE)

    async def voices(self, request: Request) -> Response:
        """Lists the voices of the mesh."""
        return await self._listed(request, self._list_voices)

    async def clone_voice(self, request: Request) -> Response:
        """Refuses what Unmute's clients may offer: no engine here makes a voice from a recording."""
        return _refusal(EventError("Voices are not cloned here.", "unsupported"), 501)

    async def characters(self, request: Request) -> Response:
        """Lists the characters of the mesh, whose ids are prompts."""
        return await self._listed(request, self._list_characters)

    async def client_secrets(self, request: Request) -> Response:
        """Makes a client secret."""
        try:
            grant = self._admit(request)
            if self._is_foreign(request, grant):
                return _refusal(_FOREIGN, 403)
            body = await _body(request, MAX_SECRET_REQUEST_BYTES)
            wanted = _read_secret_request(body)
            change = session.Change(session.default_config(self._settings.instructions), session.Choices())
            if wanted.session is not None:
                change = session.change(change.config, change.choices, wanted.session, change.config)
            seconds = wanted.expires_after.seconds if wanted.expires_after else DEFAULT_SECONDS
            value, expires_at = self._access.make_secret(grant, wanted.session, seconds, len(body))
        except AccessError as error:
            return _refusal(from_mesh(error), 401)
        except ResourceExhaustedError as error:
            return _refusal(from_mesh(error), 429)
        except EventError as error:
            return _refusal(error, 400)
        shown = session.show(change.config, change.choices, f"sess_{secrets.token_hex(12)}", expires_at)
        return JSONResponse({"value": value, "expires_at": expires_at, "session": shown}, headers=_NO_STORE)

    async def unsupported(self, request: Request) -> Response:
        """Refuses what OpenAI has beside sessions over WebSockets."""
        error = EventError("Calls over WebRTC and SIP, and translation, are not supported here.", "unsupported")
        return _refusal(error, 404)

    async def _listed(self, request: Request, find: Any) -> Response:
        try:
            self._admit(request)
            return JSONResponse(await find(request.app.state.orchestrator), headers=_NO_STORE)
        except AccessError as error:
            return _refusal(from_mesh(error), 401)
        except MeshError as error:
            return _refusal(from_mesh(error), 503)

    async def _list_voices(self, orchestrator: Orchestrator) -> list[dict[str, Any]]:
        return listed(await orchestrator.voices(), await orchestrator.characters())

    async def _list_characters(self, orchestrator: Orchestrator) -> list[dict[str, Any]]:
        return [
            {
                "id": character.id,
                "name": character.display_name,
                "voice": character.voice_id,
                "language": character.instructions.language_code,
                "attribution": character.attribution,
            }
            for character in await orchestrator.characters()
        ]


async def _first_words(socket: StarletteSocket) -> list[str | bytes]:
    """What a client says before anything is said to it; nothing if it waits, or has left."""
    with suppress(TimeoutError):
        async with asyncio.timeout(dialects.SPEAK_FIRST_SECONDS):
            message = await socket.receive()
            return [] if message is None else [message]
    return []


async def _body(request: Request, most: int) -> str:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise EventError(f"The request is longer than {most} bytes.", "invalid_request")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise EventError("The request is not valid UTF-8.", "invalid_json") from None


def _read_secret_request(body: str) -> SecretRequest:
    if not body.strip():
        return SecretRequest()
    raw = parse.load(body)
    try:
        return _SECRET_REQUEST.validate_python(raw)
    except ValidationError as error:
        raise parse.explain(error, raw) from None


def _refusal(error: EventError, status: int) -> Response:
    body = error.body()
    del body["event_id"]
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"error": body}, status, {**headers, **_NO_STORE})
