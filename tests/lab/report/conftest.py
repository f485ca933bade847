"""Reports that tests only read, and the browser that opens them: each is made once."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from reports import hostile, many_study, whole_study, write_report

expect.set_options(timeout=20_000)  # milliseconds: a busy machine draws slowly


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study's report, with some classes named by strangers."""
    study, card, results = whole_study()
    return write_report(study, hostile(card), results, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="package")
def visits(browser):
    """Opens pages without a network, each kind of visit once, and notes their complaints and wishes for a network."""
    pages, complaints = {}, []

    def decide(route) -> None:
        if route.request.url.startswith("file:") and route.request.is_navigation_request():
            route.continue_()
        else:
            complaints.append(f"request: {route.request.url}")
            route.abort()

    def opened(path: Path, width: int = 1280, scheme: str = "light", **settings):
        visit = (path, width, scheme)
        if visit not in pages:
            viewport = {"width": width, "height": 900}
            context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, **settings)
            pages[visit] = page = context.new_page()
            page.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.route("**/*", decide)
            page.goto(path.as_uri())
            # `expect` and not `wait_for_function`, which the page's content security policy forbids to look again
            expect(page.locator(".plot:visible:not(:has(.main-svg))")).to_have_count(0)
            page.locator("details").evaluate_all("found => found.forEach(one => one.open = true)")
        return pages[visit]

    yield opened, complaints
    for page in pages.values():
        page.context.close()


@pytest.fixture
def open_page(visits):
    """Opens a page, and fails at the end if it complained or wished for a network."""
    opened, complaints = visits
    yield opened
    found, complaints[:] = list(complaints), []
    assert found == []


@pytest.fixture(scope="session")
def many_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 24 heads."""
    study, card, results = many_study()
    return write_report(study, card, results, tmp_path_factory.mktemp("many"))
