"""The outermost layer: request ids, security headers, a log line and metrics per request, and a write timeout."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders

from alterbute.serve.logs import ACCESS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from alterbute.serve.context import Context

_logger = logging.getLogger(__name__)
_REQUEST_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_TRACE_PARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class RequestMiddleware:
    """ASGI middleware around the routes.

    Args:
        app: The application with the routes, behind `EdgeGuard`.
        context: The server's parts.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, headers = time.perf_counter(), Headers(scope=scope)
        request_id = _read_header(headers, "x-request-id", _REQUEST_ID) or uuid.uuid4().hex
        trace = _read_header(headers, "traceparent", _TRACE_PARENT)
        scope["alterbute.request_id"] = request_id
        status, size_bytes = 499, 0

        async def send_limited(message: Message) -> None:
            nonlocal status, size_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(raw=message["headers"]), request_id, trace)
            size_bytes += len(message.get("body", b""))
            # Without a timeout a client that does not read its response would keep it in memory for ever.
            await asyncio.wait_for(send(message), self._context.settings.write_timeout_s)

        self._context.num_open += 1
        try:
            await self._app(scope, receive, send_limited)
        except TimeoutError:
            scope["alterbute.error"], status = "client_reads_too_slowly", 499
        except Exception:
            _logger.exception("a request failed outside its route", extra={"request_id": request_id})
            status = 500
            raise
        finally:
            self._context.num_open -= 1
            self._report(scope, status, time.perf_counter() - start, size_bytes, trace)

    def _add_headers(self, headers: MutableHeaders, request_id: str, trace: str | None) -> None:
        headers["x-request-id"] = request_id
        headers["x-content-type-options"] = "nosniff"
        headers["cache-control"] = "no-store"
        if trace is not None:
            headers["traceparent"] = trace
        if self._context.is_stopping:  # clients should open their next connection elsewhere
            headers["connection"] = "close"

    def _report(self, scope: Scope, status: int, seconds: float, size_bytes: int, trace: str | None) -> None:
        endpoint = scope.get("alterbute.endpoint", "other")
        self._context.metrics.on_response(endpoint=endpoint, status=status, seconds=seconds, size_bytes=size_bytes)
        ACCESS.info(
            "request",
            extra={
                "request_id": scope["alterbute.request_id"],
                "method": scope["method"] if scope["method"].isalpha() else "?",
                "endpoint": endpoint,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "bytes": size_bytes,
                **({"key": scope["alterbute.key"]} if "alterbute.key" in scope else {}),
                **({"error": scope["alterbute.error"]} if "alterbute.error" in scope else {}),
                **({"trace": trace} if trace else {}),
            },
        )


def _read_header(headers: Headers, name: str, pattern: re.Pattern[str]) -> str | None:
    """A header's value; None if the header is absent or its value does not match."""
    value = headers.get(name)
    return value if value is not None and pattern.fullmatch(value) else None
