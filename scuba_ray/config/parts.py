"""What every group of settings shares: frozen, unknown keys are errors, names are held against the registry."""

from __future__ import annotations

from pydantic import AfterValidator, BaseModel, ConfigDict

from scuba_ray.registry import SEAMS


class Part(BaseModel):
    """A group of settings: frozen, and unknown keys are errors. A field's description is what its error message advises."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def registered(seam: str, *also: str) -> AfterValidator:
    """Accept a name of the registry, `also` or a path `module:Class`; the class itself is loaded when it is used."""

    def check(name: str) -> str:
        if name not in SEAMS[seam] and name not in also and ":" not in name:
            known = ", ".join([*also, *sorted(SEAMS[seam])])
            raise ValueError(f"must be one of {known}, or a path 'module:Class'")
        return name

    return AfterValidator(check)
