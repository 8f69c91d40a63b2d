"""Warm-up: first edits that load engines, initialise kernels and measure launches before the server is ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from alterbute.denoise.plan import make_plan
from alterbute.images import load_photo, load_region
from alterbute.request import EditRequest
from alterbute.serve.scheduler.server_request import RequestSpec

if TYPE_CHECKING:
    from alterbute.serve.context import Context

_STEPS: Final = 4
_SIDE: Final = 96
_TIMEOUT_S: Final = 600.0


def warm_up(context: Context) -> None:
    """Start a decoder, capture every launch shape of every GPU, and run an edit of one image and one of all slots on every worker.

    The edits are of noise, and are discarded. Afterwards no request meets the first run of a shape.

    Raises:
        AlterbuteError: the bundle cannot be run on this machine.
    """
    context.decoders.warm_up()
    # One after another: captures of several GPUs exclude each other.
    for worker in context.service.workers:
        worker.editor.warm_up()
    pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    mask[_SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4] = 255
    photo = load_photo(pixels)
    region = load_region(mask, photo)
    service = context.service
    for count in (1, context.settings.slots):
        requests = tuple(EditRequest(prompt="", steps=_STEPS, seed=seed) for seed in range(count))
        plan = make_plan(requests[0], service.editor.manifest, seed=0, image=0)
        spec = RequestSpec(
            photo=photo,
            region=region,
            reference=None,
            requests=requests,
            rows=count * sum(len(rows) for rows in plan.rows),
            steps=plan.steps,
            deadline_s=time.monotonic() + _TIMEOUT_S,
        )
        for request in [service.submit_to(worker, spec) for worker in service.workers]:
            request.future.result(_TIMEOUT_S)
