"""Settings of how responses become what a fit reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scuba_ray.config.parts import Part


class PrepareConfig(Part):
    # voxels averaged together (and rows per Parquet part). Every session is read once; with V voxels, T_s trials in the largest
    # session, T in all and S stimuli, a worker's peak is the larger of
    #     reading:    6 * T_s * V * 4 bytes   (NSD: 0.3 GB for 15,000 voxels, 4.5 GB for 250,000)
    #     averaging:  T * (4 * chunk + 4,000) + 16 * S * chunk bytes   (NSD, 512 voxels: 0.3 GB)
    chunk: int = Field(512, ge=1)
    # how single trials are kept in between, until a subject's responses are complete: T * V * 4 or 2 bytes of disk. float16
    # changes a trial's z-score by up to 1/2000 of itself, and is part of the fingerprint
    dtype: Literal["float32", "float16"] = "float32"
