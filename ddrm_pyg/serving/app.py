"""Lists over HTTP: an export behind FastAPI, without torch in the process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ddrm_pyg.extras import import_extra
from ddrm_pyg.serving.counts import Counts
from ddrm_pyg.serving.engine import Engine, Listed

try:
    from fastapi import FastAPI, HTTPException
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, PlainTextResponse
    from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
except ImportError:
    import_extra("fastapi", "serving needs fastapi", "serve")
    raise

logger = logging.getLogger("ddrm_pyg")

_POLL = 0.05
"""Seconds between looks at whether to stop at once."""

_GRACE = 30
"""Seconds that requests under way have, once the server is told to stop."""

Id = StrictStr | StrictInt
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


@dataclass(frozen=True)
class Limits:
    """Sizes above which a request is refused with status 413.

    Attributes:
        history: Ids of a history, and of what a list leaves out.
        batch: Lists of one request.
        bytes: Length of a request's body.
    """

    history: int = 1000
    batch: int = 256
    bytes: int = 1 << 20


class Request(BaseModel):
    """One list."""

    model_config = ConfigDict(extra="forbid")
    history: list[Id] = Field(
        description="Ids of what this person has, from first to last."
    )
    k: Annotated[int, Field(ge=1)] = 10
    exclude: list[Id] = Field([], description="Ids of what else is left out.")


class Batch(BaseModel):
    """Several lists of one length."""

    model_config = ConfigDict(extra="forbid")
    histories: list[list[Id]] = Field(description="One history for each list.")
    k: Annotated[int, Field(ge=1)] = 10


class Similar(BaseModel):
    """What is like an item."""

    model_config = ConfigDict(extra="forbid")
    item: Id
    k: Annotated[int, Field(ge=1)] = 10


class Answer(BaseModel):
    """The best items, best first."""

    item: list[Id]
    score: list[float]
    num_unknown: int = Field(description="Ids of the request that are not known here.")


class Answers(BaseModel):
    """One answer for each history."""

    lists: list[Answer]


class Service:
    """The export that is served now, its limits and what has been counted.

    Args:
        folder: The export, or a link to one that may be moved to another.
        limits: Sizes of requests.
        num_threads: Threads of one answer.
    """

    def __init__(
        self, folder: Path, limits: Limits | None = None, num_threads: int = 1
    ) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.num_threads = num_threads
        self.counts = Counts()
        self.stopping = False
        self.engine = Engine(folder, num_threads=num_threads)

    def reload(self) -> None:
        """Serve what the folder holds now; where that cannot be, what was there."""
        try:
            self.engine = Engine(self.folder, num_threads=self.num_threads)
        except (OSError, ValueError) as error:
            logger.warning("not reloaded, %s goes on: %s", self.engine.folder, error)
            return
        with self.counts.lock:
            self.counts.reloads += 1
        logger.info("serving %s", self.engine.folder)

    def recommend(
        self, histories: list[list[Id]], k: int, exclude: list[list[Id]]
    ) -> list[Answer]:
        """Answer some requests of one length.

        Raises:
            HTTPException: They are larger than the limits (413), or lists longer than
                the export's (422).
        """
        engine = self.engine  # one export from here on, whatever is reloaded
        self._check_sizes(histories, exclude)
        _check_length(k, engine.max_k)
        listed = engine.recommend(histories, k=k, exclude=exclude) if histories else []
        with self.counts.lock:
            self.counts.unknown += sum(one.num_unknown for one in listed)
        return [_answer(one) for one in listed]

    def similar(self, request: Similar) -> Answer:
        """Answer what is like an item.

        Raises:
            HTTPException: An unknown item (404), or a list longer than the export's.
        """
        engine = self.engine
        _check_length(request.k, engine.max_k)
        listed = engine.similar(request.item, k=request.k)
        if listed is None:
            raise HTTPException(404, f"'item' must be known (got {request.item!r})")
        return _answer(listed)

    def _check_sizes(self, *tables: list[list[Id]]) -> None:
        limits = self.limits
        for lists in tables:
            if len(lists) > limits.batch:
                raise HTTPException(
                    413,
                    f"a request has at most {limits.batch} lists (got {len(lists)})",
                )
            longest = max(map(len, lists), default=0)
            if longest > limits.history:
                limit = f"a list has at most {limits.history} ids"
                raise HTTPException(413, f"{limit} (got {longest})")


def create_app(service: Service) -> FastAPI:
    """Make the application of a service; ``/docs`` is its OpenAPI page."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            loop.add_signal_handler(
                signal.SIGHUP, loop.run_in_executor, None, service.reload
            )
        yield

    app = FastAPI(title="ddrm_pyg", lifespan=lifespan)
    app.add_middleware(_Guard, service=service)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Any, error: RequestValidationError) -> JSONResponse:
        """Say what is wrong and where; what was sent may not even be JSON."""
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "body"
        return _refuse(422, f"'{where}': {first['msg']}")

    @app.post("/recommend")
    def recommend(request: Request) -> Answer:
        """List the best items for one history."""
        (answer,) = service.recommend([request.history], request.k, [request.exclude])
        return answer

    @app.post("/recommend/batch")
    def recommend_batch(request: Batch) -> Answers:
        """List the best items for several histories."""
        histories = request.histories
        lists = service.recommend(histories, request.k, [[] for _ in histories])
        return Answers(lists=lists)

    @app.post("/similar")
    def similar(request: Similar) -> Answer:
        """List the items that are most like one."""
        return service.similar(request)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Tell that lists can be asked for, and of what."""
        if service.stopping:
            raise HTTPException(503, "stopping")
        engine = service.engine
        return {
            "status": "ok",
            "export": engine.folder.name,
            "num_items": engine.num_items,
            "max_k": engine.max_k,
            "ordered": engine.ordered,
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Count requests, seconds and unknown ids, as Prometheus reads it."""
        return service.counts.text(service.engine.num_items)

    return app


class _Guard:
    """Refuses bodies that are too long, counts answers, and keeps failures short."""

    def __init__(self, app: Any, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        body = await self._read(scope, receive)
        try:
            if body is None:
                reason = f"a body has at most {self.service.limits.bytes} bytes"
                await _refuse(413, reason)(scope, receive, watched)
            else:
                await self.app(scope, _replayed(body, receive), watched)
        except UnicodeDecodeError:  # FastAPI knows only JSON that is not well-formed
            await _refuse(422, "a body must be UTF-8")(scope, receive, watched)
        except Exception as error:
            logger.error("%s: %s: %s", scope["path"], type(error).__name__, error)
            logger.debug("", exc_info=True)
            if not status:
                await _refuse(500, "internal error")(scope, receive, watched)
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self.service.counts.record(path, status, time.perf_counter() - begin)

    async def _read(self, scope: Message, receive: Receive) -> bytes | None:
        """Read a body; None if it is longer than it may be."""
        limit = self.service.limits.bytes
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return None
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > limit:
                return None
            if not message.get("more_body"):
                return body


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def _check_length(k: int, longest: int) -> None:
    if k > longest:
        raise HTTPException(422, f"'k' must be <= {longest}, the export's (got {k})")


def _answer(listed: Listed) -> Answer:
    return Answer(item=listed.item, score=listed.score, num_unknown=listed.num_unknown)


def run(service: Service, host: str, port: int, drain: float) -> None:
    """Serve until told to stop; requests under way are answered first.

    Told to stop, the server is unhealthy (503) for a while but goes on answering, so
    that whoever sends requests here can turn away; told again, it stops at once.
    SIGHUP loads the export anew.

    Args:
        service: What answers.
        host: Address to listen on.
        port: 0 is any free one.
        drain: Seconds between being told to stop and refusing connections.

    Raises:
        ValueError: The address cannot be had.
    """
    uvicorn = import_extra("uvicorn", "serving needs uvicorn", "serve")

    class Server(uvicorn.Server):  # type: ignore[name-defined]
        async def shutdown(self, sockets: Any = None) -> None:
            service.stopping = True
            end = time.monotonic() + drain
            while time.monotonic() < end and not self.force_exit:
                await asyncio.sleep(_POLL)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        create_app(service),
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
    )
    with _bound(host, port) as listening:
        name, number, *_ = listening.getsockname()
        where = f"http://{name}:{number}"
        logger.info("serving %s on %s (see %s/docs)", service.folder, where, where)
        Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends answers at once only where the protocol is named
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ValueError(
            f"'--host' and '--port' must be free (got {host}:{port}: "
            f"{error.strerror or error})"
        ) from None
    return listening
