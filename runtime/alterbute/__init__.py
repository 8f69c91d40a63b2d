"""Edit an object's colour, material or texture with an exported diffusion editor, without torch.

Pixels outside the edit keep the photo's bits. Public names are imported on first use, so that `import alterbute` loads
almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from alterbute.editor import Editor as Editor
    from alterbute.errors import AlterbuteError as AlterbuteError
    from alterbute.errors import BundleError as BundleError
    from alterbute.errors import Cancelled as Cancelled
    from alterbute.errors import EngineError as EngineError
    from alterbute.errors import InputError as InputError
    from alterbute.request import EditRequest as EditRequest
    from alterbute.request import Progress as Progress
    from alterbute.result import EditResult as EditResult
    from alterbute.subject import Subject as Subject

_MODULES: Final = {
    "AlterbuteError": "errors",
    "BundleError": "errors",
    "Cancelled": "errors",
    "EditRequest": "request",
    "EditResult": "result",
    "Editor": "editor",
    "EngineError": "errors",
    "InputError": "errors",
    "Progress": "request",
    "Subject": "subject",
}

__all__ = [
    "AlterbuteError",
    "BundleError",
    "Cancelled",
    "EditRequest",
    "EditResult",
    "Editor",
    "EngineError",
    "InputError",
    "Progress",
    "Subject",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'alterbute' has no attribute {name!r}")
    value: object = getattr(import_module(f"alterbute.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
