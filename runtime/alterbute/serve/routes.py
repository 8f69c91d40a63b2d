"""The route table: every path with its access and endpoint; a path that is not listed here gives 404."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from alterbute.serve import health
from alterbute.serve.edge.root_path import is_kserve
from alterbute.serve.http.error_response import ApiError, as_api_error
from alterbute.serve.http.request_body import ClientGone
from alterbute.serve.kserve import infer_endpoint
from alterbute.serve.openai import edits_endpoint, models

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context

_logger = logging.getLogger(__name__)

Endpoint: TypeAlias = "Callable[[Request], Awaitable[Response]]"
Access: TypeAlias = Literal["open", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A path, its method, and whether it needs an API key where there are keys."""

    path: str
    method: Literal["GET", "POST"]
    access: Access
    endpoint: Endpoint


ROUTES: tuple[RouteSpec, ...] = (
    RouteSpec(path="/health/live", method="GET", access="open", endpoint=health.live),
    RouteSpec(path="/health/ready", method="GET", access="open", endpoint=health.ready),
    RouteSpec(path="/metrics", method="GET", access="key", endpoint=health.metrics),
    RouteSpec(path="/openapi.json", method="GET", access="key", endpoint=models.openapi),
    RouteSpec(path="/v1/models", method="GET", access="key", endpoint=models.list_models),
    RouteSpec(path="/v1/models/{model}", method="GET", access="key", endpoint=models.get_model),
    RouteSpec(path="/v1/images/edits", method="POST", access="key", endpoint=edits_endpoint.edit_images),
    RouteSpec(path="/v2", method="GET", access="key", endpoint=infer_endpoint.server_metadata),
    RouteSpec(path="/v2/health/live", method="GET", access="open", endpoint=health.live),
    RouteSpec(path="/v2/health/ready", method="GET", access="open", endpoint=health.ready),
    RouteSpec(path="/v2/models/{model}", method="GET", access="key", endpoint=infer_endpoint.model_metadata),
    RouteSpec(path="/v2/models/{model}/ready", method="GET", access="key", endpoint=infer_endpoint.model_ready),
    RouteSpec(path="/v2/models/{model}/infer", method="POST", access="key", endpoint=infer_endpoint.infer),
    RouteSpec(
        path="/v2/models/{model}/versions/{version}", method="GET", access="key", endpoint=infer_endpoint.model_metadata
    ),
    RouteSpec(
        path="/v2/models/{model}/versions/{version}/ready",
        method="GET",
        access="key",
        endpoint=infer_endpoint.model_ready,
    ),
    RouteSpec(
        path="/v2/models/{model}/versions/{version}/infer", method="POST", access="key", endpoint=infer_endpoint.infer
    ),
)
"""The routes of the server's port."""

ADMIN_ROUTES: tuple[RouteSpec, ...] = (
    RouteSpec(path="/health/live", method="GET", access="open", endpoint=health.live),
    RouteSpec(path="/health/ready", method="GET", access="open", endpoint=health.ready),
    RouteSpec(path="/metrics", method="GET", access="open", endpoint=health.metrics),
)
"""The routes of the admin port, on loopback only."""


def make_route(spec: RouteSpec) -> Route:
    """Make a route that checks the API key and answers errors in the form of its API."""

    async def answer(request: Request) -> Response:
        request.scope["alterbute.endpoint"] = spec.path
        try:
            request.state.key = _check_key(request, spec.access)
            return await spec.endpoint(request)
        except ClientGone:
            return Response(status_code=499)
        except Exception as fault:
            return answer_error(request, fault)

    return Route(spec.path, answer, methods=[spec.method], name=f"{spec.method} {spec.path}")


def answer_error(request: Request, fault: Exception) -> Response:
    """The response to an error; an internal error is logged with its traceback."""
    context: Context = request.app.state.context
    error = as_api_error(fault)
    if error.status == 500:
        _logger.error(
            "a request failed", exc_info=fault, extra={"request_id": request.scope.get("alterbute.request_id")}
        )
    if error.reason is not None:
        context.metrics.on_reject(error.reason)
    request.scope["alterbute.error"] = error.code
    # KServe's clients expect a string, OpenAI's an object.
    body = {"error": error.message} if is_kserve(request.scope) else error.body()
    return JSONResponse(body, error.status, headers=error.headers())


def _check_key(request: Request, access: Access) -> str:
    """The name of the request's key.

    Raises:
        ApiError: keys are configured, and the request has none of them.
    """
    context: Context = request.app.state.context
    if access == "open" or context.keyring.is_open:
        return "anonymous"
    key = context.keyring.find(request.headers.get("authorization"))
    if key is None:
        raise ApiError(
            401,
            "the API key is missing or wrong; send it as Authorization: Bearer KEY",
            "invalid_api_key",
            retry=False,
            reason="auth",
        )
    request.scope["alterbute.key"] = key.name
    return key.name
