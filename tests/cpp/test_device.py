"""The path of a GPU with the host's memory under it: sessions run on the CPU provider over bound memory, so its bytes can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import LaunchShape, describe_files, open_bundle, write_manifest

from tests.cpp.driver import Driver, Refused
from tests.cpp.prologue import split_text_projections
from tests.cpp.test_edits import draw_mask, draw_photo
from tests.support.bundles import copy_bundle

# From two slots and two rows on a slot's bits do not depend on its launch.
BUCKETS = ((2, 2), (2, 4), (4, 8), (4, 12))
