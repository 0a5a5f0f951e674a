"""Matrix products in the arithmetic that was asked for, whatever this process has set for its own.

float32 is float32 throughout. tf32 (CUDA only) rounds factors to 10 bits of mantissa, bfloat16 to 7; both add up in float32. On
a CPU bfloat16 rounds the factors and multiplies in float32: the same arithmetic, without a gain in speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Arithmetic = Literal["float32", "tf32", "bfloat16"]


@contextmanager
def arithmetic(of: Arithmetic, device: torch.device) -> Iterator[None]:
    """CUDA's float32 products in tf32 or in true float32 for a while; the setting is put back.

    Raises
    ------
    ValueError
        If tf32 is asked of another device than CUDA.
    """
    if device.type != "cuda":
        if of == "tf32":
            raise ValueError(f"tf32 is an arithmetic of CUDA devices, not of {device}; use float32 or bfloat16")
        yield
        return
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if of == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def factor(matrix: Tensor, of: Arithmetic) -> Tensor:
    """A matrix as `multiply` takes it: rounded once, however often it is used."""
    if of != "bfloat16":
        return matrix
    return matrix.bfloat16() if matrix.is_cuda else matrix.bfloat16().float()


def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The float32 product of two `factor`s, written into `out` if given."""
    if a.dtype == torch.bfloat16:
        product = torch.mm(a, b, out_dtype=torch.float32)
        return product if out is None else out.copy_(product)
    return torch.mm(a, b, out=out)
