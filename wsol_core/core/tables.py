"""A table for people on a terminal, for programs in a pipe."""

import sys
from collections.abc import Collection, Sequence


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> None:
    """Print rows of texts under a header: drawn on a terminal, else a line each with tabs between.

    Args:
        title: stands above.
        header: names of the columns.
        rows: as long as the header each.
        right: names of the columns that are flush right.
    """
    if not sys.stdout.isatty():
        print(title, *("\t".join(cells) for cells in (header, *rows)), sep="\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in header:
        table.add_column(name, justify="right" if name in right else "left")
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)
