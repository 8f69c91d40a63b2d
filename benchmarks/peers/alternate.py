"""Processes that alternate between contenders; each result is written at once, so that a measurement can be resumed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import commit
from benchmarks.common.results_file import update_results
from benchmarks.peers.processes import ProcessResult

Entry = dict[str, Any]
"""One entry of the result file: JSON values."""
Results = dict[str, list[ProcessResult]]
"""Results of all processes by contender, in the order in which they ran."""


def alternating_parser(
    description: str | None, contenders: Sequence[str], default: Sequence[str]
) -> argparse.ArgumentParser:
    """A parser with the options of both programs; each program adds options of its own.

    Args:
        description: Text for `--help`.
        contenders: Names of all contenders.
        default: Names of the contenders that run by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint that the bundle was exported from")
    parser.add_argument("--name", help="name of the entry; default: from the bundle's folder and the settings")
    parser.add_argument("--contenders", nargs="+", choices=contenders, default=list(default), help="contenders to run")
    parser.add_argument(
        "--rounds", type=int, default=2, help="processes per contender, including those of earlier runs"
    )
    parser.add_argument("--limit", type=int, help="maximum number of processes of this run")
    parser.add_argument(
        "--again", nargs="+", choices=contenders, default=[], help="contenders whose earlier results are dropped"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/peers"),
        help="folder for arrays that processes exchange; one per entry",
    )
    parser.add_argument("--out", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--turn", dest="contender", choices=contenders, help=argparse.SUPPRESS)
    return parser


def run_alternating(
    options: argparse.Namespace,
    name: str,
    settings: Entry,
    machine: Entry,
    run: Callable[[str], ProcessResult | str],
    summarise: Callable[[Results], Entry],
) -> None:
    """Run the contenders alternately, each in a process, until no result is missing or `--limit` is reached.

    Args:
        options: Parsed options of `alternating_parser`.
        name: Name of the entry.
        settings: Settings of all results of the entry, which its key `asked` holds.
        machine: Facts about the machine before the first process.
        run: Runs a contender once; returns its result, or the reason why it failed.
        summarise: Makes the entry's `contenders` from all results: figures by contender, and its results as `turns`.

    Raises:
        SystemExit: the entry exists with different settings.
    """
    entry = read_entry(options.out, name, settings)
    results: Results = {kind: row["turns"] for kind, row in entry["contenders"].items() if kind not in options.again}
    missing = [
        kind for number in range(options.rounds) for kind in options.contenders if len(results.get(kind, ())) <= number
    ]
    for kind in missing[: options.limit]:
        entry["failed"].pop(kind, None)
        result = run(kind)
        if isinstance(result, str):
            entry["failed"][kind] = result
        else:
            results.setdefault(kind, []).append({**result, "commit": commit()})
        entry |= {"machine": machine, "contenders": summarise(results)}
        update_results(options.out, name, entry)
    left = len(missing[options.limit :]) if options.limit is not None else 0
    sys.stderr.write(f"{name}: {left} processes are still to run\n")


def read_entry(out: Path, name: str, settings: Entry) -> Entry:
    """The entry that earlier runs wrote under a name, or an empty one.

    Args:
        out: The result file.
        name: Name of the entry.
        settings: Settings of this run.

    Raises:
        SystemExit: the entry exists with different settings.
    """
    entries = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    entry: Entry = entries.get(name, {"asked": settings, "contenders": {}, "failed": {}})
    if entry["asked"] != settings:
        raise SystemExit(f"{out} has {name!r} with settings {entry['asked']}; expected {settings}; give another --name")
    return entry
