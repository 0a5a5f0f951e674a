"""Build the sheets of drawings from two npm packages of emoji pictures and one of their published names.

    npm install emoji-datasource-google emoji-datasource-twitter emojibase-data
    python -m scuba_ray.phantom.build_drawings node_modules scuba_ray/phantom/sprites

Writes `noto.webp` and `twemoji.webp` (lossless sheets of 48 px RGBA tiles, same order) and `drawings.json` (name, keywords,
category, subcategory of each). Country and subdivision flags and skin-tone swatches are left out: they are not things one sees.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 48
COLUMNS = 41
SETS = {"noto": ("emoji-datasource-google", "google"), "twemoji": ("emoji-datasource-twitter", "twitter")}
LEFT_OUT = {"country-flag", "subdivision-flag", "skin-tone"}


def plain(text: str) -> str:
    """A published name as plain lower-case words: `woman: curly hair` becomes `woman curly hair`."""
    text = text.lower().replace("’", "'").replace("&", " and ")
    return re.sub(r"\s+", " ", re.sub(r"[^\w'!?#* -]", " ", text)).strip()


def read_records(modules: Path) -> list[dict[str, Any]]:
    """One record per drawing that both sets have, in the data's own order, with unique names."""
    listing = json.loads((modules / SETS["noto"][0] / "emoji.json").read_text(encoding="utf-8"))
    labels = json.loads((modules / "emojibase-data/en/data.json").read_text(encoding="utf-8"))
    by_code = {entry["hexcode"].replace("-FE0F", ""): entry for entry in labels}
    records: list[dict[str, Any]] = []
    names: set[str] = set()
    for entry in sorted(listing, key=lambda item: item["sort_order"]):
        label = by_code.get(entry["unified"].replace("-FE0F", ""))
        both = entry["has_img_google"] and entry["has_img_twitter"]
        if label is None or not both or entry["subcategory"] in LEFT_OUT:
            continue
        name = plain(label["label"])
        if not name or name in names:
            continue
        names.add(name)
        keywords = sorted({plain(word) for word in label.get("tags", [])} - {name, ""})
        records.append(
            {
                "image": entry["image"],
                "name": name,
                "keywords": [word for word in keywords if re.search(r"[a-z]{2}", word)],
                "category": entry["category"],
                "subcategory": entry["subcategory"],
            }
        )
    return records


def write_sheet(modules: Path, package: str, folder: str, records: list[dict[str, Any]], out: Path) -> None:
    """Tile one set's pictures, reduced to `SIDE` pixels with premultiplied alpha so that no edge turns dark."""
    rows = -(-len(records) // COLUMNS)
    sheet = np.zeros((rows * SIDE, COLUMNS * SIDE, 4), np.uint8)
    for index, record in enumerate(records):
        with Image.open(modules / package / "img" / folder / "64" / record["image"]) as picture:
            tile = picture.convert("RGBA").convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")
        row, column = divmod(index, COLUMNS)
        sheet[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = np.asarray(tile)
    # five bits a channel are invisible at this size and halve the file
    sheet[..., :3] &= 0xF8
    sheet[..., :3] |= sheet[..., :3] >> 5
    sheet[sheet[..., 3] == 0] = 0
    Image.fromarray(sheet, "RGBA").save(out, lossless=True, quality=100, method=6)


def main() -> None:
    """Write the sheets and the list of drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path, help="the node_modules folder")
    parser.add_argument("out", type=Path, help="where the sheets go")
    arguments = parser.parse_args()
    records = read_records(arguments.modules)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (package, folder) in SETS.items():
        write_sheet(arguments.modules, package, folder, records, arguments.out / f"{name}.webp")
    fields = ("name", "keywords", "category", "subcategory")
    lines = ",\n".join(json.dumps({key: record[key] for key in fields}, ensure_ascii=False) for record in records)
    (arguments.out / "drawings.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(records)} drawings in {arguments.out}")


if __name__ == "__main__":
    main()
