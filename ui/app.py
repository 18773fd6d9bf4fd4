"""The web application: the page, its small API and the WebSocket of each conversation."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import Counter

from gateway.app import make_router
from mesh.errors import MeshError, NotFoundError
from mesh.metrics import Metrics
from mesh.web.clients import client_of
from mesh.web.metrics import WebMetrics, add_dropouts
from mesh.web.orchestrator import lifespan
from mesh.web.origin import same_origin
from mesh.web.sockets import POLICY, StarletteSocket
from ui import page
from ui.admission import Admission
from ui.bridge import Bridge, describe
from ui.gate import Gate
from ui.limits import Limits
from ui.orchestrator import Orchestrator
from ui.policy import ContentPolicy
from ui.settings import UiSettings, load_api_settings
from ui.tokens import Tokens

_log = logging.getLogger(__name__)


class _Panel(StaticFiles):
    """The panel's files; a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: UiSettings, metrics: Metrics | None = None) -> FastAPI:
    """Returns the application; it connects to the orchestrator when it starts.

    Args:
        settings: of the page.
        metrics: where its conversations are counted. None: nobody asks.
    """
    metrics = metrics or Metrics()
    token = settings.orchestrator_token.get_secret_value() if settings.orchestrator_token else ""

    connect = lifespan(lambda: Orchestrator(settings.orchestrator, token))
    app = FastAPI(title="Unmute", lifespan=connect, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.tokens = Tokens()
    admission = app.state.admission = Admission(settings.max_sessions)
    counts = WebMetrics(metrics, "page", limit=settings.max_sessions, active=lambda: admission.active)
    _add_api(app)
    _add_conversation(app, settings, counts, add_dropouts(metrics))
    open_prefix = _add_gateway(app, settings, metrics)
    app.mount("/panel", _Panel(directory=page.PANEL), name="panel")
    page.mount(app, settings.root_path)
    password = settings.password.get_secret_value() if settings.password else ""
    app.add_middleware(ContentPolicy, framed_by=settings.framed_by)
    app.add_middleware(Gate, user=settings.user, password=password, open_prefix=open_prefix)
    return app


def _add_api(app: FastAPI) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Says that the page is served, whatever the mesh does."""
        return {"status": "ok"}

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        services = await app.state.orchestrator.health()
        return {"ready": all(state == "ready" for state in services.values()), "services": services}

    @app.post("/api/token")
    async def token() -> Response:
        return JSONResponse({"token": app.state.tokens.issue()}, headers={"Cache-Control": "no-store"})

    @app.get("/api/characters")
    async def characters() -> Response:
        return await _listed(app.state.orchestrator.shown_characters())

    @app.get("/api/voices")
    async def voices() -> Response:
        return await _listed(app.state.orchestrator.shown_voices())

    @app.get("/api/characters/{character_id}/sample.wav")
    async def sample(character_id: str) -> Response:
        try:
            return Response(await app.state.orchestrator.sample(character_id), media_type="audio/wav")
        except NotFoundError as error:
            return JSONResponse(describe(error), 404)
        except MeshError as error:
            return JSONResponse(describe(error), 503)


async def _listed(found: Awaitable[list[dict[str, Any]]]) -> Response:
    try:
        return JSONResponse(await found, headers={"Cache-Control": "no-store"})
    except MeshError as error:
        return JSONResponse(describe(error), 503)


def _add_gateway(app: FastAPI, settings: UiSettings, metrics: Metrics) -> str:
    """Adds the OpenAI Realtime API, if it is to be there; returns the prefix of the paths that it guards itself."""
    api = load_api_settings(settings)
    if api is None:
        return ""
    if settings.user and api.api_keys is None:
        # What the page's login guards must not stand open beside it.
        _log.warning("no API below /v1: the page has a login, and the API no keys (UNMUTE_GATEWAY_API_KEYS)")
        return ""
    app.include_router(make_router(api, metrics))
    return "/v1/" if api.api_keys is not None else ""


def _add_conversation(app: FastAPI, settings: UiSettings, counts: WebMetrics, dropouts: Counter) -> None:
    @app.websocket("/converse")
    async def converse(websocket: WebSocket) -> None:
        if not same_origin(websocket.headers, settings.allowed_origins):
            # Closed before it is accepted: the browser sees a refused handshake.
            await websocket.close(POLICY)
            return
        await websocket.accept()
        socket = StarletteSocket(websocket)
        orchestrator: Orchestrator = app.state.orchestrator
        bridge = Bridge(
            socket,
            orchestrator.stub,
            app.state.tokens,
            Limits(),
            app.state.admission,
            client=client_of(websocket.client.host if websocket.client else None),
            address=orchestrator.address,
        )
        try:
            await bridge.run()
        finally:
            counts.ended(bridge.problem)
            dropouts.inc(bridge.dropouts)
