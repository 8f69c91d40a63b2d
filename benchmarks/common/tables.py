"""Tables and plots of `benchmarks/README.md`, made from the JSON in `results/`.

    python -m benchmarks.common.tables            # rewrite the marked sections, draw the plots
    python -m benchmarks.common.tables --check    # only check that the README matches the results

A section lies between `<!-- table: NAME -->` and `<!-- end -->`; the function NAME of `SECTIONS` makes its text from
`results/NAME.json`. A section without a result file has the text "Not measured yet.".
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
"""Content of a result file: most have one entry per bundle or setting."""


def make_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table of a header and rows of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def format_percent(share: float) -> str:
    """A share 0..1 in per cent: two digits below 10 %, whole numbers above."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def format_percentiles(times: Mapping[str, float]) -> list[str]:
    """Cells of p50, p90 and p99 in milliseconds."""
    return [f"{times[f'p{rank}_ms']:,.1f}" for rank in (50, 90, 99)]


def cold_start(entries: Entries) -> str:
    """Table of the times of whole processes."""
    rows = [(f"`{name}`", *format_percentiles(times), times["n"]) for name, times in entries["processes"].items()]
    return make_table(("process", "p50 ms", "p90 ms", "p99 ms", "n"), rows) + list_machines(entries)


def latency(entries: Entries) -> str:
    """One table per bundle: times of whole edits and of each graph."""
    text = ""
    for name, entry in entries.items():
        whole: list[tuple[str, Any]] = [
            (f"first edit of a photo, {entry['steps']} steps", entry["first_edit"]),
            ("second edit of the same photo, another seed", entry["second_edit"]),
        ]
        whole += [("`alterbute edit` as a process", entry["cold_start"])] if "cold_start" in entry else []
        graphs = [(f"graph `{graph}`, per call", times) for graph, times in entry["graphs"].items()]
        rows = [(part, *format_percentiles(times), times["n"]) for part, times in (*whole, *graphs)]
        text += f"\n`{name}`, window of {entry['resolution']} pixels, engines loaded in {entry['open_s']:.1f} s:\n\n"
        text += make_table(("part", "p50 ms", "p90 ms", "p99 ms", "n"), rows) + list_machines(entry)
    return text


def overhead(entries: Entries) -> str:
    """Table of the share of an edit that is spent outside the engine."""
    rows = [
        (
            f"`{name}`, {entry['steps']} steps, {kind} edit",
            format_percent(times["share"]),
            f"{times['outside_ms']:.1f}",
            times["n"],
        )
        for name, entry in entries.items()
        for kind, times in (("first", entry["first_edit"]), ("second", entry["second_edit"]))
    ]
    header = ("edit", "share outside the engine", "ms outside", "n")
    return make_table(header, rows) + list_machines(*entries.values())


def memory(entries: Entries) -> str:
    """Table of the peaks of resident memory."""
    rows = []
    for name, entry in entries.items():
        cases = entry["cases"]
        peaks = [f"{cases[case]['peak_mb']:,.0f}" if case in cases else "" for case in ("libraries", "step", "edit")]
        running = f"{cases['step']['run_peak_mb']:,.0f}" if "step" in cases else ""
        rows.append((f"`{name}`", f"{entry['weights_mb']:,.0f}", *peaks[:2], running, peaks[2]))
    header = (
        "bundle",
        "files MB",
        "libraries alone: peak MB",
        "step: peak MB",
        "step: peak MB while running",
        "edit: peak MB",
    )
    return make_table(header, rows) + list_machines(*entries.values())


def fidelity(entries: Entries) -> str:
    """Table of the errors of each precision against fp32."""
    rows = []
    for name, entry in entries.items():
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
        "latent error, rms",
        "latent error, largest",
        "PSNR dB, mean",
        "PSNR dB, worst",
        "quality measure, worst change, points",
        "edits",
    )
    return make_table(header, rows) + list_machines(*entries.values())


def photo_size(entries: Entries) -> str:
    """Table of the cost of editing one object in photos of several sizes."""
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
        for name, entry in entries.items()
        for case, row in entry["cases"].items()
    ]
    header = (
        "photo",
        "first edit",
        "second edit",
        "first edit, ms",
        "read JPEG, ms",
        "read PNG, ms",
        "read mask, ms",
        "write PNG, ms",
    )
    return make_table(header, rows) + list_machines(*entries.values())


def published(entries: Entries) -> str:
    """Table of memory, time and sizes of exports of published sizes."""
    rows = []
    for name, row in entries.items():
        worst = max(graph["parity"] for graph in row["graphs"].values() if graph["parity"] is not None)
        cells = (row["checkpoint_fp32_gb"], row["peak_gb"], f"{row['peak_by_fp32_size']:.2f}x", row["estimated_gb"])
        rows.append((f"`{name}`", *cells, row["bundle_disk_gb"], f"{row['seconds']:,.0f}", worst))
    header = (
        "checkpoint",
        "fp32 GB",
        "peak GB",
        "peak / fp32",
        "estimated GB",
        "bundle GB",
        "seconds",
        "worst parity",
    )
    return make_table(header, rows) + list_machines(*entries.values())


def half_precision(entries: Entries) -> str:
    """Table of the latent errors of half precision after whole edits."""
    rows = [
        (f"`{name}`", row["steps"], row["resolution"], max(row["largest"]), max(row["root_mean_square"]), row["nans"])
        for name, row in entries.items()
    ]
    header = ("bundle and graphs", "steps", "window", "largest error, relative to the largest value", "rms", "NaN")
    return make_table(header, rows) + list_machines(*entries.values())


def peers(entries: Entries) -> str:
    """One table per setting: a denoising step by each contender."""
    header = ("contender", "speed", "seconds", "n", "peak GB, loading included", "error against diffusers")
    text = ""
    for name, entry in entries.items():
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
        environments = [
            f"`{kind}` ran in an environment of its own: {format_versions(row['turns'][0]['packages'])}.\n"
            for kind, row in entry["contenders"].items()
            if "packages" in row["turns"][0]
        ]
        text += (
            f"\n{name}:\n\n"
            + make_table(header, rows)
            + list_failures(entry)
            + list_machines(entry)
            + "".join(environments)
        )
    return text


def peers_edit(entries: Entries) -> str:
    """One table per setting: a whole edit by each contender."""
    parts = ("whole", "encode", "steps", "decode")
    header = (
        "contender",
        "whole edit",
        *parts[1:],
        "seconds",
        "n",
        "peak GB",
        "latent error against diffusers",
        "pixels that differ",
    )
    text = ""
    for name, entry in entries.items():
        rows = [
            (
                f"`{kind}`",
                *(f"{row['speed'][part]:.2f}x" for part in parts),
                f"{row['seconds']['whole']:.1f}",
                len(row["turns"]),
                row["peak_gb"],
                row["compared"]["latent_error"],
                f"{format_percent(row['compared']['pixels_off'])}, by {row['compared']['pixel_max']} at most",
            )
            for kind, row in entry["contenders"].items()
        ]
        text += f"\n{name}:\n\n" + make_table(header, rows) + list_failures(entry)
        alterbute = entry["contenders"].get("alterbute")
        for kind, row in entry["contenders"].items():
            if alterbute is not None and kind != "alterbute":
                text += f"\n`alterbute` is {row['seconds']['whole'] / alterbute['seconds']['whole']:.2f}x as fast as `{kind}`.\n"
        text += list_machines(entry)
    return text


def list_failures(entry: Entries) -> str:
    """One sentence per contender that failed, with its error message."""
    return "".join(f"\n`{kind}` did not run: {reason}\n" for kind, reason in entry["failed"].items())


def format_versions(packages: Mapping[str, str]) -> str:
    """Names and versions of packages, separated by commas."""
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def list_machines(*entries: Entries) -> str:
    """One sentence per machine (hardware, load, packages and commit) that the entries were measured on."""
    lines = []
    for machine in (entry["machine"] for entry in entries):
        cores = "1 core" if machine["cpus"] == 1 else f"{machine['cpus']} cores"
        load = machine["load_before"]
        hardware = f"{machine['processor']}, {cores}, load {load if isinstance(load, int | float) else 'not recorded'}"
        line = f"{hardware}, {format_versions(machine['packages'])}, commit {machine['commit']}"
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
    """The README's text with every marked section replaced by its table.

    Args:
        text: Markdown with marked sections.
        results: Folder of the result files `NAME.json`.
    """

    def section(match: re.Match[str]) -> str:
        name, file = match[2], results / f"{match[2]}.json"
        if name not in SECTIONS:
            raise SystemExit(f"there is no table {name!r}; expected one of {', '.join(SECTIONS)}")
        body = SECTIONS[name](json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "Not measured yet.\n"
        return f"{match[1]}\n{body.strip()}\n\n{match[3]}"

    return _SECTION.sub(section, text)


def main() -> None:
    """Rewrite the README and draw the plots, or check the README (`--check`)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the README is out of date")
    options = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = fill(old)
    if options.check:
        sys.exit(
            0 if new == old else f"{README.name} does not match the results; run `python -m benchmarks.common.tables`"
        )
    README.write_text(new, encoding="utf-8")
    draw_plots(RESULTS)


if __name__ == "__main__":
    main()
