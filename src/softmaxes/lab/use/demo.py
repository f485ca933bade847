"""A small web page that asks trained classifiers: what each head says of an image or a text, and where they disagree.

It needs the extra: ``pip install 'softmaxes[demo]'``. Nothing that is sent to it is stored or run.
"""

import base64
import ipaddress
import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.resources import files
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch

from softmaxes.files import InputError
from softmaxes.lab.data.folder import decoded
from softmaxes.lab.extras import not_installed
from softmaxes.lab.use.answers import Answer, answers_of, as_record
from softmaxes.lab.use.inputs import as_bytes, as_trained
from softmaxes.lab.use.loading import Trained

if TYPE_CHECKING:
    from starlette.applications import Starlette

MOST_IMAGE = 20 * 2**20  # bytes that are taken
MOST_TEXT = 2**16
NEEDED = ("starlette", "uvicorn")
CLASSES = 5  # that are told of each head
ASSETS = {"": "text/html; charset=utf-8", "demo.css": "text/css", "demo.js": "text/javascript"}
# The page takes script and style from here alone, asks nobody else, and stands in no other page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def check_installed() -> None:
    """Refuse to begin without the packages of the extra."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise not_installed("demo", missing[0], "demo")


def check_kind(classifiers: Mapping[str, Trained]) -> None:
    """Refuse classifiers of vectors, which nobody drops on a page."""
    card = next(iter(classifiers.values())).card
    if card.kind not in ("image", "text"):
        raise InputError(f"demo: expected classifiers of images or texts, got ones of {card.kind}s, {card.name}.")


def answer(classifiers: Mapping[str, Trained], body: bytes) -> list[dict[str, Any]]:
    """What each head says of the bytes of an image, or of a text.

    Raises:
        InputError: they are no image that can be read, or no words.
    """
    card = next(iter(classifiers.values())).card
    if card.image_shape is not None:
        image = decoded(BytesIO(body), (card.image_shape[1], card.image_shape[2]))
        if isinstance(image, str):
            raise InputError(f"This image cannot be read: {image}.")
        input, name = torch.from_numpy(image.copy()).unsqueeze(0), "image"
    else:
        name = as_trained(body.decode(errors="replace"))
        if not name:
            raise InputError("There are no words to ask about.")
        input = as_bytes([name])
    said: list[dict[str, Any]] = []
    for head, classifier in classifiers.items():
        (one,) = answers_of(classifier, [name], input, CLASSES)
        said.append({"head": head, **_without_input(one)})
    return said


def _without_input(one: Answer) -> dict[str, Any]:
    record = as_record(one)
    del record["input"]
    return record


def application(classifiers: Mapping[str, Trained], hosts: Sequence[str] = ("*",)) -> "Starlette":
    """The web application.

    Args:
        classifiers: by the name of each head.
        hosts: names by which a browser may address it. With a loopback address alone, no page of elsewhere can reach it
            by a name of its own that leads here.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    card = next(iter(classifiers.values())).card
    most = MOST_IMAGE if card.kind == "image" else MOST_TEXT
    pages = {name: files("softmaxes.lab.use").joinpath("page", name or "index.html").read_bytes() for name in ASSETS}

    async def page(request: Request) -> Response:
        name = request.url.path.lstrip("/")
        return Response(pages[name], media_type=ASSETS[name], headers=HEADERS)

    async def about(request: Request) -> Response:
        samples = [one.text or card.class_names[one.target] for one in card.samples]
        return JSONResponse(
            {
                "data": card.name,
                "kind": card.kind,
                "classes": f"{len(card.class_names):,}",
                "heads": list(classifiers),
                "samples": samples,
            },
            headers=HEADERS,
        )

    async def sample(request: Request) -> Response:
        number = int(request.path_params["number"])
        if number >= len(card.samples) or (png := card.samples[number].png) is None:
            return JSONResponse({"error": "There is no such sample."}, 404, headers=HEADERS)
        return Response(base64.b64decode(png), media_type="image/png", headers=HEADERS)

    async def ask(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                return JSONResponse({"error": f"Expected at most {most:,} bytes, got more."}, 413, headers=HEADERS)
        try:
            said = await run_in_threadpool(answer, classifiers, bytes(body))
        except InputError as error:
            return JSONResponse({"error": str(error)}, 422, headers=HEADERS)
        return Response(json.dumps({"heads": said}), media_type="application/json", headers=HEADERS)

    routes = [Route(f"/{name}", page) for name in ASSETS]
    routes += [
        Route("/about", about),
        Route("/sample/{number:int}", sample),
        Route("/ask", ask, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the address is none of this machine, or another program has the port.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            stack.pop_all()
            return listening
    except (OSError, UnicodeError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--host, --port: expected an address to listen at, got {host}:{port} ({said}).") from None


def names_of(host: str) -> list[str]:
    """By which names a browser may address what listens at a host."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return ["127.0.0.1", "localhost", "[::1]"] if loopback else ["*"]


def serve(classifiers: Mapping[str, Trained], host: str, listening: socket.socket) -> None:
    """Answer until a signal comes."""
    import uvicorn

    config = uvicorn.Config(application(classifiers, names_of(host)), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
