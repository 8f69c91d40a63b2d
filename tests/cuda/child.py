"""Runs one function in a process of its own: `python -m tests.cuda.child MODULE FUNCTION ARGUMENTS`, arguments as a JSON list.

The last line of the output is the result as JSON. An exception ends the process with its traceback, as it would a program.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Final

RESULT: Final = "RESULT "


def main(module: str, function: str, arguments: str) -> None:
    """Call the function and print its result."""
    result = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    print(RESULT + json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
