"""Seeds of pictures: each of its own, so that any picture can be made again alone."""

from __future__ import annotations

import hashlib


def image_seed(run_seed: int, subject: str, target: str, method: str, sample: int) -> int:
    """Seed of one picture's noise: the first 32 bits of blake2b of what names the picture, joined by zero bytes.

    Neither other targets nor the number of samples change it. torch's CPU generator keeps 32 bits of a seed.

    Parameters
    ----------
    run_seed : int
        Of the whole run.
    subject, target, method : str
        Whose picture, of what, made how: key columns of the table `images`.
    sample : int
        Which of the target's pictures.

    Returns
    -------
    int
        In [0, 2**32).
    """
    name = "\0".join((str(run_seed), subject, target, method, str(sample)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
