"""Thousands of requests made from the OpenAPI document, and bent: no answer is an undeclared 5xx."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.support.serving import Served, wait_until

REQUESTS = 20_000
DECLARED = {503, 504}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


@pytest.mark.slow
def test_no_request_made_from_the_document_is_an_undeclared_5xx(served: Served) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="the fuzzer is not installed")
    schema = schemathesis.openapi.from_dict(requests.get(f"{served.url}/openapi.json", timeout=10).json())
    operations = [found.ok() for found in schema.get_all_operations()]
    posts = [operation for operation in operations if operation.method.upper() == "POST"]
    counts: Counter[int] = Counter()
    session = requests.Session()

    def send(case: Any) -> None:
        reply = case.call(base_url=served.url, session=session, timeout=30)
        counts[reply.status_code] += 1
        assert reply.status_code < 500 or reply.status_code in DECLARED, (case.as_curl_command(), reply.text)

    def run(operation: Any, mode: Any, examples: int) -> None:
        @seed(1)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def once(case: Any) -> None:
            send(case)

        once()

    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    share = REQUESTS // (len(modes) * len(posts) + 2)
    for operation in operations:
        for mode in modes:
            try:
                run(operation, mode, share if operation in posts else 100)
            except schemathesis.errors.SchemathesisError as fault:  # a GET without parameters cannot be negated
                print(f"{operation.label} {mode}: {type(fault).__name__}")
    generator = random.Random(1)
    while sum(counts.values()) < REQUESTS:
        bend(served, session, generator, counts)
    print(sum(counts.values()), dict(sorted(counts.items())))
    wait_until(lambda: served.context.service.num_accepted == 0)
    assert served.context.memory.used_bytes == 0


def bend(served: Served, session: requests.Session, generator: random.Random, counts: Counter[int]) -> None:
    """One request that no document describes: any method, any path, any bytes."""
    paths = (
        "/v1/images/edits",
        "/v1/models",
        "/v2",
        f"/v2/models/{served.context.model}/infer",
        "/health/ready",
        "/metrics",
        "/%00",
        "/../..",
    )
    kinds = (
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain",
        "multipart/form-data",
        "\u00fc".encode("latin-1").decode("latin-1"),
    )
    body = generator.choice(
        (b"", b"{}", b"[]", b"--x\r\n\r\n--x--", b"null", generator.randbytes(generator.randrange(500)))
    )
    headers = {
        "content-type": generator.choice(kinds),
        "authorization": generator.choice(("", "Bearer", "Bearer x", "x")),
    }
    reply = session.request(
        generator.choice(METHODS), served.url + generator.choice(paths), data=body, headers=headers, timeout=30
    )
    counts[reply.status_code] += 1
    assert reply.status_code < 500 or reply.status_code in DECLARED, (reply.request.method, reply.url, body, reply.text)
