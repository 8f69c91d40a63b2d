"""The route table: every route is listed, requires a key as listed, and is in the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from alterbute.serve.app import make_app, make_routes
from alterbute.serve.openai.openapi import make_document
from alterbute.serve.routes import ADMIN_ROUTES, ROUTES
from starlette.routing import Route

from tests.support.serving import RunningServer, serving

# Repeated here, so that opening a route without a key takes two deliberate changes.
OPEN = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with an API key."""
    with serving(tiny_bundle, api_key="correct horse") as running:
        yield running


def fill_path(path: str, model: str) -> str:
    """A route's path with model and version filled in."""
    return path.replace("{model}", model).replace("{version}", "1")


def test_the_application_has_the_listed_routes_and_no_other(server: RunningServer) -> None:
    app = make_routes(server.context)
    assert all(isinstance(route, Route) for route in app.routes)
    routes = {
        (route.path, method)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert routes == {(spec.path, spec.method) for spec in ROUTES}
    assert {spec.path for spec in ROUTES if spec.access == "open"} == OPEN
    assert {spec.path for spec in ADMIN_ROUTES} == {"/health/live", "/health/ready", "/metrics"}


def test_every_guarded_route_needs_the_key_and_every_open_one_does_not(guarded: RunningServer) -> None:
    app, client = make_routes(guarded.context), httpx.Client()
    for route in app.routes:
        assert isinstance(route, Route)
        method = next(iter((route.methods or set()) - {"HEAD"}))
        url = guarded.url + fill_path(route.path, guarded.context.model)
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic correct horse"},
            {"x-api-key": "correct horse"},
        ):
            reply = client.request(method, url, headers=headers)
            assert (reply.status_code == 401) == (route.path not in OPEN), (route.path, headers)
            assert ("www-authenticate" in reply.headers) == (route.path not in OPEN)
        assert client.request(method, url, headers={"authorization": "Bearer correct horse"}).status_code != 401


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/redoc",
        "/invocations",
        "/ping",
        "/v1",
        "/v2/repository/index",
        "/metrics/",
        "/debug",
        "//health/live",
    ],
)
def test_any_other_path_is_a_404(server: RunningServer, path: str) -> None:
    client = httpx.Client()
    for method in ("GET", "POST", "PUT", "DELETE"):
        reply = client.request(method, server.url + path)
        assert reply.status_code == 404
        assert "error" in reply.json()


def test_another_method_is_a_405_with_an_error_body(server: RunningServer) -> None:
    client = httpx.Client()
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        reply = client.request(method, f"{server.url}/v1/images/edits")
        assert reply.status_code == 405
        assert reply.json()["error"]["code"] == "method_not_allowed"


def test_the_document_describes_every_route(server: RunningServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document == make_document(server.context.model)
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == {(spec.path, spec.method) for spec in ROUTES}


def test_health_and_metrics_are_open_on_the_admin_port_only(guarded: RunningServer) -> None:
    async def read_statuses() -> list[int]:
        transport = httpx.ASGITransport(app=make_app(guarded.context, is_admin=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [(await client.get(path)).status_code for path in ("/metrics", "/health/ready", "/v1/models")]

    assert asyncio.run(read_statuses()) == [200, 200, 404]
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401


def test_metrics_keep_their_names(server: RunningServer) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    for name in (
        *(
            "alterbute_requests_total",
            "alterbute_requests_rejected_total",
            "alterbute_requests_running",
            "alterbute_requests_waiting",
        ),
        *(
            "alterbute_request_duration_seconds",
            "alterbute_queue_duration_seconds",
            "alterbute_stage_duration_seconds",
            "alterbute_steps_total",
        ),
        *(
            "alterbute_cancelled_total",
            "alterbute_batch_size",
            "alterbute_device_faults_total",
            "alterbute_bundle_info",
        ),
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in text or f"# TYPE {name}" in text, name
