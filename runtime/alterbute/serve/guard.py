"""ASGI middleware that refuses what web pages of other sites make browsers send, and answers CORS for allowed origins."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from alterbute.serve.edge.hosts import Authority, is_loopback, parse_authority, parse_host_rules
from alterbute.serve.edge.origins import Origin, default_port, make_origin, parse_allowed_origins, parse_origin
from alterbute.serve.edge.root_path import is_kserve, set_root_path
from alterbute.serve.http.error_response import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from alterbute.serve.context import Context

_EXPOSED_HEADERS: Final = (
    "x-request-id",
    "traceparent",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-alterbute-queue-ms",
    "x-alterbute-compute-ms",
    "inference-header-content-length",
)
_MAX_SHOWN: Final = 80
_MAX_LISTED: Final = 3
_LOOPBACK: Final = ("localhost", "127.0.0.0/8", "[::1]")


class EdgeGuard:
    """Checks the `Host` and `Origin` of every request; the routes see only those that pass.

    A page can make a browser send requests to loopback, and to a name that resolves to it (DNS rebinding).

    Args:
        app: The application with the routes.
        context: The server's parts.
        is_admin: Whether this is the admin port: it answers requests to loopback only, and no page of another origin.
    """

    def __init__(self, app: ASGIApp, context: Context, *, is_admin: bool = False) -> None:
        settings = context.settings
        self._routes, self._context, self._is_admin = app, context, is_admin
        self._hosts = () if is_admin else parse_host_rules(settings.allowed_hosts)
        self._origins = frozenset() if is_admin else parse_allowed_origins(settings.allowed_origins)
        self._app: ASGIApp = self._answer
        if self._origins is None or self._origins:
            # Around the host check, so that an allowed page can read that refusal, too.
            self._app = CORSMiddleware(self._answer, **_cors_options(self._origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        set_root_path(scope, "" if self._is_admin else self._context.settings.root_path)
        refusal = self._check_origin(scope)
        await (self._app(scope, receive, send) if refusal is None else self._refuse(refusal, scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._check_host(scope)
        await (self._routes(scope, receive, send) if refusal is None else self._refuse(refusal, scope, receive, send))

    async def _refuse(self, refusal: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        scope["alterbute.error"] = refusal.code
        self._context.metrics.on_reject("auth")
        body = {"error": refusal.message} if is_kserve(scope) else refusal.body()
        await JSONResponse(body, refusal.status, headers=refusal.headers())(scope, receive, send)

    def _check_origin(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        own = _own_origin(scope)
        sent = headers.getlist("origin")
        if not sent:
            return self._check_fetch_site(headers, own)
        origin = parse_origin(sent[0]) if len(sent) == 1 else None
        if self._origins is None or (origin is not None and (origin == own or origin in self._origins)):
            return None
        if origin is None:
            fix = "of such pages, only allowed_origins = * allows any"
        else:
            fix = "add the origin to allowed_origins; behind a proxy that ends TLS or replaces Host, that is needed for the "
            fix += "proxy's own pages, too"
        return self._cross_origin(f"from a page of {_show(', '.join(sent))}", own, fix)

    def _check_fetch_site(self, headers: Headers, own: Origin | None) -> ApiError | None:
        """Refuse what another site's page embeds, such as an image, where the browser sends no `Origin`; links may be followed."""
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if self._origins is None or not is_foreign or headers.get("sec-fetch-mode") == "navigate":
            return None
        fix = "add that origin to allowed_origins, and let the page use fetch, which sends its Origin"
        return self._cross_origin("from a page of another origin (Sec-Fetch-Site), without Origin", own, fix)

    def _cross_origin(self, seen: str, own: Origin | None, fix: str) -> ApiError:
        allowed = _list_some([str(own)] if own else [], sorted(map(str, self._origins or ())))
        if self._is_admin:
            fix = "the administrator's port is for this machine's own tools"
        return _forbid("cross_origin", f"the request comes {seen}; expected {allowed or 'no Origin'}; {fix}")

    def _check_host(self, scope: Scope) -> ApiError | None:
        sent = Headers(scope=scope).getlist("host")
        authority = _requested_host(scope)
        if authority is None and (len(sent) > 1 or any(sent)):
            return ApiError(
                400,
                f"the request's Host is {_show(', '.join(sent))}; expected one host name or address, and a port; correct the header Host",
                "host_malformed",
                retry=False,
            )
        is_protected = self._context.settings.insecure or not self._context.keyring.is_open
        if is_protected and not self._hosts and not self._is_admin:
            return None
        if self._is_allowed(authority, scope):
            return None
        shown = "missing" if authority is None else _show(sent[0])
        allowed = _list_some(_LOOPBACK, [rule.text for rule in self._hosts])
        if self._is_admin:
            fix = "use the administrator's port from this machine"
        elif authority is None:
            fix = "send the header Host, or set allowed_hosts = *"
        else:
            fix = "add the host to allowed_hosts" + ("" if is_protected else ", or require API keys (api_key_file)")
            fix += "; nginx sends the name in proxy_pass as Host, and the client's after 'proxy_set_header Host $host'"
        return _forbid("host_not_allowed", f"the request's Host is {shown}; expected {allowed}; {fix}")

    def _is_allowed(self, authority: Authority | None, scope: Scope) -> bool:
        if authority is None:
            return any(rule.text == "*" for rule in self._hosts)
        port = default_port(scope.get("scheme", "http")) or 0
        return is_loopback(authority.host) or any(rule.matches(authority, port) for rule in self._hosts)


def _forbid(code: str, message: str) -> ApiError:
    return ApiError(403, message, code, retry=False)


def _requested_host(scope: Scope) -> Authority | None:
    """The host that a request names; None if `Host` is missing, malformed, or there are several."""
    sent = Headers(scope=scope).getlist("host")
    return parse_authority(sent[0]) if len(sent) == 1 else None


def _own_origin(scope: Scope) -> Origin | None:
    """The origin of pages that this server would send in answer to the request."""
    authority = _requested_host(scope)
    return None if authority is None else make_origin(scope.get("scheme", "http"), authority)


def _cors_options(origins: frozenset[Origin] | None) -> dict[str, Any]:
    """Arguments of Starlette's CORS middleware: a key is sent in a header that pages set, so no credentials of browsers."""
    options: dict[str, Any] = {
        "allow_origins": ["*"] if origins is None else [str(origin) for origin in origins],
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["*"],  # OpenAI's client sends a dozen of its own
        "expose_headers": _EXPOSED_HEADERS,
    }
    # Newer versions refuse Chrome's question about local networks unless they are asked not to.
    if "allow_private_network" in inspect.signature(CORSMiddleware).parameters:
        options["allow_private_network"] = True
    return options


def _show(text: str) -> str:
    """A client's text in printable ASCII and quotes, cut after 80 characters."""
    printable = "".join(char if " " <= char <= "~" else "?" for char in text[:_MAX_SHOWN])
    return f"'{printable}...'" if len(text) > _MAX_SHOWN else f"'{printable}'"


def _list_some(first: Iterable[str], more: Sequence[str]) -> str:
    """A list in words, `a, b or c`; of `more`, a few and the number of the others."""
    shown = [*first, *more[:_MAX_LISTED]]
    if len(more) > _MAX_LISTED:
        shown.append(f"{len(more) - _MAX_LISTED} more")
    return " or ".join([", ".join(shown[:-1]), *shown[-1:]]) if len(shown) > 1 else "".join(shown)
