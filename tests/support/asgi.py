"""Requests straight to the ASGI application of a running server's parts, with exactly the headers that a test gives."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

from alterbute.serve.app import make_app
from alterbute.serve.context import Context
from alterbute.serve.http.auth import open_keyring
from alterbute.serve.settings import ServerSettings

KEY = "correct horse"
PAGE = "https://edit.example.com"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of an ASGI application."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object of OpenAI's API."""
        return dict(json.loads(self.body)["error"])


def call(
    app: Any, *headers: tuple[str, str], method: str = "GET", path: str = "/v1/models", scheme: str = "http"
) -> Reply:
    """Send a request straight to an ASGI application, with exactly these headers."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": scheme}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": raw}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {}}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return Reply(sent[0]["status"], {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}, body)


def app_of(context: Context, *, key: str | None = None, is_admin: bool = False, **settings: Any) -> Any:
    """The application of a running server's parts with other settings."""
    changed = ServerSettings(api_key=key, **settings)
    return make_app(replace(context, settings=changed, keyring=open_keyring(key, None)), is_admin=is_admin)
