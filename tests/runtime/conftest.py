"""Fixtures of several runtime tests: an editor on the tiny bundle, and an encoded subject."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alterbute import Subject
from alterbute.editor import Editor

from tests.support.pictures import make_mask, noise


@pytest.fixture(scope="module")
def editor(tiny_bundle: Path) -> Iterator[Editor]:
    with Editor.open(tiny_bundle, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def subject(editor: Editor) -> Subject:
    return editor.prepare(noise(70, 90), make_mask(70, 90))
