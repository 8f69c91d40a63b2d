"""A response as server-sent events: previews, pasted into the photo, then the images."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from alterbute.images import Photo
from alterbute.serve.http.error_response import as_api_error
from alterbute.serve.openai.encode_image import dump_json, encode_base64, encode_preview, encode_timed
from alterbute.serve.openai.response import (
    AcceptedRequest,
    count_tokens_used,
    describe_edit,
    describe_output,
    wait_for_disconnect,
    watch_outcome,
)
from alterbute.serve.openai.validate_request import submit_request
from alterbute.serve.scheduler.server_request import ServerRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

_logger = logging.getLogger(__name__)

_KEEP_ALIVE_S: Final = 15.0
_Preview = tuple[int, int, Photo]


class EditStream(Response):
    """The stream of one accepted request; the request is cancelled when the client closes the connection."""

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        accepted: AcceptedRequest,
        server_request: ServerRequest,
        previews: asyncio.Queue[_Preview],
    ) -> None:
        self.status_code, self.background = 200, None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        # A stream has no length; it ends with the last chunk.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._request, self._accepted, self._server_request, self._previews = (
            request,
            accepted,
            server_request,
            previews,
        )

    @classmethod
    async def open(cls, request: Request, accepted: AcceptedRequest) -> EditStream:
        """Submit the request before the stream starts, so that a refusal is an ordinary response; returns the stream."""
        loop = asyncio.get_running_loop()
        previews: asyncio.Queue[_Preview] = asyncio.Queue()

        def on_preview(image: int, number: int, photo: Photo) -> None:
            loop.call_soon_threadsafe(previews.put_nowait, (image, number, photo))

        context = accepted.context
        spec = await context.run_on_pool(lambda: accepted.checked.spec(on_preview))
        return cls(request, accepted, submit_request(context, accepted.checked, spec), previews)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events (ASGI)."""
        disconnect = asyncio.ensure_future(wait_for_disconnect(self._request))
        events = asyncio.ensure_future(self._send_events(send))
        try:
            await asyncio.wait({disconnect, events}, return_when=asyncio.FIRST_COMPLETED)
            if events.done():
                events.result()
        finally:
            for task in (disconnect, events):
                task.cancel()
            self._server_request.cancel()  # no effect on a request that has ended
            self._accepted.memory.release()

    async def _send_events(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def send_bytes(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        outcome = watch_outcome(self._server_request)
        try:
            while not outcome.done():
                preview = asyncio.ensure_future(self._previews.get())
                pending: set[asyncio.Future[Any]] = {outcome, preview}
                await asyncio.wait(pending, timeout=_KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                if preview.done():
                    await send_bytes(await self._preview_event(*preview.result()))
                else:
                    preview.cancel()
                    if not outcome.done():
                        await send_bytes(b": still running\n\n")
            result = outcome.result()
            for number in range(len(result.edits)):
                await send_bytes(await self._completed_event(number))
        except Exception as fault:
            await send_bytes(_error_event(fault))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _preview_event(self, image: int, number: int, photo: Photo) -> bytes:
        checked = self._accepted.checked
        file, size = await self._accepted.context.run_on_pool(lambda: encode_preview(photo, checked.form.output_format))
        return _event(
            "image_edit.partial_image",
            {
                "b64_json": encode_base64(file),
                "created_at": int(time.time()),
                **describe_output(checked),
                "size": size,
                "partial_image_index": number,
                "alterbute": {"image": image},
            },
        )

    async def _completed_event(self, number: int) -> bytes:
        context, checked = self._accepted.context, self._accepted.checked
        result = self._server_request.future.result()

        def encode_event() -> bytes:
            form = checked.form
            file, seconds = encode_timed(result.edits[number], form)
            context.metrics.on_stage("encode_image", seconds)
            return _event(
                "image_edit.completed",
                {
                    "b64_json": encode_base64(file),
                    "created_at": int(time.time()),
                    **describe_output(checked),
                    "usage": count_tokens_used(context, checked),
                    "alterbute": {**describe_edit(context, checked, result), "image": number},
                },
            )

        return await context.run_on_pool(encode_event)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + dump_json({"type": name, **data}) + b"\n\n"


def _error_event(fault: Exception) -> bytes:
    """An error as an event, because headers were sent already; its data is the body of the error response."""
    error = as_api_error(fault)
    if error.status == 500:
        _logger.error("a stream failed", exc_info=fault)
    return b"event: error\ndata: " + dump_json({"type": "error", **error.body()}) + b"\n\n"
