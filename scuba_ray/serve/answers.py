"""Answers as the client asked for them: JSON, or an Arrow IPC stream for tables."""

from __future__ import annotations

import io
import json
import math
from base64 import b64encode
from typing import Any

import pyarrow as pa
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"


def answer(request: Request, value: pa.Table | BaseModel) -> Response:
    """Return `value` in the form that the request's Accept header names.

    A table is {"rows": [...]} in JSON, one object a row, with NaN and infinities as null (JSON has neither) and bytes as
    base64; as Arrow it is a stream with the table's own types. A model is JSON only.

    Raises
    ------
    HTTPException
        406 if the client accepts nothing but Arrow for a model.
    """
    headers = {"Vary": "Accept"}
    arrow, plain = _quality(request, ARROW), _quality(request, JSON)
    if isinstance(value, BaseModel):
        if arrow > 0 and plain == 0:
            raise HTTPException(406, f"this answer is no table; accept {JSON}")
        # not pydantic's own JSON: it writes non-finite numbers as null or NaN, by the model's settings
        return Response(_json(value.model_dump(mode="python")), media_type=JSON, headers=headers)
    if arrow > 0 and arrow >= plain:
        return Response(_stream(value), media_type=ARROW, headers=headers)
    return Response(_json({"rows": value.to_pylist()}), media_type=JSON, headers=headers)


def _quality(request: Request, wanted: str) -> float:
    """How much the client wants a type, 0 to 1. Arrow only where it is named; without a header JSON is wanted."""
    ranges = ",".join(request.headers.getlist("accept")).lower()
    if not ranges.strip():
        return float(wanted == JSON)
    exact, wild = None, 0.0
    for one in ranges.split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        weight = next((_number(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        if kind == wanted:
            exact = weight
        elif kind in {"*/*", "application/*"} and wanted == JSON:
            wild = max(wild, weight)
    return wild if exact is None else exact


def _number(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return min(1.0, max(0.0, weight)) if math.isfinite(weight) else 0.0


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(one) for one in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value
