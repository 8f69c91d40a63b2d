"""`python -m alterbute.cli` is the `alterbute` command."""

from __future__ import annotations

import sys

from alterbute.cli import main

sys.exit(main())
