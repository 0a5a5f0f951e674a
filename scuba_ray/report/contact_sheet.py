"""Contact sheets: one PNG per subject and region (or part, or query), a row per method, the best image first, what was said of
it below.

Drawn with Pillow, text in matplotlib's own DejaVu Sans, so that a sheet looks the same on every machine.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from scuba_ray.report.palette import NOWHERE
from scuba_ray.report.synthesised import SIDE, MethodImages, TargetImages
from scuba_ray.tables import files

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

FOLDER = "report/sheets"
INK, QUIET, EMPTY, PAPER = "#1D2126", "#5C636B", "#E4E1DA", "#FFFFFF"
MARGIN, GAP, LABEL, LINE = 24, 14, 190, 20
"""Pixels: round the sheet, between pictures, of the methods' column, of a line of text."""
_LINES = 3
"""Lines below a picture: noun, predicted responses, category."""
_LONGEST = 100
"""Characters of a name that are kept in a file's: file systems take 255 bytes."""
_WIDTH = 980
"""Least width: room for the heading of a sheet with one picture."""


def file_name(target: TargetImages) -> str:
    """Where a target's sheet lies in the run: `report/sheets/SUBJECT-ROI.png`, queries `SUBJECT-query-TEXT-DIGEST.png`, parts of
    regions `SUBJECT-ROI_part_N-DIGEST.png`.

    What not every file system takes in a name is `_`, and of a long name the beginning is kept; a digest tells such names apart.
    """
    name = f"{target.subject}-query-{target.name}" if target.kind == "query" else f"{target.subject}-{target.name}"
    short = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)[:_LONGEST]
    if short != name or target.kind != "roi":
        short += f"-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    return f"{FOLDER}/{short}.png"


def written(run: RunFolder, targets: Iterable[TargetImages], colours: Mapping[str, str]) -> Iterator[TargetImages]:
    """Pass targets on, writing the sheet of each but single voxels; at the end sheets that are no longer made are deleted."""
    names = set()
    for target in targets:
        if target.kind != "voxel":
            run.write_file(file_name(target), draw(target, colours.get(target.region or "", NOWHERE)))
            names.add(file_name(target).rpartition("/")[2])
        yield target
    for name in files.names(run.location, FOLDER) - names:
        files.delete(run.location, f"{FOLDER}/{name}")


def draw(target: TargetImages, colour: str) -> bytes:
    """The sheet of one target, as PNG.

    Parameters
    ----------
    target : TargetImages
        What the images were made for, with its pictures.
    colour : str
        The region's colour (`#RRGGBB`), shown beside the name.
    """
    columns = max(len(row.best) for row in target.rows)
    width = max(_WIDTH, 2 * MARGIN + LABEL + columns * (SIDE + GAP))
    heading = [line for text in _heading(target) for line in _wrapped(text, _font(15), width - 2 * MARGIN)]
    top = MARGIN + 38 + len(heading) * LINE + GAP
    height = top + len(target.rows) * (SIDE + _LINES * LINE + 2 * GAP) + MARGIN - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((MARGIN, MARGIN + 4, MARGIN + 18, MARGIN + 22), fill=colour, outline=QUIET)
    title = _shortened(f"{target.subject} · {target.name}", _font(22, bold=True), width - 2 * MARGIN - 30)
    pen.text((MARGIN + 30, MARGIN), title, INK, _font(22, bold=True))
    for place, line in enumerate(heading):
        pen.text((MARGIN, MARGIN + 38 + place * LINE), line, QUIET, _font(15))
    for row in target.rows:
        _label(pen, row, top)
        for place, image in enumerate(row.best):
            _cell(sheet, target, image, (MARGIN + LABEL + place * (SIDE + GAP), top))
        top += SIDE + _LINES * LINE + 2 * GAP
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def _heading(target: TargetImages) -> Iterator[str]:
    """Sentences below the title: whose responses, and how to read the lines below a picture."""
    first = target.rows[0].best[0]
    voxels = f"{target.voxels:,} voxels" if target.voxels != 1 else "1 voxel"
    second = " / by the independent judge's" if target.judged else ""
    belongs = f" (✓ {first['target_category']}, which these voxels belong to)" if first["target_category"] else ""
    yield (
        f"{voxels} · {target.backbone} · the best images from left to right. Below each: the noun it was made from (of a "
        f"stimulus, its id); mean predicted response of the voxels in standard deviations (z), by the captioned backbone's "
        f"encoding model{second}; the category it is seen in, by the independent judge where there is one{belongs}."
    )
    if first["natural_predicted"] is not None:
        yield f"All stimuli of the subject together: {_responses(target, first, 'natural_predicted')}."


def _label(pen: ImageDraw.ImageDraw, row: MethodImages, top: int) -> None:
    """A method's name with its images' mean response and how many of them fall into the category."""
    kind = "stimuli" if row.natural else "images"
    lines = [f"best {len(row.best)} of {row.count} {kind}" if row.count > len(row.best) else f"{row.count} {kind}"]
    if row.in_category is not None:
        lines.append(f"{row.in_category} of {row.count} ✓")
    room = LABEL - GAP
    for line in _wrapped(row.method.replace("-", "- "), _font(16, bold=True), room):
        pen.text((MARGIN, top), line.replace("- ", "-"), INK, _font(16, bold=True))
        top += LINE + 2
    for line in (part for text in lines for part in _wrapped(text, _font(14), room)):
        pen.text((MARGIN, top), line, QUIET, _font(14))
        top += LINE


def _cell(sheet: Image.Image, target: TargetImages, image: dict[str, Any], corner: tuple[int, int]) -> None:
    """A picture, or a box that says why there is none, and the lines below it."""
    pen, (left, top) = ImageDraw.Draw(sheet), corner
    if image["picture"] is not None:
        sheet.paste(image["picture"], corner)
    else:
        pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=EMPTY)
        pen.text((left + SIDE / 2, top + SIDE / 2), image["absent"], QUIET, _font(14), anchor="mm")
    hit = image["seen"] is not None and image["seen"] == image["target_category"]
    for place, (text, colour) in enumerate((
        (image["noun"] or image["stimulus_id"] or image["prompt"] or "no prompt", INK),
        (_responses(target, image), INK),
        (f"{image['seen'] or 'no category'}{' ✓' if hit else ''}", QUIET),
    )):  # fmt: skip
        pen.text((left, top + SIDE + 4 + place * LINE), _shortened(text, _font(14), SIDE), colour, _font(14))


def _responses(target: TargetImages, image: dict[str, Any], name: str = "predicted") -> str:
    """A response by the captioned backbone's encoding model and, where there is one, by the independent judge's."""
    values = [image[name], image[f"{name}_independent"]] if target.judged else [image[name]]
    return " / ".join("–" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−") for value in values) + " z"


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: float) -> Sequence[str]:
    """Lines of at most `room` pixels, broken at spaces; a word that is longer is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines = [*(line for line in lines if line), _shortened(word, font, room)]
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """One line of at most `room` pixels: what does not fit is an ellipsis."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # for its fonts; a run without images needs none

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
