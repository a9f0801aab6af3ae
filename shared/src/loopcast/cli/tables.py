"""A table on a terminal, or as plain lines that nothing folds where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["cells", "print_table"]


def print_table(columns: Sequence[str], rows: Iterable[Iterable[Text]], *, empty: str) -> None:
    """Print `rows`, or the sentence `empty` where there is none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width: nothing is folded there.
        console = Console(width=10_000)
    if table.row_count:
        console.print(table, soft_wrap=not console.is_terminal)
    else:
        console.print(empty)


def cells(values: Iterable[object]) -> list[Text]:
    """A row, each value on one line, and nothing for None."""
    return [Text("" if value is None else " ".join(str(value).split())) for value in values]
