"""Pictures' seeds: fixed for ever, different for different pictures."""

from __future__ import annotations

from hashlib import blake2b
from itertools import product

from scuba_ray.core.seeds import image_seed


def test_it_is_the_first_32_bits_of_blake2b_of_the_names() -> None:
    wanted = blake2b(b"0\0subj01\0FFA-1\0brainscuba\x003", digest_size=4).hexdigest()
    assert image_seed(0, "subj01", "FFA-1", "brainscuba", 3) == int(wanted, 16) == 0xB453C54A
    assert 0 <= image_seed(2**40, "", "é", "braindive", 0) < 2**32


def test_every_part_of_the_name_counts() -> None:
    names = product((0, 1), ("a", "ab"), ("bc", "c"), ("brainscuba", "braindive"), range(50))
    seeds = [image_seed(*name) for name in names]
    assert len(set(seeds)) == len(seeds) == 800
