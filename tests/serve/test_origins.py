"""Origins: which pages may use the server, what CORS answers them, and refusals that name their cure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from alterbute.errors import InputError
from alterbute.serve.edge.origins import parse_allowed_origins, parse_origin

from tests.support.asgi import KEY, PAGE, app_of, call
from tests.support.serving import RunningServer, edit_files, serving

ORIGINS: list[tuple[str, str, bool]] = [
    ("localhost:8000", "http://localhost:8000", True),
    ("LOCALHOST:8000", "HTTP://localhost:8000", True),
    ("127.0.0.1", "http://127.0.0.1:80", True),
    ("127.0.0.1:80", "http://127.0.0.1", True),
    ("[::1]:8000", "http://[0::1]:8000", True),
    ("localhost:8000", "http://localhost:3000", False),
    ("localhost:8000", "http://localhost", False),
    ("localhost:8000", "https://localhost:8000", False),
    ("localhost:443", "https://localhost", False),
    ("localhost:8000", "http://127.0.0.1:8000", False),
    ("127.0.0.1:8000", "http://[::1]:8000", False),
    ("localhost:8000", "null", False),
    ("localhost:8000", "", False),
    ("localhost:8000", "localhost:8000", False),
    ("localhost:8000", "http://localhost:8000/", False),
    ("localhost:8000", "http://evil.com@localhost:8000", False),
    ("localhost:8000", "http://localhost:8000@evil.com", False),
    ("localhost:8000", "http://localhost:8000 http://evil.com", False),
    ("localhost:8000", "http://localhost:8000.evil.com", False),
    ("localhost:8000", "http://localhost.evil.com:8000", False),
    ("localhost:8000", "http://LOCALHOST.:8001", False),
    ("localhost:8000", "file://", False),
    ("localhost:8000", "chrome-extension://abcdef", False),
    ("localhost:8000", "http:localhost:8000", False),
    ("localhost:8000", "http://", False),
]


@pytest.mark.parametrize(("host", "origin", "is_own"), ORIGINS)
def test_a_page_of_another_origin_is_refused(server: RunningServer, host: str, origin: str, is_own: bool) -> None:
    app = app_of(server.context, key=KEY)
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/images/edits"),
        ("OPTIONS", "/v1/images/edits"),
        ("GET", "/health/live"),
    ):
        reply = call(app, ("host", host), ("origin", origin), method=method, path=path)
        assert (reply.status != 403) == is_own, method
        assert "access-control-allow-origin" not in reply.headers
        if not is_own:
            assert (reply.error["code"], reply.error["type"]) == ("cross_origin", "permission_error")
    assert call(app, ("host", host), ("origin", origin), ("origin", origin)).status == 403


def test_nothing_that_a_proxy_forwards_changes_the_own_origin(server: RunningServer) -> None:
    forged = [
        (f"x-forwarded-{name}", value) for name, value in (("host", "evil.com"), ("proto", "https"), ("port", "443"))
    ]
    forged.append(("forwarded", "host=evil.com;proto=https"))
    app = app_of(server.context)
    assert call(app, ("host", "localhost"), ("origin", "http://evil.com"), *forged).status == 403
    assert call(app, ("host", "localhost"), ("origin", "https://localhost"), *forged).status == 403
    assert call(app, ("host", "evil.com"), ("x-forwarded-host", "localhost")).status == 403
    headers = {
        "x-forwarded-proto": "https",
        "x-forwarded-for": "1.2.3.4",
        "origin": server.url.replace("http:", "https:"),
    }
    assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 403


def test_what_other_pages_embed_is_refused_and_links_may_be_followed(server: RunningServer) -> None:
    app, host = app_of(server.context), ("host", "localhost:8000")
    for site, mode, status in (
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ):
        assert call(app, host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)).status == status, (site, mode)
    headers = (host, ("sec-fetch-site", "cross-site"), ("origin", PAGE))
    assert call(app_of(server.context, allowed_origins=(PAGE,)), *headers).status == 200


@pytest.fixture(scope="module")
def shared(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with a key that a page of another origin may use."""
    with serving(tiny_bundle, api_key=KEY, allowed_origins=(PAGE, "http://localhost:3000")) as running:
        yield running


def test_an_allowed_page_gets_answers_errors_and_streams(shared: RunningServer) -> None:
    headers = {"origin": PAGE, "authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=shared.url, headers=headers, timeout=60) as client:
        data = {"prompt": "color: red", "num_inference_steps": "2"}
        replies = [
            client.get("/v1/models"),
            client.post("/v1/images/edits", files=edit_files(), data=data),
            client.post("/v1/images/edits", files=edit_files(), data={**data, "stream": "true"}),
            client.post("/v1/images/edits", files=edit_files(), data={"prompt": ""}),
            client.get("/v1/models", headers={"authorization": "Bearer wrong"}),
            client.get("/v2/models/nope"),
            client.get("/nothing"),
            client.put("/v1/models"),
        ]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 400, 401, 404, 404, 405]
    assert replies[2].headers["content-type"].startswith("text/event-stream")
    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "origin" in reply.headers["vary"].lower()
        assert "access-control-allow-credentials" not in reply.headers
        exposed = reply.headers["access-control-expose-headers"]
        assert all(
            name in exposed
            for name in ("x-request-id", "retry-after", "x-alterbute-queue-ms", "inference-header-content-length")
        )


def test_preflights(shared: RunningServer) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    for path in ("/v1/images/edits", "/v2/models/m/infer"):
        reply = httpx.options(shared.url + path, headers={"origin": PAGE, **asked})
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        assert "x-request-id" in reply.headers
        local = httpx.options(
            shared.url + path, headers={"origin": PAGE, **asked, "access-control-request-private-network": "true"}
        )
        assert local.status_code == 200
        for origin in (
            "https://evil.com",
            "https://edit.example.com:444",
            "http://edit.example.com",
            "null",
            f"{PAGE}.evil.com",
        ):
            reply = httpx.options(shared.url + path, headers={"origin": origin, **asked})
            assert reply.status_code == 403
            assert "access-control-allow-origin" not in reply.headers


def test_a_page_can_read_that_its_host_is_not_allowed(server: RunningServer) -> None:
    app = app_of(server.context, allowed_origins=(PAGE,))
    reply = call(app, ("host", "upstream"), ("origin", PAGE))
    assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")
    assert reply.headers["access-control-allow-origin"] == PAGE


def test_a_star_allows_every_page_and_no_other_host(server: RunningServer) -> None:
    app = app_of(server.context, allowed_origins=("*",))
    for origin in (PAGE, "null", "chrome-extension://abc"):
        reply = call(app, ("host", "localhost"), ("origin", origin))
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "*")
    assert call(app, ("host", "evil.com"), ("origin", "http://evil.com")).status == 403


def test_origins_are_compared_by_their_parts() -> None:
    assert parse_origin("https://EDIT.example.com:443") == parse_origin(PAGE)
    assert str(parse_origin("https://EDIT.example.com:443")) == PAGE
    assert str(parse_origin("http://[::1]:3000")) == "http://[::1]:3000"
    assert parse_origin("app://obsidian.md") is not None
    assert parse_allowed_origins(["*"]) is None
    for entries in (
        ["null"],
        ["*", PAGE],
        ["https://*.example.com"],
        ["edit.example.com"],
        [f"{PAGE}/"],
        [""],
        ["https://a b"],
    ):
        with pytest.raises(InputError, match="allowed_origins"):
            parse_allowed_origins(entries)


def test_refusals_name_what_was_seen_what_is_allowed_and_the_setting(server: RunningServer) -> None:
    message = call(app_of(server.context), ("host", "upstream")).error["message"]
    for part in (
        "'upstream'",
        "localhost",
        "127.0.0.0/8",
        "allowed_hosts",
        "api_key_file",
        "proxy_pass",
        "proxy_set_header Host $host",
    ):
        assert part in message
    rules = tuple(f"{letter}.example" for letter in "abcde")
    message = call(app_of(server.context, key=KEY, allowed_hosts=rules), ("host", "x" * 60 + "." + "y" * 60)).error[
        "message"
    ]
    assert "[::1], a.example, b.example, c.example or 2 more" in message
    assert "api_key_file" not in message
    assert "y" * 30 not in message
    message = call(
        app_of(server.context, allowed_origins=(PAGE,)),
        ("host", "localhost:8000"),
        ("origin", "https://localhost:8000"),
    ).error["message"]
    for part in ("'https://localhost:8000'", "http://localhost:8000", PAGE, "allowed_origins", "TLS"):
        assert part in message
    for origin in ("null", "", "http://a/b"):
        message = call(app_of(server.context), ("host", "localhost"), ("origin", origin)).error["message"]
        assert "add the origin" not in message
        assert "allowed_origins = *" in message
    assert "send the header Host" in call(app_of(server.context)).error["message"]
    for header in ("host", "origin"):
        text = call(app_of(server.context), ("host", "localhost"), (header, "a\x1b[31m\xff\x00" + "z" * 500)).error[
            "message"
        ]
        assert text.isprintable()
        assert text.isascii()
        assert len(text) < 500


def test_kserve_paths_are_refused_in_kserves_form(server: RunningServer) -> None:
    for headers in ([("host", "evil.com")], [("host", "localhost"), ("origin", PAGE)], [("host", "a/b")]):
        reply = call(app_of(server.context), *headers, path="/v2/models/m/infer", method="POST")
        assert isinstance(json.loads(reply.body)["error"], str)
        assert isinstance(call(app_of(server.context), *headers, path="/v2x").error, dict)
