"""The installed version of this package."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def installed_version() -> str:
    """The version, such as `0.1.0`; `unknown` for a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("alterbute")
    except PackageNotFoundError:
        return "unknown"
