"""The page that asks trained classifiers: what it says is what they say, and nothing that is sent to it does harm."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("starlette")
import uvicorn

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data.dataset import Data, encode_png
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.use import demo
from softmaxes.lab.use.loading import Trained, load_each
from toy import texts, toy_data, toy_run, trained, vectors

IMAGES = toy_data()
HOSTILE = ["<img src=x onerror=alert(1)>", "'\"><script>alert(2)</script>", "{{7*7}}", "class 3", "class 4", "e" * 200]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A flat head and a tree of groups, on images of classes with a stranger's names."""
    data = Data(**{**vars(IMAGES), "class_names": HOSTILE})
    folder = tmp_path_factory.mktemp("demo") / "run"
    trained(
        data,
        folder,
        *(toy_run(data, head, seed=seed) for head in ("softmax", "hierarchical-groups") for seed in (0, 1)),
    )
    return load_each(folder)


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    data = texts(toy_data())
    folder = tmp_path_factory.mktemp("texts") / "run"
    trained(data, folder, toy_run(data, channels=10, dim=8, buckets=128, lr=0.5, optimizer="adagrad"))
    return load_each(folder)


def serving(classifiers: dict[str, Trained]) -> Iterator[str]:
    """The address of a page that is served, in a thread of this process."""
    with demo.bound("127.0.0.1", 0) as listening:
        config = uvicorn.Config(
            demo.application(classifiers, demo.names_of("127.0.0.1")),
            log_level="error",
            access_log=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(classifiers: dict[str, Trained]) -> Iterator[str]:
    yield from serving(classifiers)


@pytest.fixture(scope="module")
def text_address(of_texts: dict[str, Trained]) -> Iterator[str]:
    yield from serving(of_texts)


def asked(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(f"{address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_each_head_says_what_it_says_in_python(address: str, classifiers: dict[str, Trained]) -> None:
    status, content, _ = asked(address, "/ask", encode_png(IMAGES.test_inputs[0]))
    assert status == 200
    heads = json.loads(content)["heads"]
    assert [head["head"] for head in heads] == ["softmax", "hierarchical-groups"]
    for head in heads:
        values, classes = classifiers[head["head"]].topk(IMAGES.test_inputs[:1], 5)
        assert [one["class"] for one in head["classes"]] == [HOSTILE[c] for c in classes[0].tolist()]
        assert [one["probability"] for one in head["classes"]] == pytest.approx(values[0].exp().tolist())
    assert "path" not in heads[0]
    assert heads[1]["path"][0]["name"] in ("red", "green", "blue")


def test_texts_are_asked_as_in_training(text_address: str, of_texts: dict[str, Trained]) -> None:
    status, content, _ = asked(text_address, "/ask", b"  red   3 thing\n")
    assert status == 200
    (head,) = json.loads(content)["heads"]
    same = Texts.of(["red 3 thing"]).batch(torch.arange(1))
    assert head["classes"][0]["class"] == f"class {int(of_texts['softmax'].predict(same))}"
    assert asked(text_address, "/ask", b" \n")[:2] == (422, b'{"error":"There are no words to ask about."}')
    assert asked(text_address, "/ask", b"\xff\xfe word")[0] == 200
    assert asked(text_address, "/ask", b"word " * 20_000)[0] == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"GIF89a" + b"\xff" * 100, b"<svg onload='alert(1)'></svg>"],
)
def test_what_is_no_image_is_said(address: str, body: bytes) -> None:
    status, content, _ = asked(address, "/ask", body)
    assert status == 422
    assert json.loads(content)["error"].startswith("This image cannot be read: ")


def test_uploads_have_a_size(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, content, _ = asked(address, "/ask", bytes(demo.MOST_IMAGE + 1))
    assert status == 413
    assert json.loads(content)["error"] == f"Expected at most {demo.MOST_IMAGE:,} bytes, got more."


def test_the_page_takes_nothing_from_elsewhere_and_answers_to_its_own_names(address: str) -> None:
    for path in ("/", "/demo.css", "/demo.js", "/about", "/sample/0"):
        status, content, headers = asked(address, path)
        assert status == 200, path
        assert content
        assert headers["Content-Security-Policy"] == demo.POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"http://" not in content
        assert b"https://" not in content
    assert asked(address, "/", Host="attacker.example")[0] == 400
    for path in ("/sample/99", "/../store.py", "/page/index.html", "/sample/-1", "/favicon.ico"):
        assert asked(address, path)[0] == 404, path
    assert asked(address, "/ask")[0] == 405


def test_addresses_that_cannot_be_are_one_line(
    classifiers: dict[str, Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match=r"--host, --port: expected an address to listen at, got 127\.0\.0\.1:"):
            demo.bound("127.0.0.1", other.getsockname()[1])
    with pytest.raises(InputError, match="--host, --port: expected an address"):
        demo.bound("no such host.invalid", 0)
    assert demo.names_of("0.0.0.0") == ["*"]  # noqa: S104
    assert demo.names_of("localhost") == demo.names_of("::1") == ["127.0.0.1", "localhost", "[::1]"]
    data = vectors(toy_data())
    trained(data, tmp_path / "run", toy_run(data, channels=10))
    assert main(["demo", str(tmp_path / "run")]) == 2
    assert "expected classifiers of images or texts, got ones of vectors" in capsys.readouterr().err
    assert main(["demo", str(tmp_path / "run"), "--port", "99999"]) == 2


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"expected the package starlette, got none; .*softmaxes\[demo\]"):
        demo.check_installed()


def test_a_comparison_has_a_classifier_for_each_head(classifiers: dict[str, Trained]) -> None:
    assert list(classifiers) == ["softmax", "hierarchical-groups"]
    assert [[run.seed for run in one.runs] for one in classifiers.values()] == [[0], [0]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_sees_what_each_head_says(browser: Any, address: str, scheme: str, width: int, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None if address in request.url or request.url.startswith("blob:") else complaints.append(request.url)
        ),
    )
    page.goto(address)
    page.get_by_text("6 classes of toy; 2 heads, trained by softmaxes.").wait_for()
    image = tmp_path / "mine.png"
    image.write_bytes(encode_png(IMAGES.test_inputs[0]))
    page.set_input_files("#file", str(image))
    page.locator("article").nth(1).wait_for()
    assert page.locator("article h2").all_inner_texts() == ["softmax", "hierarchical-groups"]
    assert page.locator("article li").count() == 10
    assert "Its way through the tree:" in page.locator("article").nth(1).inner_text()
    verdict = page.locator("#verdict").inner_text()
    assert verdict.startswith(("All 2 heads say", "They disagree:"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert axe.Axe().run(page).response["violations"] == []
    page.locator("#samples button").first.click()
    page.locator("#preview[alt^='Test image']").wait_for()
    page.get_by_text(f"It is {HOSTILE[int(IMAGES.test_labels[IMAGES.samples()[0]])]}.").wait_for()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    page.set_input_files("#file", str(broken))
    page.get_by_text("This image cannot be read").wait_for()
    assert page.locator("article").count() == 0
    refused = [one for one in complaints if "422" not in one]  # which the browser notes
    assert refused == []
    context.close()
