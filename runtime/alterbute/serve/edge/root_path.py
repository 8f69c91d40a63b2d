"""The prefix of all paths (`root_path`), for a proxy or an application that serves this server below a path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from alterbute.errors import InputError

if TYPE_CHECKING:
    from starlette.types import Scope

_ROOT_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_OWN_PATHS: Final = ("v1", "v2", "health", "metrics", "openapi.json")


def check_root_path(root_path: str) -> None:
    """Check the setting `root_path`; an empty one means no prefix.

    Raises:
        InputError: it is no path such as `/edit`, or begins like a path of the server itself.
    """
    if root_path and (_ROOT_PATH.fullmatch(root_path) is None or root_path.split("/")[1] in _OWN_PATHS):
        raise InputError(
            f"root_path is {root_path!r}",
            f"a path such as /edit, without a slash at its end; its first part may not be {', '.join(_OWN_PATHS)}",
            "choose another prefix; a proxy that removes the prefix needs no root_path",
            "root_path",
            "root_path",
        )


def set_root_path(scope: Scope, root_path: str) -> None:
    """Put a request below `root_path`, whether the proxy kept the prefix of its path or removed it.

    A scope that has a prefix already, from the application that this one is mounted in, is left as it is.
    """
    if not root_path or scope.get("root_path"):
        return
    path: str = scope["path"]
    if path != root_path and not path.startswith(f"{root_path}/"):
        scope["path"] = root_path + path
    scope["root_path"] = root_path


def path_below_root(scope: Scope) -> str:
    """A request's path without the prefix of the proxy or the application that this one is mounted in."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    return path.removeprefix(root_path) if path.startswith(f"{root_path}/") else path


def is_kserve(scope: Scope) -> bool:
    """Whether a request is to one of KServe's routes, or to a path among them that has no route."""
    path = path_below_root(scope)
    return path == "/v2" or path.startswith("/v2/")
