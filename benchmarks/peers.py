"""One denoising step of an IP-Adapter bundle beside its peers: same weights, same inputs, contenders in turn.

    python -m benchmarks.peers --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers.json

Every turn of a contender is a process of its own, so that peaks of memory are its own and no thread pools fight: it loads,
runs one step to warm up, and times a few. Turns alternate, and the medians are over all turns. A step is two rows with guidance.
OpenVINO reads the decomposed graph as it is; it is left out where `openvino` is not installed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from alterbute.bundle import open_bundle, read_manifest

from benchmarks.machine import machine_facts
from benchmarks.results_file import write_results
from benchmarks.step_share import draw

CONTENDERS = ("diffusers", "alterbute", "decomposed", "openvino", "diffusers-bf16", "diffusers-compile")
_BASE = "diffusers"
_GUIDANCE = 7.5
_SOLVER_Y = 4
_PACKAGES = ("torch", "diffusers", "onnxruntime", "openvino")

Arrays = dict[str, Any]
Step = Callable[[], Any]


def draw_step(bundle: Path, side: int) -> Arrays:
    """The step graph's inputs for one image with guidance; the solver's matrix hands the guided output on as it is."""
    inputs = draw(read_manifest(bundle), 1, side)
    inputs["guidance"][:] = [[1 - _GUIDANCE, _GUIDANCE]]
    inputs["solver"][:] = 0
    inputs["solver"][:, 0, _SOLVER_Y] = 1
    for name in ("keep", "guidance_rescale"):
        inputs[name][:] = 0
    inputs["identity_scale"][:] = 0.6
    return inputs


def make_diffusers(checkpoint: Path, inputs: Arrays, kind: str) -> Step:
    """diffusers' UNet with its own IP-Adapter processors, called as its inpainting pipeline calls it."""
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    dtype = torch.bfloat16 if kind == "diffusers-bf16" else torch.float32
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=dtype).eval()
    state: dict[str, Arrays] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in load_file(next(checkpoint.glob("ip-adapter*.safetensors"))).items():
        part, name = key.split(".", 1)
        state[part][name] = value.to(dtype)
    unet._load_ip_adapter_weights([state])
    unet.to(dtype)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    # The graph takes tokens, so the projection in front of them is left to neither side.
    unet.encoder_hid_proj.image_projection_layers[0] = torch.nn.Identity()
    call = torch.compile(unet) if kind == "diffusers-compile" else unet
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    scene, latent = given["scene"], given["state"][:, 0]
    text, tokens = given["text"].to(dtype), given["identity"].to(dtype).unsqueeze(1)

    def step() -> Any:
        with torch.inference_mode():
            rows = torch.cat([torch.cat([latent] * 2), torch.cat([scene] * 2)], dim=1).to(dtype)
            output = call(
                rows,
                given["timestep"][0],
                encoder_hidden_states=text,
                added_cond_kwargs={"image_embeds": [tokens]},
                return_dict=False,
            )[0]
            blank, prompted = output.float().chunk(2)
            return (blank + _GUIDANCE * (prompted - blank)).numpy()

    return step


def make_alterbute(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The step as the runtime runs it."""
    from alterbute.backends.onnxruntime import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(open_bundle(bundle), threads=threads, graphs=["step"])
    return lambda: backend.run("step", inputs)["next_state"][:, 0]


def make_decomposed(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The decomposed graph in ONNX Runtime: what the fused variant is worth."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle / "step.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["next_state"], inputs)[0][:, 0]


def make_openvino(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The decomposed graph in OpenVINO, in fp32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(str(bundle / "step.onnx"), "CPU", settings)
    return lambda: model(inputs)["next_state"][:, 0]


def take_turn(kind: str, bundle: Path, checkpoint: Path, side: int, steps: int, threads: int) -> Arrays:
    """Load a contender, warm it up, and time its steps."""
    inputs = draw_step(bundle, side)
    makers: dict[str, Callable[[Path, Arrays, int], Step]] = {
        "alterbute": make_alterbute,
        "decomposed": make_decomposed,
        "openvino": make_openvino,
    }
    if kind in makers:
        step = makers[kind](bundle, inputs, threads)
    else:
        import torch

        torch.set_num_threads(threads)
        step = make_diffusers(checkpoint, inputs, kind)
    output = np.asarray(step())
    times, cpu = [], []
    for _ in range(steps):
        wall, used = time.perf_counter(), time.process_time()
        step()
        times.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"output": output.ravel().tolist(), "wall_s": times, "cpu_s": cpu, "peak_bytes": peak}


def measure(arguments: argparse.Namespace) -> Arrays:
    """Every contender's turns, and what they say against the first."""
    turns: dict[str, list[Arrays]] = {kind: [] for kind in arguments.contenders}
    failed: dict[str, str] = {}
    names = ("bundle", "checkpoint", "side", "steps", "threads")
    shared = [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]
    for _ in range(arguments.rounds):
        for kind in arguments.contenders:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.peers", "--turn", kind, *shared],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                failed[kind] = (
                    done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
                )
                continue
            turns[kind].append(json.loads(done.stdout.strip().splitlines()[-1]))
            sys.stderr.write(f"{kind}: {turns[kind][-1]['wall_s']}\n")
    return {"contenders": compare(turns), "failed": failed}


def compare(turns: dict[str, list[Arrays]]) -> Arrays:
    """Median seconds, peak memory, speed and error against the base contender, where that one ran."""
    rows: Arrays = {}
    base = turns.get(_BASE) or None
    for kind, taken in turns.items():
        if not taken:
            continue
        wall = [value for turn in taken for value in turn["wall_s"]]
        row = {"wall_s": round(statistics.median(wall), 3), "all_wall_s": [round(value, 3) for value in wall]}
        row["cpu_s"] = round(statistics.median(value for turn in taken for value in turn["cpu_s"]), 3)
        row["peak_gb"] = round(max(turn["peak_bytes"] for turn in taken) / 1e9, 2)
        if base is not None:
            wanted, found = np.array(base[0]["output"]), np.array(taken[0]["output"])
            reference = statistics.median(value for turn in base for value in turn["wall_s"])
            row["speed"] = round(reference / statistics.median(wall), 3)
            row["relative_error"] = float(f"{np.abs(found - wanted).max() / np.abs(wanted).max():.1e}")
        rows[kind] = row
    return rows


def main() -> None:
    """Run the contenders, or one turn of one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--side", type=int, default=64, help="latent height and width")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turn", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    paths = Path(arguments.bundle), Path(arguments.checkpoint)
    if arguments.turn:
        turn = take_turn(arguments.turn, *paths, arguments.side, arguments.steps, arguments.threads)
        sys.stdout.write(json.dumps(turn) + "\n")
        return
    asked = {name: getattr(arguments, name) for name in ("side", "rounds", "steps", "threads")}
    figures = {"machine": machine_facts(*_PACKAGES), "asked": {**asked, "rows": 2}, **measure(arguments)}
    write_results(arguments.out, figures)


if __name__ == "__main__":
    main()
