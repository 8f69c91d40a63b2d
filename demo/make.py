"""One command from nothing to the demo checkpoint: render, autoencoder, editor, folder. Every stage resumes where it stopped.

    python -m demo.make build/demo --minutes 240

Rendering and both trainings use every core through worker processes. Progress goes to standard output, one JSON line a
few minutes; sheet.png in the folder shows held-out edits as they improve.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from demo.write import write_checkpoint

SHARDS, AUTOENCODER_SHARE = 64, 0.1  # of the minutes


def workers(count: int, module: str, *arguments: str, distributed: bool = False) -> None:
    """Run single-threaded processes of one module and wait for all of them.

    Args:
        count: Number of processes.
        module: Name of the module.
        *arguments: Command line of each process; `{rank}` stands for its index.
        distributed: Whether the processes train together.
    """
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "WORLD_SIZE": str(count)} if distributed else {}
    processes = []
    for rank in range(count):
        own = [argument.replace("{rank}", str(rank)) for argument in arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), **rendezvous}
        processes.append(subprocess.Popen([sys.executable, "-m", module, *own], env=environment))
    failed = [process.wait() for process in processes]
    if any(failed):
        raise SystemExit(
            f"{module} failed with exit codes {failed}; what it had saved is in place, run the same command again"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where shards, training state and the checkpoint go")
    parser.add_argument("--minutes", type=float, default=240, help="training time, autoencoder and editor together")
    options = parser.parse_args()
    folder, cores = options.folder, os.cpu_count() or 1
    shards, state = folder / "shards", folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    workers(cores, "demo.data", str(shards), "{rank}", str(SHARDS), str(cores))
    if not (state / "vae" / "config.json").exists():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "demo.training.train_vae",
                str(state),
                "--shards",
                str(shards),
                "--minutes",
                str(options.minutes * AUTOENCODER_SHARE),
            ],
            check=True,
        )
    workers(
        cores,
        "demo.training.train",
        str(state),
        "--shards",
        str(shards),
        "--minutes",
        str(options.minutes * (1 - AUTOENCODER_SHARE)),
        distributed=cores > 1,
    )
    write_checkpoint(state, folder / "checkpoint")
    print(f"checkpoint written: {folder / 'checkpoint'}", flush=True)


if __name__ == "__main__":
    main()
