"""The application and its server: every route passes `access.Gate` before it is called."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from jupyter_aios import errors
from jupyter_aios.controller.access import Gate, PeerProtocol
from jupyter_aios.controller.keeper import Keeper
from jupyter_aios.controller.rights import Rights
from jupyter_aios.controller.routes import ENDPOINTS, reply
from jupyter_aios.controller.rules import RULES
from jupyter_aios.controller.safe_routes import SAFE_ENDPOINTS
from jupyter_aios.controller.secrets import Secrets
from jupyter_aios.controller.serving import Serving
from jupyter_aios.core import version
from jupyter_aios.core.wire import VERSION_HEADER, ErrorBody

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from jupyter_aios.controller.service import Service

log = logging.getLogger(__name__)

STATUS = {
    errors.UnknownNameError: 404,
    errors.InputError: 422,
    errors.CapacityError: 409,
    errors.DeniedError: 403,
    errors.StateError: 409,
    errors.LockedError: 423,
    errors.StorageError: 507,
    errors.UnavailableError: 503,
    errors.VersionError: 426,
}


@dataclass(frozen=True)
class Safe:
    """What stands behind `safe_routes`."""

    keeper: Keeper
    secrets: Secrets
    rights: Rights
    serving: Serving


def create_app(service: Service, gate: Gate, safe: Safe) -> FastAPI:
    """Return the application; `create_server` serves it."""
    app = FastAPI(
        title="jupyter_aios controller",
        version=version.__version__,
        # FastAPI's own pages would pass no gate; the description is a route like the others.
        openapi_url=None,
    )
    app.router.route_class = _guarded(gate)
    for method, path, endpoint, model in (*ENDPOINTS, *SAFE_ENDPOINTS):
        app.add_api_route(path, endpoint, methods=[method], response_model=model)
    app.state.service = service
    for field in fields(safe):
        setattr(app.state, field.name, getattr(safe, field.name))
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_no_route)
    return app


def create_server(app: FastAPI, watch: Callable[[], None] | None = None) -> uvicorn.Server:
    """Return a server for `serve(sockets=…)` that knows its peers and tells its version.

    `watch` is called about once a second.
    """

    async def notify() -> None:
        if watch is not None:
            watch()

    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Else a header could say who asks, where FORWARDED_ALLOW_IPS is set.
        proxy_headers=False,
        headers=[(VERSION_HEADER, version.__version__)],
        timeout_graceful_shutdown=3,
        callback_notify=notify,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    app.state.server = server
    return server


def errorreply(error: BaseException) -> Response:
    """Return the reply that the client raises again as the same class."""
    if not isinstance(error, errors.AiosError):
        log.error("internal error", exc_info=error)
        message = f"internal error in the controller ({type(error).__name__})"
        error = errors.AiosError(message, hint="see controller.log in the home folder")
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    return reply(ErrorBody(type(error).__name__, error.message, error.hint), status)


async def _on_bad_request(_request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    told = [f"{'.'.join(str(part) for part in f['loc'][1:])}: {f['msg']}" for f in faults]
    return errorreply(errors.InputError.of_faults(told, hint="see /v1/openapi.json"))


async def _on_no_route(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    ours = errors.VersionError(
        f"this controller ({version.__version__}) does not know"
        f" {request.method} {request.url.path}",
        hint="use the same version of jupyter-aios on both sides",
    )
    response = errorreply(ours)
    response.status_code = code
    return response


def _guarded(gate: Gate) -> type[APIRoute]:
    """Return a route class whose every instance has a rule and asks the gate first."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            rule = RULES[min(self.methods or ""), self.path]

            async def guarded(request: Request) -> Response:
                gate.in_flight += 1
                try:
                    admission = await run_in_threadpool(
                        gate.admit, rule, request.scope, request.path_params
                    )
                    request.state.admission = admission
                    try:
                        return await handle(request)
                    except errors.DeniedError as error:
                        # A quota, a job's secret, a wrong key: what only the deed itself can know.
                        told = rule, admission.actor, request.path_params, error.message
                        await run_in_threadpool(gate.note_refused, *told)
                        raise
                except (RequestValidationError, HTTPException):
                    raise
                except Exception as error:  # noqa: BLE001 - error_reply logs what is not ours
                    return errorreply(error)
                finally:
                    gate.in_flight -= 1
                    gate.last_request_at = time.monotonic()

            return guarded

    return GuardedRoute
