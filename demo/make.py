"""Make the demo checkpoint: render, train autoencoder and editor, write the folder. Each stage can be resumed.

    python -m demo.make build/demo --minutes 240

Rendering and the editor's training run one process per core. Training prints a JSON line every few minutes; sheet.png in
the state folder shows edits of held-out tuples.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from demo.write import write_checkpoint

SHARDS = 64
AUTOENCODER_SHARE = 0.1  # of the training time


def run_workers(count: int, module: str, *arguments: str, distributed: bool = False) -> None:
    """Run single-threaded processes of one module, and wait for all of them.

    Args:
        count: Number of processes.
        module: Name of the module.
        *arguments: Command line of each process; `{rank}` stands for its index.
        distributed: Whether to set the environment of `torch.distributed`.
    """
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "WORLD_SIZE": str(count)} if distributed else {}
    processes = []
    for rank in range(count):
        command_line = [argument.replace("{rank}", str(rank)) for argument in arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), **rendezvous}
        processes.append(subprocess.Popen([sys.executable, "-m", module, *command_line], env=environment))
    exit_codes = [process.wait() for process in processes]
    if any(exit_codes):
        raise SystemExit(f"{module} ended with exit codes {exit_codes}; expected 0; run the command again to resume")


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for shards, training state and the checkpoint")
    parser.add_argument("--minutes", type=float, default=240, help="training time of autoencoder and editor together")
    options = parser.parse_args()
    folder, cores = options.folder, os.cpu_count() or 1
    shards, state = folder / "shards", folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    run_workers(cores, "demo.data", str(shards), "{rank}", str(SHARDS), str(cores))
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
    run_workers(
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
