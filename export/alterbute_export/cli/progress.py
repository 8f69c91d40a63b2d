"""Progress of a long command on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import typer

Advance: TypeAlias = Callable[[str, int, int], None]
"""Called with the task's name, how many steps are done, and how many there are."""


@contextmanager
def progress_bar(*, width: int, is_once_per_graph: bool = False) -> Iterator[Advance]:
    """A callback that shows the progress of a command.

    Args:
        width: Columns of the task's name in front of the bar.
        is_once_per_graph: Where there is no terminal, print one line when the graph (the task's name up to a colon) changes,
            instead of one line per step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _print_graphs() if is_once_per_graph else _print_step
        return
    columns = (SpinnerColumn(), TextColumn(f"{{task.description:<{width}.{width}}}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("load", total=None)
        yield lambda task, done, total: bar.update(row, description=task, completed=done, total=total or None)


def _print_step(task: str, done: int, total: int) -> None:
    typer.echo(f"[{done}/{total}] {task}", err=True)


def _print_graphs() -> Advance:
    last = ""

    def print_graph(task: str, done: int, total: int) -> None:
        nonlocal last
        graph = task.split(":")[0]
        if graph != last:
            last = graph
            typer.echo(graph, err=True)

    return print_graph
