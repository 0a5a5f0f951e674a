from __future__ import annotations

import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from scuba_ray.datasets import locations
from scuba_ray.datasets.content import picture_digest, spread_digest
from scuba_ray.datasets.locations import Location, read_picture
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables.files import is_uri


@pytest.fixture
def memory() -> str:
    """A folder in fsspec's filesystem in memory, which pyarrow does not know."""
    files = fsspec.filesystem("memory")
    files.pipe({"/scuba-test/deep/a.PNG": b"0123456789", "/scuba-test/b.png": b"b", "/scuba-test/.c.png": b"c"})
    return "memory://scuba-test"


def test_fsspec_reaches_what_pyarrow_does_not(memory: str) -> None:
    location: Location = pickle.loads(pickle.dumps(Location(memory)))
    assert location.files({".png"}) == [("b.png", 1), ("deep/a.PNG", 10)]
    assert location.read("b.png") == b"b" and location.read_at("deep/a.PNG", 3, 4) == b"3456"
    assert location.stream("deep/a.PNG", 1 << 20).read() == b"0123456789"
    assert read_picture(f"{memory}/deep/a.PNG") == b"0123456789"
    for read in (lambda: location.read("none.png"), lambda: read_picture(f"{memory}/none.png")):
        with pytest.raises(DataError, match=r"none\.png"):
            read()


def test_pictures_by_absolute_path_and_uri(tmp_path: Path) -> None:
    picture = tmp_path / "one two%20.png"
    picture.write_bytes(b"x")
    assert read_picture(str(picture)) == read_picture(picture.as_uri()) == b"x"
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(str(tmp_path))


def test_unknown_places_are_errors_of_the_configuration(tmp_path: Path) -> None:
    for path, words in (("nosuch://a/b", "Protocol not known: nosuch"), (str(tmp_path / "none"), "no folder of pictures")):
        with pytest.raises(ConfigError, match=words):
            Location(path)
    assert is_uri("s3://a") and is_uri("zip://*::a.zip") and not is_uri("a/b:c") and not is_uri("/a")


def test_one_file_is_a_location_too(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"123")
    (tmp_path / "b.tar").write_bytes(b"12")
    location = Location(str(tmp_path / "a.tar"))
    assert not location.is_folder and location.files({".tar"}) == [("a.tar", 3)]
    assert location.read("a.tar") == b"123"


def test_a_name_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"not UTF-8.*caf\\xe9"):
        Location(str(tmp_path)).files({".png"})


def test_too_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    monkeypatch.setattr(locations, "MAX_BYTES", 4)
    with pytest.raises(DataError, match="5 bytes, more than 4"):
        Location(str(tmp_path)).read("a.png")


def test_threads_share_a_bounded_number_of_open_files(tmp_path: Path) -> None:
    contents = {}
    for index in range(locations.OPEN_FILES + 20):
        contents[f"{index}.bin"] = random.Random(index).randbytes(5000)
        (tmp_path / f"{index}.bin").write_bytes(contents[f"{index}.bin"])
    location = Location(str(tmp_path))

    def wrong(seed: int) -> int:
        draw = random.Random(seed)
        places = [(draw.choice(sorted(contents)), draw.randrange(5000), draw.randrange(100)) for _ in range(500)]
        return sum(location.read_at(name, at, size) != contents[name][at : at + size] for name, at, size in places)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(wrong, range(16))) == 0
    assert len(list(Path("/proc/self/fd").iterdir())) < 200 and len(location._opened) == locations.OPEN_FILES


def test_spread_digest_sees_every_byte_of_small_files_and_every_size() -> None:
    rng = random.Random(0)
    files = {f"{index}": bytearray(rng.randbytes(size)) for index, size in enumerate((0, 70_000, 3, 1_000_000, 65_536, 0))}

    def digest() -> str:
        sizes = [(name, len(data)) for name, data in files.items()]
        return spread_digest(sizes, lambda name, at, size: bytes(files[name][at : at + size]))

    seen = {digest()}
    assert digest() in seen
    for name, place in (("1", 0), ("1", 69_999), ("2", 1), ("3", 123_457), ("3", 999_999), ("4", 0), ("4", 65_535)):
        files[name][place] ^= 1
        seen.add(digest())
    files["5"].extend(b"x")
    seen.add(digest())
    assert len(seen) == 9 and spread_digest([], lambda name, at, size: b"") != spread_digest([("a", 0)], lambda *_: b"")
    assert len(picture_digest(b"")) == 32


def test_folders_that_may_not_be_listed_are_named(tmp_path: Path) -> None:
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    location = Location(str(tmp_path))
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("who runs this may read everything")
        with pytest.raises(ConfigError, match="closed"):
            location.files({".png"})
        with pytest.raises(ConfigError, match="inner may not be looked at"):
            Location(str(tmp_path / "closed" / "inner"))
    finally:
        (tmp_path / "closed").chmod(0o755)
