"""Requests of the unmodified OpenAI client, and the responses and exceptions that it makes of ours."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from alterbute import Editor
from alterbute.backends import Array, Arrays
from openai.types import ImageEditStreamEvent
from PIL import Image

from tests.support.serving import RunningServer, holding_last_launch, mask_bytes, photo_bytes, serving, wait_until

PHOTO, MASK = ("photo.png", photo_bytes()), ("mask.png", mask_bytes())


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    """An OpenAI client of the shared server that does not retry."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with an API key, one slot, and room for one waiting image."""
    with serving(tiny_bundle, api_key="correct horse", slots=1, max_queue=1) as running:
        yield running


def pixels(b64: str | None) -> Array:
    """Decode a picture file in base64 to RGB pixels [H,W,3] uint8."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64 or ""))).convert("RGB"))


def count_responses(server: RunningServer, code: int) -> float:
    """Number of responses of the edit route with an HTTP status, by the metrics."""
    wait_until(lambda: server.context.num_open == 0)
    labels = {"model": server.context.model, "endpoint": "/v1/images/edits", "code": str(code)}
    return server.context.metrics.registry.get_sample_value("alterbute_requests_total", labels) or 0.0


def test_an_edit_equals_the_edit_of_the_editor(client: openai.OpenAI, tiny_bundle: Path) -> None:
    reply = client.images.edit(
        image=PHOTO, mask=MASK, prompt="color: red", extra_body={"seed": 7, "num_inference_steps": 5}
    )
    with Editor.open(tiny_bundle, threads=1) as editor:
        result = editor.edit(PHOTO[1], MASK[1], "color: red", seed=7, steps=5)
    edited = pixels(reply.data[0].b64_json)  # type: ignore[index]
    assert np.array_equal(edited, np.asarray(result.image))
    photo = np.asarray(Image.open(io.BytesIO(PHOTO[1])))
    assert np.array_equal(edited[result.alpha == 0], photo[result.alpha == 0])
    assert (reply.size, reply.output_format, reply.background) == ("64x48", "png", "opaque")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    extra = reply.model_extra["alterbute"]  # type: ignore[index]
    assert extra["seed"] == 7
    assert extra["steps"] == 5
    assert extra["background_exact"] is True
    assert extra["mask_mode"] == "white"
    assert extra["mask_pixels"] == 16 * 20
    assert reply._request_id


def test_image_i_of_a_request_equals_a_request_with_seed_plus_i(client: openai.OpenAI) -> None:
    several = client.images.edit(
        image=PHOTO, mask=MASK, prompt="color: red", n=3, extra_body={"seed": 10, "num_inference_steps": 3}
    )
    for number, image in enumerate(several.data or ()):
        single = client.images.edit(
            image=PHOTO, mask=MASK, prompt="color: red", extra_body={"seed": 10 + number, "num_inference_steps": 3}
        )
        assert image.b64_json == single.data[0].b64_json  # type: ignore[index]


def test_a_second_image_is_the_identity_reference(client: openai.OpenAI) -> None:
    options = {"seed": 1, "num_inference_steps": 2}
    reference = ("reference.png", photo_bytes(seed=5, size=(80, 80)))
    without = client.images.edit(image=[PHOTO], mask=MASK, prompt="color: red", extra_body=options)
    with_reference = client.images.edit(image=[PHOTO, reference], mask=MASK, prompt="color: red", extra_body=options)
    assert without.data[0].b64_json != with_reference.data[0].b64_json  # type: ignore[index]
    with pytest.raises(openai.BadRequestError, match="more than two images"):
        client.images.edit(image=[PHOTO, reference, reference], mask=MASK, prompt="color: red")


def test_previews_of_a_stream_keep_the_photos_background(
    server: RunningServer, client: openai.OpenAI, tiny_bundle: Path
) -> None:
    events: list[ImageEditStreamEvent] = []
    with holding_last_launch(server.hooks, 8, lambda: len(events) == 3):
        stream = client.images.edit(
            image=PHOTO,
            mask=MASK,
            prompt="color: red",
            stream=True,
            partial_images=3,
            extra_body={"seed": 7, "num_inference_steps": 8},
        )
        for event in stream:
            events.append(event)
    assert [event.type for event in events] == [*["image_edit.partial_image"] * 3, "image_edit.completed"]
    assert [event.partial_image_index for event in events if event.type == "image_edit.partial_image"] == [0, 1, 2]
    with Editor.open(tiny_bundle, threads=1) as editor:
        result = editor.edit(PHOTO[1], MASK[1], "color: red", seed=7, steps=8)
    photo, background = np.asarray(Image.open(io.BytesIO(PHOTO[1]))), result.alpha == 0
    for event in events:
        assert np.array_equal(pixels(event.b64_json)[background], photo[background])
    assert np.array_equal(pixels(events[-1].b64_json), np.asarray(result.image))
    assert events[-1].usage.total_tokens > 0  # type: ignore[union-attr]


def test_the_async_client_runs_edits_concurrently(server: RunningServer) -> None:
    async def edit_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            calls = [
                client.images.edit(
                    image=PHOTO,
                    mask=MASK,
                    prompt="color: red",
                    extra_body={"seed": 3, "num_inference_steps": 2 + number},
                )
                for number in range(4)
            ]
            return [reply.data[0].b64_json for reply in await asyncio.gather(*calls)]  # type: ignore[index]

    images = asyncio.run(edit_all())
    assert len(set(images)) == 4


def test_the_model_is_listed_and_retrieved_by_name(client: openai.OpenAI, server: RunningServer) -> None:
    assert [model.id for model in client.models.list()] == [server.context.model]
    assert client.models.retrieve(server.context.model).owned_by == "alterbute"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-image-1")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("kind", "param", "code", "options"),
    [
        (openai.BadRequestError, "size", "size_unsupported", {"size": "1024x1024"}),
        (openai.BadRequestError, "n", "n_out_of_range", {"n": 10}),
        (openai.BadRequestError, "response_format", "unsupported_value", {"response_format": "url"}),
        (openai.BadRequestError, "background", "invalid_value", {"background": "transparent"}),
        (openai.BadRequestError, "complexity", "unsupported_parameter", {"extra_body": {"complexity": "low"}}),
        (openai.BadRequestError, "steps", "unknown_parameter", {"extra_body": {"steps": 3}}),
        (
            openai.BadRequestError,
            "num_inference_steps",
            "steps_out_of_range",
            {"extra_body": {"num_inference_steps": 101}},
        ),
        (openai.BadRequestError, "solver", "solver_unknown", {"extra_body": {"solver": "magic"}}),
        (openai.BadRequestError, "guidance_scale", "guidance_out_of_range", {"extra_body": {"guidance_scale": -1}}),
        (openai.BadRequestError, "prompt", "prompt_too_long", {"prompt": "color: red " * 100}),
        (openai.BadRequestError, "mask", "mask_missing", {"mask": openai.omit}),
        (openai.BadRequestError, "image", "image_truncated", {"image": ("photo.png", photo_bytes()[:-3000])}),
        (openai.NotFoundError, "model", "model_not_found", {"model": "gpt-image-1"}),
        (openai.UnprocessableEntityError, "mask", "mask_size", {"mask": ("mask.png", mask_bytes((64, 64)))}),
        (openai.APIStatusError, "image", "unsupported_image_type", {"image": ("photo.png", b"<svg/>")}),
    ],
)
def test_an_error_names_its_field_and_code(
    client: openai.OpenAI, kind: type[openai.APIStatusError], param: str, code: str, options: dict[str, object]
) -> None:
    arguments: dict[str, object] = {"image": PHOTO, "mask": MASK, "prompt": "color: red", **options}
    with pytest.raises(kind) as caught:
        client.images.edit(**arguments)  # type: ignore[call-overload]
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")


def test_a_wrong_key_is_an_authentication_error(guarded: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="battery staple")
    with pytest.raises(openai.AuthenticationError) as caught:
        client.images.edit(image=PHOTO, mask=MASK, prompt="color: red")
    assert caught.value.code == "invalid_api_key"
    assert count_responses(guarded, 401) == 1


def test_a_full_queue_is_a_rate_limit_error_after_two_retries(guarded: RunningServer) -> None:
    guarded.hooks.step_s = 0.1
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="correct horse")

    async def fill_and_send() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{guarded.url}/v1", api_key="correct horse", max_retries=0
        ) as async_client:
            running = [
                asyncio.create_task(
                    async_client.images.edit(
                        image=PHOTO, mask=MASK, prompt="color: red", extra_body={"num_inference_steps": 60}
                    )
                )
                for _ in range(2)
            ]
            await asyncio.to_thread(wait_until, lambda: guarded.context.service.is_full)
            with pytest.raises(openai.RateLimitError) as caught:
                await asyncio.to_thread(
                    client.with_options(timeout=20).images.edit, image=PHOTO, mask=MASK, prompt="color: red"
                )
            assert caught.value.code == "queue_full"
            assert int(caught.value.response.headers["retry-after"]) >= 1
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    before = count_responses(guarded, 429)
    guarded.context.service.retry_after_s = lambda: 1  # type: ignore[method-assign]
    asyncio.run(fill_and_send())
    assert count_responses(guarded, 429) - before == 3
    guarded.hooks.step_s = 0.0
    wait_until(lambda: guarded.context.service.num_accepted == 0)


def test_a_broken_engine_is_an_internal_error_that_is_not_retried(guarded: RunningServer) -> None:
    def break_decode(graph: str, inputs: Arrays) -> None:
        if graph == "decode":
            raise RuntimeError("secret detail")

    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="correct horse")
    guarded.hooks.before = break_decode
    try:
        with pytest.raises(openai.InternalServerError) as caught:
            client.images.edit(image=PHOTO, mask=MASK, prompt="color: red")
    finally:
        guarded.hooks.before = lambda graph, inputs: None
    assert caught.value.code == "engine_error"
    assert "secret" not in caught.value.response.text
    assert count_responses(guarded, 500) == 1


def test_a_passed_deadline_is_a_504_that_is_not_retried(
    guarded: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if launches had been fast until now; otherwise the request would be refused at submission.
    monkeypatch.setattr(guarded.context.service, "_estimate_s", lambda spec, worker: 0.0)
    monkeypatch.setattr(guarded.context.service.workers[0], "_misses_deadline", lambda server_request: False)
    guarded.hooks.step_s = 0.2
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="correct horse")
    with pytest.raises(openai.InternalServerError) as caught:
        client.images.edit(
            image=PHOTO, mask=MASK, prompt="color: red", extra_body={"timeout_s": 1, "num_inference_steps": 20}
        )
    guarded.hooks.step_s = 0.0
    assert caught.value.status_code == 504
    assert count_responses(guarded, 504) == 1


def test_a_fault_in_a_stream_is_an_error_event(guarded: RunningServer) -> None:
    def break_decode(graph: str, inputs: Arrays) -> None:
        if graph == "decode":
            raise RuntimeError("broken")

    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="correct horse")
    guarded.hooks.before = break_decode
    try:
        with pytest.raises(openai.APIError) as caught:
            list(client.images.edit(image=PHOTO, mask=MASK, prompt="color: red", stream=True))
    finally:
        guarded.hooks.before = lambda graph, inputs: None
    assert caught.value.code == "engine_error"
