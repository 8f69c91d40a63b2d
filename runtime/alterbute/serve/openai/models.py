"""`/v1/models` in OpenAI's form, and the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from alterbute.serve.openai.fields import check_model
from alterbute.serve.openai.openapi import make_document

if TYPE_CHECKING:
    from starlette.requests import Request

    from alterbute.serve.context import Context


async def list_models(request: Request) -> Response:
    """List the served bundle, the only model."""
    return JSONResponse({"object": "list", "data": [_describe(request.app.state.context)]})


async def get_model(request: Request) -> Response:
    """Describe the served bundle, whose name the path has."""
    context: Context = request.app.state.context
    check_model(request.path_params["model"], context.model)
    return JSONResponse(_describe(context))


async def openapi(request: Request) -> Response:
    """The OpenAPI document; behind a prefix it names the prefix as its server."""
    document = make_document(request.app.state.context.model)
    root_path = request.scope.get("root_path", "")
    return JSONResponse({**document, "servers": [{"url": root_path}]} if root_path else document)


def _describe(context: Context) -> dict[str, Any]:
    manifest = context.service.editor.manifest
    return {
        "id": context.model,
        "object": "model",
        "created": context.started,
        "owned_by": "alterbute",
        "alterbute": {
            "bundle_sha256": context.bundle_sha256,
            "family": manifest.family,
            "resolution": manifest.resolution,
            "resolutions": manifest.window_sides,
            "backend": context.backend,
            "device": context.device,
            "precision": context.precision,
            "attributes": manifest.attributes,
            "defaults": {
                "steps": manifest.defaults.steps,
                "solver": manifest.defaults.solver,
                "guidance": manifest.guidance.scale,
            },
        },
    }
