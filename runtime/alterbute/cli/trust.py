"""The option --trust-key, which three verbs have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from alterbute.bundle import TrustKey

TrustKeyOption = Annotated[
    list[Path] | None, typer.Option(help="Public key; one of those given must have signed the bundle.")
]


def read_trust_option(verb: str, keys: list[Path] | None) -> tuple[TrustKey, ...] | None:
    """The keys of --trust-key; None, for no check, only where neither option nor variable is there.

    Args:
        verb: Name of the verb.
        keys: The option's value.

    Raises:
        InputError: a key cannot be read, or the variable is empty, which would otherwise ask for no check.
    """
    from alterbute.bundle import read_trust_keys

    if keys:
        return read_trust_keys(keys)
    return None if os.environ.get(f"ALTERBUTE_{verb.upper()}_TRUST_KEY") is None else read_trust_keys([""])
