"""The page's server: routes, and what keeps strangers out.

It answers GET alone, and no request whose `Host` another site could have chosen (DNS rebinding); the page may load
nothing from elsewhere (Content-Security-Policy).
"""

import socket
import sys
from collections.abc import Callable
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsol_core.core.errors import InputError
from wsol_core.core.params import Block
from wsol_core.inspect.inspection import Inspection
from wsol_core.inspect.queries import ImageQuery, LayerQuery, LiveQuery, PageQuery, PictureQuery, read_query
from wsol_core.inspect.refusals import BAD, RefusalError

PAGE_FILES = {
    "index.html": "text/html",
    "inspect.css": "text/css",
    "source.js": "text/javascript",
    "address.js": "text/javascript",
    "grid.js": "text/javascript",
    "image.js": "text/javascript",
    "main.js": "text/javascript",
}
"""Everything that the page is made of."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
FRESH, KEPT = "no-cache", "private, max-age=3600"
LOCAL = "localhost"


class Guard:
    """Refuses requests for other hosts, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        asked = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "")
        app: ASGIApp = self._app
        if not is_own_host(asked, self._host):
            app = PlainTextResponse(f"this server answers to {self._host} alone; open the address it printed\n", BAD)
        await app(scope, receive, send_with_headers)


def is_own_host(asked: str, host: str) -> bool:
    """Whether a request's `Host` names this server: `host` itself, localhost, or an address as numbers.

    A site that has its own name point here (DNS rebinding) can send that name alone. Addresses other than loopback
    count only where `host` is not loopback either.
    """
    name = asked[1 : asked.find("]")] if asked.startswith("[") else asked.rsplit(":", 1)[0]
    if name in (host, LOCAL):
        return True
    try:
        return ip_address(name).is_loopback or not is_loopback(host)
    except ValueError:
        return not is_loopback(host) and name == socket.gethostname()


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == LOCAL


def create_app(inspection: Inspection, host: str = "127.0.0.1") -> Starlette:
    """The application over what a project holds."""
    questions: dict[str, tuple[type[Block], Callable[[Any], Any]]] = {
        "api/page": (PageQuery, inspection.page),
        "api/image": (ImageQuery, inspection.image),
        "api/boxes": (LayerQuery, inspection.boxes),
        "api/live": (LiveQuery, inspection.live),
    }
    pictures: dict[str, tuple[type[Block], Callable[[Any], bytes], str]] = {
        "thumbnail": (PictureQuery, inspection.thumbnail, "image/jpeg"),
        "picture": (PictureQuery, inspection.picture, "image/jpeg"),
        "layer": (LayerQuery, inspection.layer, "image/png"),
    }
    routes = [Route(f"/{name}", _page_file(name), methods=["GET"]) for name in PAGE_FILES]
    routes.append(Route("/", _page_file("index.html"), methods=["GET"]))
    routes.append(Route("/api/overview", _answer(None, lambda _: inspection.overview(), "json"), methods=["GET"]))
    for name, (model, ask) in questions.items():
        routes.append(Route(f"/{name}", _answer(model, ask, "json"), methods=["GET"]))
    for name, (model, draw, kind) in pictures.items():
        routes.append(Route(f"/{name}", _answer(model, draw, kind), methods=["GET"]))
    app = Starlette(
        routes=routes,
        exception_handlers={RefusalError: _refuse, InputError: _fail, OSError: _vanished, HTTPException: _unknown},
    )
    app.add_middleware(Guard, host=host)
    return app


def page_file(name: str) -> bytes:
    """The content of one of `PAGE_FILES`."""
    return files("wsol_core.inspect").joinpath("page", name).read_bytes()


def serve(inspection: Inspection, host: str, port: int) -> None:
    """Serve until interrupted; prints the address first.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"{host}:{port}: {error.strerror}; choose another with --port") from error
    shown = f"[{host}]" if ":" in host else host
    print(f"wsol inspect: http://{shown}:{listening.getsockname()[1]}/ (Ctrl+C ends it)", file=sys.stderr, flush=True)
    if not is_loopback(host):
        print("anybody who reaches this address can look at the images", file=sys.stderr, flush=True)
    config = uvicorn.Config(create_app(inspection, host), log_level="warning", server_header=False, ws="none")
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends in good order at Ctrl+C or SIGTERM, at once when it is said twice."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit, self.should_exit = self.should_exit, True


def _page_file(name: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return Response(page_file(name), media_type=PAGE_FILES[name], headers={"cache-control": FRESH})

    return answer


def _answer(model: type[Block] | None, ask: Callable[[Any], Any], kind: str) -> Callable[[Request], Response]:
    """A plain function, so that Starlette runs it in a thread of its own."""

    def answer(request: Request) -> Response:
        words = dict(request.query_params)
        kept = words.pop("v", None) is not None
        content = ask(read_query(model, words) if model else None)
        headers = {"cache-control": KEPT if kept else FRESH}
        return JSONResponse(content, headers=headers) if kind == "json" else Response(content, 200, headers, kind)

    return answer


async def _refuse(_: Request, error: Exception) -> Response:
    return _line(str(error), error.status if isinstance(error, RefusalError) else BAD)


async def _fail(_: Request, error: Exception) -> Response:
    return _line(str(error), 500)


async def _vanished(_: Request, error: Exception) -> Response:
    name = Path(str(error.filename)).name if isinstance(error, OSError) and error.filename else "a file"
    return _line(f"{name}: no longer there, or not readable; a stage may be running: load the page again", 500)


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else BAD
    return _line("no such page" if status == 404 else "not allowed; this server answers GET alone", status)


def _line(text: str, status: int) -> Response:
    return PlainTextResponse(" ".join(text.split()) + "\n", status)
