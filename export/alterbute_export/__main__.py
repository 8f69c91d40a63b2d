"""Entry point of `python -m alterbute_export`."""

from __future__ import annotations

import sys

from alterbute_export.cli import main

sys.exit(main())
