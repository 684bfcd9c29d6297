"""`wsol inspect` as a person uses it, in headless Chromium; skipped where there is none."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from typer.testing import CliRunner

from tests.inspected_project import make_project, make_versions
from wsol_core.cli.app import app as cli
from wsol_core.inspect.inspection import Inspection
from wsol_core.inspect.queries import PageQuery, read_query
from wsol_core.inspect.workspaces import open_workspaces

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

CODE = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 60_000
"""Milliseconds, for machines that are busy with something else."""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"needs a browser, one of {', '.join(NAMES)}")


@pytest.fixture(scope="module")
def page():
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def faults(page) -> Iterator[list[str]]:
    """What the page complains of while a test runs, such as a broken script or a blocked file."""
    found: list[str] = []

    def keep(what: object) -> None:
        found.append(str(getattr(what, "text", what)))

    def keep_errors(message) -> None:
        if message.type == "error":
            keep(message)

    page.on("pageerror", keep)
    page.on("console", keep_errors)
    yield found
    page.remove_listener("pageerror", keep)
    page.remove_listener("console", keep_errors)
    page.goto("about:blank")


@contextmanager
def served(project: Path, *words: str) -> Iterator[str]:
    """The command, and the address that it prints."""
    command = [sys.executable, "-c", "from wsol_core.cli.app import app; app()", "inspect", "--port", "0", *words]
    environment = os.environ | {"PYTHONPATH": str(CODE)}
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            found = re.search(r"http://127\.0\.0\.1:\d+/", server.stderr.readline())
            assert found
            yield found.group()
        finally:
            server.terminate()


def live_box(page, panel: int = 0) -> list[str]:
    box = page.locator(".panel").nth(panel).locator("rect[data-live]").first
    box.wait_for(state="attached")
    return [box.get_attribute(name) for name in ("x", "y", "width", "height")]


def shows(page, text: str) -> None:
    """Wait until the panels' captions hold a text."""
    playwright.expect(page.locator("#panels")).to_contain_text(text)


def test_walk(page, faults, tmp_path):
    make_project(tmp_path / "project", 130, shift=0.065)
    with served(tmp_path / "project") as address:
        page.goto(address)
        page.select_option("[name=split]", "train-weaksup")
        page.select_option("[name=outcome]", "wrong")
        playwright.expect(page.locator("#summary")).to_contain_text("of 130 images; IoU of ddt with ground truth")
        playwright.expect(page.locator("#summary")).not_to_contain_text(re.compile("^(130|85) "))
        twenty = page.locator(".tile").all()[:20]
        ious = [float(tile.locator("b").inner_text()) for tile in twenty]
        assert len(ious) == 20
        assert ious == sorted(ious)
        assert max(ious) <= 0.5
        twenty[3].click()
        before = live_box(page)
        for key, layer in (("2", "masks"), ("5", "targets/pseudo_masks"), ("7", "maps/cam")):
            page.keyboard.press(key)
            page.locator(f"img[data-layer='{layer}']").wait_for()
        page.keyboard.press("5")
        page.locator("img[data-layer='targets/pseudo_masks']").wait_for(state="detached")
        page.locator("#slider").fill("90")
        shows(page, "at 0.85")
        assert live_box(page) != before
        page.screenshot(path=tmp_path / "image.png")
        assert (tmp_path / "image.png").stat().st_size > 10_000
        link, box = page.url, live_box(page)
        page.goto("about:blank")
        page.goto(link)
        shows(page, "at 0.85")
        assert live_box(page) == box
        page.locator("img[data-layer='masks']").wait_for()
        page.keyboard.press("c")
        shows(page, "at 0.5")
        page.keyboard.press("ArrowRight")
        playwright.expect(page.locator("#about")).to_contain_text("5 of")
        page.keyboard.press("?")
        playwright.expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        playwright.expect(page.locator("#grid-view")).to_be_visible()
    assert faults == []


def test_compare_a_commit_and_an_experiment(page, faults, tmp_path):
    make_versions(tmp_path / "project")
    with served(tmp_path / "project", "--rev", "first", "--rev", "trial") as address:
        page.goto(f"{address}#split=train-weaksup&sort=change")
        page.locator(".tile").first.click()
        shows(page, "trial")
        assert page.locator(".panel").count() == 2
        assert live_box(page, 0) != live_box(page, 1)
        page.locator("#side input").nth(0).check()
        page.locator("#side input").nth(1).check()
        playwright.expect(page.locator(".panel")).to_have_count(4)
        page.locator("[data-key='maps/ddt'] label").hover()
        playwright.expect(page.locator("#origin")).to_contain_text("everything")
        page.screenshot(path=tmp_path / "compare.png")
    assert faults == []


def test_static_folder_opens_without_a_server(page, faults, tmp_path, monkeypatch):
    make_project(tmp_path / "project", 24, shift=0.065)
    monkeypatch.chdir(tmp_path / "project")
    assert CliRunner().invoke(cli, ["inspect", "--static", str(tmp_path / "shown")]).exit_code == 0
    inspection = Inspection(open_workspaces(tmp_path / "project", []))
    for words in ("label=2", "split=test&sort=best", "outcome=wrong", "low=0.4&high=0.6&method=cam", "q=REd&sort=name"):
        query = read_query(PageQuery, {"data_set": "localization"} | dict(parse_qsl(words)))
        expected = [image["id"] for image in inspection.page(query)["images"]]
        page.goto("about:blank")
        page.goto(f"file://{tmp_path}/shown/index.html#{words}")
        page.locator(".tile").first.wait_for()
        assert [tile.get_attribute("title").split(":")[0] for tile in page.locator(".tile").all()] == expected
    page.locator(".tile").last.click()
    before = live_box(page)
    page.keyboard.press("8")
    page.locator("img[data-layer='maps/ddt']").wait_for()
    page.locator("#slider").fill("95")
    shows(page, "at 0.9")
    assert live_box(page) != before
    assert faults == []
