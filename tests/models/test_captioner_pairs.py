"""From a file of pairs to a captioner that names what a picture shows."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.captioner_pairs import PairSettings, train_on_pairs
from scuba_ray.models.captioner_scores import score_captions
from scuba_ray.models.clipcap import PrefixCaptioner
from scuba_ray.models.pair_files import read_pairs
from scuba_ray.protocols import Scaling

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 30), "blue": (20, 40, 220), "white": (250, 250, 250), "black": (5, 5, 5)}
QUICK = PairSettings(
    steps=150,
    batch=32,
    prefix_length=2,
    max_tokens=8,
    learning_rate=3e-3,
    vocab=300,
    width=32,
    layers=2,
    holdout=0.2,
    checkpoint_every=50,
)


def decode(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except OSError as error:
        raise DataError("not a picture") from error


class ColourBackbone:
    """A backbone that sees a picture's mean colour and nothing else."""

    name, dim = "colour", 3
    scaling: Scaling = "unit"

    def __init__(self, fingerprint: str = "c0102c0102c0102c") -> None:
        self.fingerprint = fingerprint

    def load(self, device: str) -> ColourBackbone:
        return self

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(image.height, image.width, 3).permute(2, 0, 1)[:, :8, :8] / 255

    def embed_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return 6 * pixels_B3HW.mean(dim=(2, 3)) - 3

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([COLOURS[text] for text in texts]) / 255 * 6 - 3


@pytest.fixture
def backbone() -> ColourBackbone:
    return ColourBackbone()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 coloured pictures, two captions each, one broken picture and one missing, listed in a CSV."""
    place = tmp_path_factory.mktemp("pairs")
    (place / "images").mkdir()
    image, caption = [], []
    for index in range(50):
        name = list(COLOURS)[index % len(COLOURS)]
        noise = torch.randint(-5, 6, (3,)).tolist()
        colour = tuple(max(0, min(255, value + extra)) for value, extra in zip(COLOURS[name], noise, strict=True))
        Image.new("RGB", (70, 64), colour).save(place / "images" / f"{index}.png")
        image += [f"images/{index}.png"] * 2
        caption += [f"a {name} square", f"A {name} square."]
    (place / "images" / "broken.png").write_bytes(b"not a picture")
    image += ["images/broken.png", "images/missing.png"]
    caption += ["a broken square", "a missing square"]
    pyarrow.csv.write_csv(pa.table({"image": image, "caption": caption}), place / "pairs.csv")
    return place / "pairs.csv"


def test_pictures_and_captions_make_a_captioner(backbone: ColourBackbone, pictures: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = train_on_pairs(pictures, backbone, tmp_path / "out", decode=decode, settings=QUICK, report=lines.append)
    counts = next(line for line in lines if "to learn from" in line)
    learned, held, dropped = (int(word) for word in re.findall(r"\d+", counts))
    assert (learned + held, dropped) == (100, 2)
    assert held in {16, 18, 20}
    captioner = PrefixCaptioner(str(out))
    captioner.check_backbone(backbone)
    said = [beams[0].text.lower() for beams in captioner.load("cpu").captions(backbone.embed_texts(list(COLOURS)))]
    assert said == [f"a {name} square." for name in COLOURS]
    card = (out / "README.md").read_text()
    assert "exact: 1.000" in card
    assert counts in card
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "captioner.json", "gpt2", "prefix.safetensors"]
    before = (out / "captioner.json").stat().st_mtime_ns
    train_on_pairs(pictures, backbone, out, decode=lambda _: pytest.fail("encoded again"), settings=QUICK)
    assert (out / "captioner.json").stat().st_mtime_ns == before
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join(pictures.read_text().splitlines(keepends=True)[:21]))
    with pytest.raises(ConfigError, match="other settings"):
        train_on_pairs(fewer, backbone, out, decode=decode, settings=QUICK)


def test_an_interrupted_training_does_not_encode_again_and_ends_alike(
    backbone: ColourBackbone, pictures: Path, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if line.startswith("step 100"):
            raise KeyboardInterrupt

    whole = train_on_pairs(pictures, backbone, tmp_path / "whole", decode=decode, settings=QUICK)
    with pytest.raises(KeyboardInterrupt):
        train_on_pairs(pictures, backbone, tmp_path / "parts", decode=decode, settings=QUICK, report=stop)
    again = train_on_pairs(pictures, backbone, tmp_path / "parts", decode=lambda _: pytest.fail("encoded again"), settings=QUICK)
    for name in ("prefix.safetensors", "gpt2/model.safetensors", "captioner.json"):
        assert (whole / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_embeddings_are_taken_as_they_are(backbone: ColourBackbone, tmp_path: Path, kind: str) -> None:
    direction = torch.eye(3) * 4
    which = torch.arange(90) % 3
    rows = {
        "embedding": (direction[which] + 0.1 * torch.randn(90, 3)).tolist(),
        "caption": [f"thing {i}" for i in which.tolist()],
    }
    if kind == "parquet":
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / "pairs.parquet")
    else:
        lines = [json.dumps({"embedding": e, "caption": c}) for e, c in zip(rows["embedding"], rows["caption"], strict=True)]
        (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    out = train_on_pairs(tmp_path / f"pairs.{kind}", backbone, tmp_path / "out", decode=decode, settings=QUICK)
    said = [beams[0].text for beams in PrefixCaptioner(str(out)).load("cpu").captions(direction)]
    assert said == ["thing 0.", "thing 1.", "thing 2."]


def test_files_that_cannot_be_used(tmp_path: Path, backbone: ColourBackbone) -> None:
    def written(name: str, **columns: list[object]) -> Path:
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    with pytest.raises(ConfigError, match="existing file"):
        read_pairs(tmp_path / "nowhere.csv", 24)
    with pytest.raises(ConfigError, match="got picture, text"):
        read_pairs(written("a.parquet", picture=["x"], text=["y"]), 24)
    with pytest.raises(DataError, match="1 rows have no caption, first: row 1"):
        read_pairs(written("b.parquet", image=["x", "y"], caption=["z", " "]), 24)
    with pytest.raises(DataError, match=r"length 24, the file's \['3'\]"):
        read_pairs(written("c.parquet", embedding=[[1.0, 2.0, 3.0]], caption=["z"]), 24)
    with pytest.raises(DataError, match="NaN"):
        read_pairs(written("d.parquet", embedding=[[float("nan")] * 24], caption=["z"]), 24)
    with pytest.raises(DataError, match="no pairs"):
        read_pairs(written("e.parquet", image=pa.array([], pa.string()), caption=pa.array([], pa.string())), 24)
    (tmp_path / "f.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "f.parquet", 24)
    with pytest.raises(DataError, match="no pair is left"):
        train_on_pairs(written("g.parquet", image=["gone.png"], caption=["z"]), backbone, tmp_path / "out", decode=decode)


def test_another_backbone_is_encoded_anew(pictures: Path, tmp_path: Path) -> None:
    """The cache belongs to the backbone: a second one in the same place must not read the first one's embeddings."""
    seen: list[int] = []

    def counted(data: bytes) -> Image.Image:
        seen.append(len(data))
        return decode(data)

    def stop(line: str) -> None:
        if line.startswith("step"):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_on_pairs(pictures, ColourBackbone(), tmp_path / "out", decode=counted, settings=QUICK, report=stop)
    assert len(seen) == 51
    other = ColourBackbone("0other0other0oth")
    with pytest.raises((KeyboardInterrupt, ConfigError)):
        train_on_pairs(pictures, other, tmp_path / "out", decode=counted, settings=QUICK, report=stop)
    assert len(seen) == 102


def test_scores_take_the_best_reference() -> None:
    scores = score_captions(["A red square.", "a cat"], [["red square", "a red square"], ["a dog"]])
    assert scores["exact"] == 0.5
    assert scores["word F1"] == pytest.approx((1 + 0.5) / 2)
