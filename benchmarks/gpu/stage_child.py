"""The process of one stage: `python -m benchmarks.gpu.stage_child MODULE:FUNCTION JOB.json RECORD.json DEADLINE`.

Exit codes: 0 all cases were measured or left out, CASE_FAILED a case failed and the rest needs a new process, SKIPPED this machine
lacks something, which is the last line of the output; others are crashes.
"""

from __future__ import annotations

import faulthandler
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.stage_plan import GpuJob
from benchmarks.gpu.stage_record import CaseFailedError, StageRecord, StageSkippedError

CASE_FAILED: Final = 75
SKIPPED: Final = 69


def main(arguments: list[str]) -> int:
    """Run a stage; returns the exit code."""
    reference, job, path, deadline = arguments
    # A crash in native code, and a call that hangs until shortly before the end, leave their Python stack in the log.
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(1.0, float(deadline) - time.time() - 2), exit=False)
    module, _, name = reference.partition(":")
    run: Callable[[GpuJob, StageRecord], Any] = getattr(importlib.import_module(module), name)
    try:
        run(GpuJob.read(Path(job)), StageRecord(Path(path), float(deadline)))
    except CaseFailedError:
        return CASE_FAILED
    except StageSkippedError as reason:
        print(reason, flush=True)
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
