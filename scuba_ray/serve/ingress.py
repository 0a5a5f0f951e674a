"""The HTTP face of the application: routes, their words in the OpenAPI document, and health.

Requests that ask for nothing computed (`/v1/runs`, `/healthz`) are answered here; `questions` asks deployments for the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pyarrow as pa
from fastapi import FastAPI, Path, Query
from pydantic import BaseModel
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from scuba_ray import __version__
from scuba_ray.config import RunConfig, ServeConfig
from scuba_ray.serve import answer_schemas as answers
from scuba_ray.serve import schemas
from scuba_ray.serve.answers import ARROW, answer
from scuba_ray.serve.catalogue import Captioned, Catalogue, about_run
from scuba_ray.serve.failures import RESPONSES, answer_in_words, exception_answer
from scuba_ray.serve.metrics_page import metrics
from scuba_ray.serve.page import page
from scuba_ray.serve.protection import protect
from scuba_ray.serve.questions import Questions
from scuba_ray.tables.store import RunFolder

_HEALTH_SECONDS = 1.0
"""How old what `/healthz` says may be: many may ask, the controller is asked so often at most."""
_ROUTES: dict[str, tuple[type, str]] = {
    "predict": (answers.PredictAnswer, "Predict voxels' responses to pictures"),
    "project": (answers.ProjectAnswer, "Project voxels' weights on the bank of natural images"),
    "caption": (answers.CaptionAnswer, "Say in words what voxels answer to"),
    "nearest": (answers.NearestAnswer, "Find the bank's pictures nearest to voxels or texts"),
    "query": (answers.QueryAnswer, "Rank voxels by how much they answer to texts"),
    "synthesize": (answers.SynthesizeAnswer, "Make pictures of what voxels answer to"),
}
Subject = Annotated[str | None, Query(description="needed where several subjects have this voxel", max_length=200)]
VoxelId = Annotated[int, Path(ge=-(2**63), lt=2**63, description="an id of the run's voxels")]


def layers(settings: ServeConfig) -> list[Middleware]:
    """What stands before the endpoints: made where the token is known, it travels to the replicas.

    Raises
    ------
    ConfigError
        If the token's variable holds something that is no token.
    """
    app = FastAPI()
    protect(app, settings)
    return app.user_middleware


@serve.ingress()
class Ingress:
    """One replica of the face."""

    def __init__(
        self,
        before: list[Middleware],
        settings: ServeConfig,
        config: RunConfig,
        captioned: Captioned,
        **handles: DeploymentHandle,
    ) -> None:
        """Read which voxels there are. Raises ConfigError or DataError if the run is not what it was."""
        catalogue = Catalogue.of(RunFolder(settings.run), config, captioned.backbone)
        self._before, self._limits, self._run = before, settings.limits, settings.run
        self._questions = Questions(settings, catalogue, handles, captioned.dim)
        serves = [name for name in _ROUTES if name != "synthesize" or "synthesis" in handles]
        self._about = answers.RunAbout.model_validate({**about_run(settings, config, catalogue, captioned), "serves": serves})
        self._health, self._looked = answers.Health(healthy=False, deployments={}), -_HEALTH_SECONDS

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = FastAPI(
            title="scuba_ray",
            version=__version__,
            summary="A natural-language caption for every voxel of the visual cortex",
            description="Bodies hold lists. Tables come as JSON rows, or as an Arrow IPC stream with "
            f"`Accept: {ARROW}`. Numbers that do not exist are null.",
            responses=RESPONSES,
            middleware=self._before,
            docs_url=None,  # their pages load scripts from elsewhere
            redoc_url=None,
        )
        answer_in_words(app)
        for name, (model, summary) in _ROUTES.items():
            app.add_api_route(
                f"/v1/{name}",
                getattr(self, name),
                methods=["POST"],
                response_model=model,
                summary=summary,
                responses={200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}},
            )
        app.add_api_route("/v1/runs", self.runs, response_model=answers.Runs, summary="Which run is served")
        app.add_api_route(
            "/v1/voxels/{voxel_id}", self.voxel, response_model=answers.VoxelAnswer, summary="Everything about one voxel"
        )
        app.add_api_route("/metrics", metrics, response_class=PlainTextResponse, summary="What Prometheus reads")
        app.add_api_route("/", self.report, response_class=HTMLResponse, summary="The run's report, with a query box")
        unhealthy: dict[int | str, dict[str, Any]] = {
            503: {"model": answers.Health, "description": "A deployment does not answer"}
        }
        app.add_api_route(
            "/healthz", self.healthz, response_model=answers.Health, responses=unhealthy, summary="Whether all deployments answer"
        )
        document = schemas.with_limits(app.openapi(), self._limits)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}, {}]
        return app

    async def predict(self, request: Request, body: schemas.PredictRequest) -> Response:
        """Of each picture its predicted response in each voxel: w . x / |x| + b with the run's weights."""
        return await self._asked(request, body, self._questions.predict)

    async def project(self, request: Request, body: schemas.ProjectRequest) -> Response:
        """Voxels of the run: rows of its table `projections`. Weights: projected now, on the same bank."""
        return await self._asked(request, body, self._questions.project)

    async def caption(self, request: Request, body: schemas.CaptionRequest) -> Response:
        """Voxels of the run: its own captions, by all methods. Weights: projected and captioned now, by method brainscuba."""
        return await self._asked(request, body, self._questions.caption)

    async def nearest(self, request: Request, body: schemas.NearestRequest) -> Response:
        """Pictures of the bank by their embeddings' cosine with voxels' weights, weights or texts."""
        return await self._asked(request, body, self._questions.nearest)

    async def query(self, request: Request, body: schemas.QueryRequest) -> Response:
        """Voxels by the cosine of their weights with each text's embedding; those that predict held-out pictures come first."""
        return await self._asked(request, body, self._questions.query)

    async def synthesize(self, request: Request, body: schemas.SynthesizeRequest) -> Response:
        """Pictures of prompts, or of voxels' captions: a voxel's pictures with the run's own seed are the run's own."""
        return await self._asked(request, body, self._questions.synthesize)

    async def runs(self, request: Request) -> Response:
        """Subjects, voxels, regions, methods, bank and settings of the run."""
        return answer(request, answers.Runs(runs=[self._about]))

    async def voxel(self, request: Request, voxel_id: VoxelId, subject: Subject = None) -> Response:
        """Place, scores, captions, projections, bands, support and images of a voxel."""

        async def found() -> answers.VoxelAnswer:
            return answers.VoxelAnswer.model_validate(await self._questions.voxel(voxel_id, subject))

        return await _answered(request, found())

    async def report(self, request: Request) -> Response:
        """The cortex explorer; its query box asks this service."""
        return await asyncio.to_thread(page, request, self._run)

    async def healthz(self) -> Response:
        """200 while every deployment has a replica that answers its health checks, 503 otherwise."""
        if time.monotonic() - self._looked >= _HEALTH_SECONDS:
            self._looked = time.monotonic()
            self._health = await asyncio.to_thread(_health, serve.get_replica_context().app_name)
        return JSONResponse(self._health.model_dump(), 200 if self._health.healthy else 503)

    async def _asked(self, request: Request, body: Any, question: Callable[[Any], Awaitable[pa.Table]]) -> Response:
        schemas.check_limits(body, self._limits)
        return await _answered(request, question(body))


async def _answered(request: Request, coming: Awaitable[pa.Table | BaseModel]) -> Response:
    try:
        found = await coming
    except (BackPressureError, DeploymentUnavailableError) as error:
        # Serve answers these in plain text before any layer of ours sees them
        return exception_answer(request, error)
    return await asyncio.to_thread(answer, request, found)


def _health(application: str) -> answers.Health:
    """What Serve's controller, which asks every replica all the time, says of this application's deployments."""
    states = {}
    for name, state in serve.status().applications[application].deployments.items():
        running = state.replica_states.get("RUNNING", 0)
        states[name] = "ok" if running or state.status == "HEALTHY" else "no replica answers"
    return answers.Health(healthy=bool(states) and set(states.values()) == {"ok"}, deployments=states)
