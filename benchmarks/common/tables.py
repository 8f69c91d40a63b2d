"""Tables and plots of `benchmarks/README.md`, made from the JSON in `results/`.

    python -m benchmarks.common.tables            # rewrite the marked sections, draw the plots
    python -m benchmarks.common.tables --check    # only check that README agrees with the results

A section stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is a function of `SECTIONS`. A section without results
has the text "Not measured yet.".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common.plots import draw_plots
from benchmarks.common.results_file import RESULTS

README: Final = Path(__file__).parents[1] / "README.md"
_SECTION: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Entries = Mapping[str, Any]


def make_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def percent(share: float) -> str:
    """A share in per cent with two significant digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def spread(times: Mapping[str, float]) -> list[str]:
    """p50, p90 and p99 as cells."""
    return [f"{times[f'p{rank}_ms']:,.1f}" for rank in (50, 90, 99)]


def cold_start(found: Entries) -> str:
    """Whole processes."""
    rows = [(f"`{name}`", *spread(times), times["n"]) for name, times in found["processes"].items()]
    return make_table(("process", "p50 ms", "p90 ms", "p99 ms", "n"), rows) + told(found)


def latency(found: Entries) -> str:
    """Whole edits and graphs, by bundle."""
    text = ""
    for name, entry in found.items():
        whole: list[tuple[str, Any]] = [
            (f"first edit of a photo, {entry['steps']} steps", entry["first_edit"]),
            ("second edit of it, another seed", entry["second_edit"]),
        ]
        whole += [("`alterbute edit` as a process", entry["cold_start"])] if "cold_start" in entry else []
        graphs = [(f"graph `{graph}`, each run", times) for graph, times in entry["graphs"].items()]
        rows = [(what, *spread(times), times["n"]) for what, times in (*whole, *graphs)]
        text += f"\n`{name}`, window of {entry['resolution']} pixels, engines loaded in {entry['open_s']:.1f} s:\n\n"
        text += make_table(("what", "p50 ms", "p90 ms", "p99 ms", "n"), rows) + told(entry)
    return text


def overhead(found: Entries) -> str:
    """The host's share of an edit."""
    rows = [
        (
            f"`{name}`, {entry['steps']} steps, {kind} edit",
            percent(times["share"]),
            f"{times['outside_ms']:.1f}",
            times["n"],
        )
        for name, entry in found.items()
        for kind, times in (("first", entry["first_edit"]), ("second", entry["second_edit"]))
    ]
    header = ("edit", "outside the engine", "that is, ms", "n")
    return make_table(header, rows) + told(*found.values())


def memory(found: Entries) -> str:
    """Peaks of resident memory."""
    rows = []
    for name, entry in found.items():
        cases = entry["cases"]
        peaks = [f"{cases[case]['peak_mb']:,.0f}" if case in cases else "" for case in ("libraries", "step", "edit")]
        running = f"{cases['step']['run_peak_mb']:,.0f}" if "step" in cases else ""
        rows.append((f"`{name}`", f"{entry['weights_mb']:,.0f}", *peaks[:2], running, peaks[2]))
    header = ("bundle", "files MB", "libraries alone", "step: peak MB", "of it while running", "edit: peak MB")
    return make_table(header, rows) + told(*found.values())


def fidelity(found: Entries) -> str:
    """Each precision against fp32."""
    rows = []
    for name, entry in found.items():
        for precision, row in entry["bundles"].items():
            points = row.get("quality_points")
            worst = f"{min(points.values()):+.1f}" if points else ""
            cells = (
                row["latent_rms"],
                row["latent_max"],
                row["psnr_db_mean"],
                row["psnr_db_worst"],
                worst,
                row["edits"],
            )
            rows.append((f"`{name}`, {precision}, {entry['steps']} steps", *cells))
    header = (
        "bundle",
        "latents, rms",
        "latents, worst",
        "PSNR dB, mean",
        "worst",
        "quality, worst row, points",
        "edits",
    )
    return make_table(header, rows) + told(*found.values())


def photo_size(found: Entries) -> str:
    """Cost of one object in photos of several sizes."""
    rows = [
        (
            f"`{name}`, {case}",
            f"{row['ratio']:.2f}x",
            f"{row['ratio_of_second_edits']:.2f}x",
            f"{row['edit_ms']:,.0f}",
            *(
                f"{row['files_ms'][kind]:,.0f}"
                for kind in ("read photo, JPEG", "read photo, PNG", "read mask, PNG", "write result, PNG")
            ),
        )
        for name, entry in found.items()
        for case, row in entry["cases"].items()
    ]
    header = (
        "photo",
        "first edit",
        "second edit",
        "first edit, ms",
        "read JPEG, ms",
        "read PNG",
        "read mask",
        "write PNG",
    )
    return make_table(header, rows) + told(*found.values())


def published(found: Entries) -> str:
    """What exports of published sizes take."""
    rows = []
    for name, row in found.items():
        worst = max(graph["parity"] for graph in row["graphs"].values() if graph["parity"] is not None)
        cells = (row["checkpoint_fp32_gb"], row["peak_gb"], f"{row['peak_by_fp32_size']:.2f}x", row["estimated_gb"])
        rows.append((f"`{name}`", *cells, row["bundle_disk_gb"], f"{row['seconds']:,.0f}", worst))
    header = (
        "checkpoint",
        "fp32 GB",
        "peak GB",
        "peak / fp32",
        "told before, GB",
        "bundle GB",
        "seconds",
        "worst parity",
    )
    return make_table(header, rows) + told(*found.values())


def half_precision(found: Entries) -> str:
    """Half-precision latents after whole edits."""
    rows = [
        (f"`{name}`", row["steps"], row["resolution"], max(row["largest"]), max(row["root_mean_square"]), row["nans"])
        for name, row in found.items()
    ]
    header = ("bundle and graphs", "steps", "window", "largest error, share of the largest value", "rms", "NaN")
    return make_table(header, rows) + told(*found.values())


def peers(found: Entries) -> str:
    """A step beside its peers."""
    header = ("contender", "speed", "seconds", "n", "peak GB, loading included", "from diffusers")
    text = ""
    for name, entry in found.items():
        rows = [
            (
                f"`{kind}`",
                f"{row['speed']:.2f}x",
                f"{row['wall_s']:.2f}",
                sum(len(turn["wall_s"]) for turn in row["turns"]),
                row["peak_gb"],
                row["relative_error"],
            )
            for kind, row in entry["contenders"].items()
        ]
        own = [
            f"`{kind}` ran in an environment of its own: {versions(row['turns'][0]['packages'])}.\n"
            for kind, row in entry["contenders"].items()
            if "packages" in row["turns"][0]
        ]
        text += f"\n{name}:\n\n" + make_table(header, rows) + failures(entry) + told(entry) + "".join(own)
    return text


def peers_edit(found: Entries) -> str:
    """A whole edit beside its peers."""
    parts = ("whole", "encode", "steps", "decode")
    header = (
        "contender",
        "whole edit",
        *parts[1:],
        "seconds",
        "n",
        "peak GB",
        "latents from diffusers",
        "painted pixels off",
    )
    text = ""
    for name, entry in found.items():
        rows = [
            (
                f"`{kind}`",
                *(f"{row['speed'][part]:.2f}x" for part in parts),
                f"{row['seconds']['whole']:.1f}",
                len(row["turns"]),
                row["peak_gb"],
                row["compared"]["latent_error"],
                f"{percent(row['compared']['pixels_off'])}, by {row['compared']['pixel_max']} at most",
            )
            for kind, row in entry["contenders"].items()
        ]
        text += f"\n{name}:\n\n" + make_table(header, rows) + failures(entry)
        ours = entry["contenders"].get("alterbute")
        for kind, row in entry["contenders"].items():
            if ours is not None and kind != "alterbute":
                text += (
                    f"\n`alterbute` is {row['seconds']['whole'] / ours['seconds']['whole']:.2f}x as fast as `{kind}`.\n"
                )
        text += told(entry)
    return text


def failures(entry: Entries) -> str:
    """Contenders that did not run, with their messages."""
    return "".join(f"\n`{kind}` did not run: {reason}\n" for kind, reason in entry["failed"].items())


def versions(packages: Mapping[str, str]) -> str:
    """Packages and their numbers."""
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def told(*entries: Entries) -> str:
    """Where it was measured, once for each machine."""
    lines = []
    for machine in (entry["machine"] for entry in entries):
        told_of = f"{machine['processor']}, {machine['cpus']} cores, load {machine['load_before']}"
        line = f"{told_of}, {versions(machine['packages'])}, commit {machine['commit']}"
        if line not in lines:
            lines.append(line)
    return "\n" + "".join(f"Measured on {line}.\n" for line in lines)


SECTIONS: Final[dict[str, Callable[[Entries], str]]] = {
    section.__name__: section
    for section in (
        cold_start,
        latency,
        overhead,
        memory,
        fidelity,
        photo_size,
        peers,
        peers_edit,
        published,
        half_precision,
    )
}


def fill(text: str, results: Path = RESULTS) -> str:
    """The README's text with every marked section made anew.

    Args:
        text: With sections between their marks.
        results: Where `NAME.json` of each section is.
    """

    def section(match: re.Match[str]) -> str:
        name, file = match[2], results / f"{match[2]}.json"
        if name not in SECTIONS:
            raise SystemExit(f"there is no table {name!r}; expected one of {', '.join(SECTIONS)}")
        body = SECTIONS[name](json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "Not measured yet.\n"
        return f"{match[1]}\n{body.strip()}\n\n{match[3]}"

    return _SECTION.sub(section, text)


def main() -> None:
    """Rewrite, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = fill(old)
    if options.check:
        sys.exit(
            0 if new == old else f"{README.name} is not what the results give: run `python -m benchmarks.common.tables`"
        )
    README.write_text(new, encoding="utf-8")
    draw_plots(RESULTS)


if __name__ == "__main__":
    main()
