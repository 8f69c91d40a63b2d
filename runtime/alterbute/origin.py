"""Where an edited photo comes from: the provenance that its file states."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from alterbute.bundle import Bundle
from alterbute.images.metadata import Provenance
from alterbute.request import EditRequest
from alterbute.version import installed_version

# The fields of a request that `Provenance` states by themselves, or that concern other images.
_OWN_FIELDS: Final = frozenset({"prompt", "seed", "count"})


def describe_origin(bundle: Bundle, request: EditRequest, *, seed: int, index: int) -> Provenance:
    """The provenance of one image of a request.

    Args:
        bundle: The bundle that edits it.
        request: Its request; the options that differ from their defaults are stated.
        seed: The seed that is used.
        index: Index of the image within the request.
    """
    given = {
        option.name: getattr(request, option.name)
        for option in fields(request)
        if option.name not in _OWN_FIELDS and getattr(request, option.name) != option.default
    }
    return Provenance(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        prompt=request.prompt,
        seed=seed,
        index=index,
        version=installed_version(),
        settings={name: value if isinstance(value, str | int | float) else str(value) for name, value in given.items()},
    )
