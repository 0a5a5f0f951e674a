"""A table as text: fitted to the terminal, as JSON records, or as CSV."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv

from scuba_ray.report.columns import GAP, Column, fitted, least_width, wrapped

Format = Literal["table", "json", "csv"]

_HEADINGS = {
    "voxel_id": "voxel", "noise_ceiling": "ceiling", "r2": "R²", "roi": "ROI", "predicted": "z",
    "predicted_independent": "z of judge", "percentile": "pctile",
}  # fmt: skip
_WIDEST = "caption", "value", "prompt"
"""Columns of running text: they take the width the others leave, and may break a word that is longer than any."""
_SAID_ONCE = "subject", "backbone", "voxels"


def render(table: pa.Table, form: Format = "table", *, width: int | None = None, spare: Sequence[str] = ()) -> str:
    """Return `table` as text that ends with a newline.

    `table` draws it for people: fitted to `width` columns (none: the terminal's), numbers to three decimals, and columns that
    hold one value throughout (the only subject, the only backbone) said once, above. Lines are broken between words only. Where
    even so the columns do not fit, those named in `spare` are left out, the first of them first, and a last line says which.
    `json` is a list of records and `csv` has a header line; both keep every digit and every column.
    """
    if form == "json":
        return json.dumps([_finite(row) for row in table.to_pylist()], ensure_ascii=False, indent=1) + "\n"
    if form == "csv":
        sink = io.BytesIO()
        pyarrow.csv.write_csv(_flat(table), sink)
        return sink.getvalue().decode("utf-8")
    return _drawn(table, width, spare)


def _drawn(table: pa.Table, width: int | None, spare: Sequence[str]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    constant = {name: values.pop() for name in _SAID_ONCE if len(values := set(_column(table, name))) == 1}
    rows = {name: [_cell(value) for value in _column(table, name)] for name in table.column_names if name not in constant}
    width = width or Console().width
    columns = [Column(_HEADINGS.get(name, name), cells, name in _WIDEST) for name, cells in rows.items()]
    left_out = [_HEADINGS.get(name, name) for name in spare if name in rows]
    dropped: list[str] = []
    while left_out and least_width(columns) > width:
        dropped.append(left_out.pop(0))
        columns = [column for column in columns if column.heading != dropped[-1]]
    heading = ", ".join(f"{name} {value}" for name, value in constant.items())
    drawn = Table(
        title=Text(heading) if heading else None, title_justify="left", title_style="dim", header_style="bold", box=None,
        padding=(0, GAP, 0, 0), pad_edge=False,
    )  # fmt: skip
    kinds = {_HEADINGS.get(field.name, field.name): field.type for field in table.schema}
    widths = fitted(columns, width)
    for column, wide in zip(columns, widths, strict=True):
        number = pa.types.is_integer(kinds[column.heading]) or pa.types.is_floating(kinds[column.heading])
        justify: Literal["left", "right"] = "right" if number else "left"
        drawn.add_column("\n".join(wrapped(column.heading, wide)), justify=justify, overflow="fold", width=wide)
    for cells in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(Text("\n".join(wrapped(cell, wide))) for cell, wide in zip(cells, widths, strict=True)))
    sink = io.StringIO()
    console = Console(file=sink, width=width, highlight=False)
    console.print(drawn)
    for line in wrapped(f"(too narrow for {', '.join(dropped)}: --format csv has all)", width) if dropped else ():
        console.print(Text(line))
    return sink.getvalue()


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else []


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _flat(table: pa.Table) -> pa.Table:
    """CSV has no lists: they become text, joined by a comma."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            text = [", ".join(map(str, value or ())) for value in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
