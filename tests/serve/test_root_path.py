"""Prefixes of paths: `root_path`, and a server that is mounted in another application."""

from __future__ import annotations

import json

import pytest
from alterbute.errors import InputError
from alterbute.serve.edge.root_path import check_root_path
from alterbute.serve.routes import ROUTES
from alterbute.serve.settings import ServerSettings
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.support.asgi import app_of, call
from tests.support.serving import RunningServer


@pytest.mark.parametrize("path", ["/v2/models/nope", "/v2/models/nope/infer", "/v2/repository/index", "/v2/", "/v2"])
def test_below_a_prefix_kserves_errors_keep_their_form(server: RunningServer, path: str) -> None:
    mounted = Starlette(routes=[Mount("/edit", app=app_of(server.context))])
    twice = Starlette(routes=[Mount("/v1", routes=[Mount("/v2", app=app_of(server.context))])])
    prefixed = app_of(server.context, root_path="/edit")
    host = ("host", "localhost")
    for app, url in ((mounted, f"/edit{path}"), (twice, f"/v1/v2{path}"), (prefixed, f"/edit{path}"), (prefixed, path)):
        reply = call(app, host, path=url, method="POST")
        assert reply.status in (404, 405)
        assert isinstance(json.loads(reply.body)["error"], str), url
        other = call(app, host, path=url.replace("/v2", "/v1") if app is not twice else "/v1/v2/nothing", method="POST")
        assert isinstance(json.loads(other.body)["error"], dict)


def test_a_prefix_may_be_kept_or_removed_by_the_proxy(server: RunningServer) -> None:
    app, host = app_of(server.context, root_path="/a/edit"), ("host", "localhost")
    for prefix in ("", "/a/edit"):
        for path in ("/v1/models", "/v2", "/health/live", "/metrics", "/openapi.json"):
            assert call(app, host, path=prefix + path).status == 200
    for path in (
        "/a/edit",
        "/a/edit/",
        "/a/editx/v1/models",
        "/a/v1/models",
        "/a/edit/a/edit/v1/models",
        "/edit/v1/models",
        "*",
    ):
        assert call(app, host, path=path).status == 404, path
    assert json.loads(call(app, host, path="/openapi.json").body)["servers"] == [{"url": "/a/edit"}]
    mounted = Starlette(routes=[Mount("/m", app=app)])
    assert json.loads(call(mounted, host, path="/m/openapi.json").body)["servers"] == [{"url": "/m"}]
    assert call(app_of(server.context, root_path="/a/edit", is_admin=True), host, path="/metrics").status == 200


def test_root_paths_that_are_refused() -> None:
    for root_path in (
        "edit",
        "/edit/",
        "/",
        "//edit",
        "/a//b",
        "/../x",
        "/a/..",
        "/.",
        "/a b",
        "/a%20b",
        "/a?b",
        "/é",
        "/v1",
        "/v2/x",
    ):
        with pytest.raises(InputError, match="root_path"):
            check_root_path(root_path)
    for first in {spec.path.split("/")[1] for spec in ROUTES}:
        with pytest.raises(InputError, match="its first part"):
            ServerSettings(root_path=f"/{first}")
    for root_path in ("", "/edit", "/a/b.c/d_e~f-g", "/v1x", "/..a"):
        assert ServerSettings(root_path=root_path).root_path == root_path
