"""What one captured step of a bundle's CUDA variant puts on the GPU."""

from __future__ import annotations

from pathlib import Path

from tests.cuda import programs
from tests.cuda.call_log import StepLaunches
from tests.cuda.harness import StandIn


def count_step_launches(standin: StandIn, folder: Path, slots: int, rows: int, file: str | None = None) -> StepLaunches:
    """Launches of one captured step, by kind; the prologue is not part of it.

    Args:
        standin: The stand-in of CUDA.
        folder: A bundle.
        slots: Slots of the launch, the size of the lane.
        rows: UNet rows of the launch.
        file: A file of the step graph without a prologue, in place of the one that the backend chooses.
    """
    log = standin.run(programs.launch_steps, folder, slots, rows, file).check().log.between("steps", "end of steps")
    assert not log.illegal()
    captures = {call.capture for call in log.captures()}
    assert captures, "no step was captured"
    counts = [log.launches_of(capture) for capture in captures]
    assert all(count == counts[0] for count in counts), "both directions of the state launch the same kernels"
    return counts[0]
