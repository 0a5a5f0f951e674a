"""One HTML file out of the template, the style, the scripts and the data. Nothing in it points outside itself."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from scuba_ray.tables.fingerprint import fingerprint

SCRIPTS = (
    "data", "colour", "found", "turning", "surface", "pick", "overlay", "stage", "table", "images", "panel", "region", "evidence",
    "neighbours", "filters", "sections", "figures", "query", "app",
)  # fmt: skip
"""Parts of the page's script, in the order they are joined; together they are one function, so nothing is global."""


def digest() -> str:
    """What the page's own files are, as one word: a page made by other ones is stale."""
    parts = sorted((files("scuba_ray.report") / "assets").iterdir(), key=lambda part: part.name)
    return fingerprint([(part.name, part.read_text(encoding="utf-8")) for part in parts])


def build(title: str, data: Mapping[str, Any]) -> str:
    """Return the page. `data` is embedded as JSON, with `<` escaped so that no text in it can end the element it sits in."""
    assets = files("scuba_ray.report") / "assets"
    template = Template((assets / "page.html").read_text(encoding="utf-8"))
    scripts = "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return template.substitute(
        title=html.escape(title),
        style=(assets / "style.css").read_text(encoding="utf-8"),
        script=f'"use strict";\n(() => {{\n{scripts}\n}})();',
        data=json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
