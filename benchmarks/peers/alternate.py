"""Runs that alternate between contenders. Each result is kept at once, so that an interrupted measurement can be continued."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import commit
from benchmarks.common.results_file import update_results
from benchmarks.peers.processes import Turn

Entry = dict[str, Any]
Turns = dict[str, list[Turn]]


def alternating_parser(
    description: str | None, contenders: Sequence[str], default: Sequence[str]
) -> argparse.ArgumentParser:
    """A parser with the options that both programs have; each adds its own.

    Args:
        description: Text for `--help`.
        contenders: Names of all contenders.
        default: Names of the contenders that run by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--name", help="the entry's name; else that of the bundle's folder and what is asked")
    parser.add_argument("--contenders", nargs="+", choices=contenders, default=list(default))
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender in all")
    parser.add_argument("--limit", type=int, help="turns that this run takes at most")
    parser.add_argument(
        "--again", nargs="+", choices=contenders, default=[], help="contenders whose kept turns are forgotten"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--work", type=Path, default=Path("build/peers"), help="where arrays pass between turns; one folder per entry"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--turn", choices=contenders, help=argparse.SUPPRESS)
    return parser


def run_alternating(
    options: argparse.Namespace,
    name: str,
    asked: Entry,
    machine: Entry,
    take: Callable[[str], Turn | str],
    summarise: Callable[[Turns], Entry],
) -> None:
    """Run the contenders alternately, until no result is missing or `--limit` runs were made.

    Args:
        options: Parsed options of `alternating_parser`.
        name: Name of the entry.
        asked: Settings of every run of the entry.
        machine: Facts of the machine before the first run.
        take: Runs a contender once; returns its result, or the reason why it failed.
        summarise: Makes the entry's `contenders` from all results, by contender, each with its `turns`.

    Raises:
        SystemExit: the entry exists with other settings.
    """
    entry = kept_entry(options.out, name, asked)
    turns: Turns = {kind: row["turns"] for kind, row in entry["contenders"].items() if kind not in options.again}
    missing = [
        kind for number in range(options.rounds) for kind in options.contenders if len(turns.get(kind, ())) <= number
    ]
    for kind in missing[: options.limit]:
        entry["failed"].pop(kind, None)
        found = take(kind)
        if isinstance(found, str):
            entry["failed"][kind] = found
        else:
            turns.setdefault(kind, []).append({**found, "commit": commit()})
        entry |= {"machine": machine, "contenders": summarise(turns)}
        update_results(options.out, name, entry)
    left = len(missing[options.limit :]) if options.limit is not None else 0
    sys.stderr.write(f"{name}: {left} turns are still missing\n")


def kept_entry(out: Path, name: str, asked: Entry) -> Entry:
    """The entry that earlier runs kept under a name, or an empty one.

    Args:
        out: The result file.
        name: Name of the entry.
        asked: Settings of the run; an entry with other settings is an error.
    """
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    entry: Entry = kept.get(name, {"asked": asked, "contenders": {}, "failed": {}})
    if entry["asked"] != asked:
        raise SystemExit(f"{out} has {name!r} with {entry['asked']}, and now it is {asked}: give another --name")
    return entry
