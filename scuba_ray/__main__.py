"""`python -m scuba_ray` is `scuba`."""

from scuba_ray.cli import main

main()
