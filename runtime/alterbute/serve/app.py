"""The ASGI application: routes, their error responses, and the middleware around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from alterbute.serve.guard import EdgeGuard
from alterbute.serve.http.error_response import ApiError
from alterbute.serve.middleware import RequestMiddleware
from alterbute.serve.routes import ADMIN_ROUTES, ROUTES, answer_error, make_route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from alterbute.serve.context import Context


def make_routes(context: Context, *, is_admin: bool = False) -> Starlette:
    """Build the Starlette application with its routes, without middleware."""

    async def answer_http_error(request: Request, fault: Exception) -> Response:
        status = fault.status_code if isinstance(fault, HTTPException) else 500
        messages = {
            404: ("there is nothing at this path", "not_found"),
            405: ("this path has another method", "method_not_allowed"),
        }
        message, code = messages.get(status, ("the request is malformed", "bad_request"))
        response = answer_error(request, ApiError(status, message, code, retry=False))
        if isinstance(fault, HTTPException):
            response.headers.update(fault.headers or {})
        return response

    app = Starlette(
        routes=[make_route(spec) for spec in (ADMIN_ROUTES if is_admin else ROUTES)],
        exception_handlers={HTTPException: answer_http_error},
    )
    app.router.redirect_slashes = False
    app.state.context = context
    return app


def make_app(context: Context, *, is_admin: bool = False) -> RequestMiddleware:
    """Build the ASGI application of a port.

    Args:
        context: The server's parts; the caller warms them up and closes them.
        is_admin: Whether it is the application of the admin port.
    """
    routes = make_routes(context, is_admin=is_admin)
    return RequestMiddleware(EdgeGuard(routes, context, is_admin=is_admin), context)
