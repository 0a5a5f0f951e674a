"""A table as text: fitted to the terminal, as JSON records, or as CSV."""

from __future__ import annotations

import io
import json
import math
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv

Format = Literal["table", "json", "csv"]

_HEADINGS = {
    "voxel_id": "voxel", "noise_ceiling": "ceiling", "r2": "R²", "roi": "ROI", "predicted": "z",
    "predicted_independent": "z of judge", "percentile": "pctile",
}  # fmt: skip
_WIDEST = "caption", "value", "prompt"
"""Columns that take the width the others leave."""


def render(table: pa.Table, form: Format = "table", *, width: int | None = None) -> str:
    """Return `table` as text that ends with a newline.

    `table` draws it for people: fitted to `width` columns (none: the terminal's), numbers to three decimals, and columns that
    hold one value throughout (the only subject, the only backbone) said once, above. `json` is a list of records and `csv`
    has a header line; both keep every digit and every column.
    """
    if form == "json":
        return json.dumps([_finite(row) for row in table.to_pylist()], ensure_ascii=False, indent=1) + "\n"
    if form == "csv":
        sink = io.BytesIO()
        pyarrow.csv.write_csv(_flat(table), sink)
        return sink.getvalue().decode("utf-8")
    return _drawn(table, width)


def _drawn(table: pa.Table, width: int | None) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    constant = {name: values.pop() for name in ("subject", "backbone") if len(values := set(_column(table, name))) == 1}
    shown = [name for name in table.column_names if name not in constant]
    heading = ", ".join(f"{name} {value}" for name, value in constant.items())
    drawn = Table(
        title=Text(heading) if heading else None, title_justify="left", title_style="dim", header_style="bold", box=None
    )
    for name in shown:
        kind = table.schema.field(name).type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        justify: Literal["left", "right"] = "right" if number else "left"
        ratio = 1 if name in _WIDEST else None
        drawn.add_column(_HEADINGS.get(name, name), justify=justify, overflow="fold", no_wrap=number, ratio=ratio)
    for row in table.select(shown).to_pylist():
        drawn.add_row(*(Text(_cell(value)) for value in row.values()))
    sink = io.StringIO()
    console = Console(file=sink, width=width or Console().width, highlight=False)
    console.print(drawn)
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
