"""Synthesizer: pictures from prompts, or by the gradient of voxels, with the settings of the run's group `synthesize`."""

from __future__ import annotations

from scuba_ray.config import RunConfig
from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import ImageRequest, MadeImage
from scuba_ray.serve.opening import captioned_backbone, device_of, directions
from scuba_ray.serve.replica import Outcome, Replica, gathered
from scuba_ray.stages.synthesizers import make_synthesizers
from scuba_ray.tables.ways import BRAINDIVE


class Synthesizer(Replica):
    """One replica: what makes pictures of either kind, as far as the run makes them."""

    def __init__(self, settings: ServeConfig, config: RunConfig) -> None:
        """Load the models. Raises ConfigError if the run makes no pictures, or its models cannot be had."""
        super().__init__(settings.synthesis, settings.threads, self._make)
        if config.synthesize is None:
            raise ConfigError("the run has no group synthesize, so there is nothing to make images with: set synthesizer: false")
        device = device_of(settings, config, settings.synthesis, "synthesis")
        reader = captioned_backbone(config)
        self._dim = reader.dim
        # whatever captions prompts are made from, one maker makes their pictures
        makers = {method == BRAINDIVE: maker for method, maker in make_synthesizers(config, reader).items()}
        self._maker_of = {by_gradient: maker.load(device) for by_gradient, maker in makers.items()}

    async def images(self, requests: list[ImageRequest]) -> list[MadeImage]:
        """Pictures in the order of the requests; those with a direction are made by its gradient.

        Raises
        ------
        ConfigError
            If the run makes no pictures of that kind.
        DataError
            If a direction has another length than the backbone's embeddings, or is zero or not finite.
        """
        for request in requests:
            by_gradient = request.direction_D is not None
            if by_gradient not in self._maker_of:
                kind = "by gradient" if by_gradient else "from prompts"
                raise ConfigError(f"this run makes no images {kind}: synthesize.{'gradient' if by_gradient else 'text'} is null")
            if request.direction_D is not None:
                directions("directions", request.direction_D[None], self._dim)
        return await self.ask(self._make, requests)

    @gathered
    async def _make(self, calls: list[list[ImageRequest]]) -> list[Outcome[MadeImage]]:
        return await self.compute(self._images, calls)

    def _images(self, requests: list[ImageRequest]) -> list[MadeImage]:
        made: dict[int, MadeImage] = {}
        for by_gradient, maker in self._maker_of.items():
            mine = [row for row, request in enumerate(requests) if (request.direction_D is not None) == by_gradient]
            made |= zip(mine, maker.images([requests[row] for row in mine]), strict=True)
        return [made[row] for row in range(len(requests))]
