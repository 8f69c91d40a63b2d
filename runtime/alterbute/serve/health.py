"""Health endpoints and metrics: liveness, readiness, Prometheus text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from alterbute.serve.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context


async def live(request: Request) -> Response:
    """200 while the event loop answers and no worker is broken or stuck; otherwise the process should be restarted."""
    context: Context = request.app.state.context
    reason = context.service.failure_reason()
    return JSONResponse({"status": "live" if reason is None else reason}, 200 if reason is None else 503)


async def ready(request: Request) -> Response:
    """200 when a request would be accepted: warmed up, not draining, and room in the queue."""
    reason = unready_reason(request.app.state.context)
    return JSONResponse({"status": "ready" if reason is None else reason}, 200 if reason is None else 503)


async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    context: Context = request.app.state.context
    return Response(context.metrics.render(), media_type=CONTENT_TYPE)


def unready_reason(context: Context) -> str | None:
    """Why the server would refuse a request now, as one word; None if it would accept one."""
    if context.service.is_draining or context.is_stopping:
        return "draining"
    if not context.is_ready:
        return "warming_up"
    return context.service.failure_reason() or ("queue_full" if context.service.is_full else None)
