"""The web application: the page, its small API and the WebSocket of each conversation."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from mesh.errors import MeshError, NotFoundError
from mesh.web.origin import same_origin
from mesh.web.sockets import AGAIN, POLICY, StarletteSocket
from ui import page
from ui.bridge import Bridge, describe, problem
from ui.gate import Gate
from ui.limits import Limits
from ui.orchestrator import Orchestrator
from ui.settings import UiSettings
from ui.tokens import Tokens
from ui.wire import dump

_log = logging.getLogger(__name__)


class _Panel(StaticFiles):
    """The panel's files; a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: UiSettings) -> FastAPI:
    """Returns the application; it connects to the orchestrator when it starts."""
    token = settings.orchestrator_token.get_secret_value() if settings.orchestrator_token else ""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.orchestrator = Orchestrator(settings.orchestrator, token)
        try:
            yield
        finally:
            await app.state.orchestrator.close()

    app = FastAPI(title="Unmute", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.tokens = Tokens()
    app.state.sessions = 0
    _add_api(app)
    _add_conversation(app, settings)
    app.mount("/panel", _Panel(directory=page.PANEL), name="panel")
    page.mount(app, settings.root_path)
    password = settings.password.get_secret_value() if settings.password else ""
    app.add_middleware(Gate, user=settings.user, password=password)
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
        try:
            return JSONResponse(await app.state.orchestrator.shown_characters(), headers={"Cache-Control": "no-store"})
        except MeshError as error:
            return JSONResponse(describe(error), 503)

    @app.get("/api/characters/{character_id}/sample.wav")
    async def sample(character_id: str) -> Response:
        try:
            return Response(await app.state.orchestrator.sample(character_id), media_type="audio/wav")
        except NotFoundError as error:
            return JSONResponse(describe(error), 404)
        except MeshError as error:
            return JSONResponse(describe(error), 503)


def _add_conversation(app: FastAPI, settings: UiSettings) -> None:
    @app.websocket("/converse")
    async def converse(websocket: WebSocket) -> None:
        if not same_origin(websocket.headers, settings.allowed_origins):
            # Closed before it is accepted: the browser sees a refused handshake.
            await websocket.close(POLICY)
            return
        await websocket.accept()
        socket = StarletteSocket(websocket)
        if app.state.sessions >= settings.max_sessions:
            reason = problem("full", "Everyone is talking already. Please try again soon.", retry=True, delay=5.0)
            await socket.send(dump("problem", reason))
            await socket.close(AGAIN, "full")
            return
        app.state.sessions += 1
        orchestrator: Orchestrator = app.state.orchestrator
        try:
            await Bridge(socket, orchestrator.stub, app.state.tokens, Limits(), orchestrator.address).run()
        finally:
            app.state.sessions -= 1
