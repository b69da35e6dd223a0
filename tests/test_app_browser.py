"""The app as a visitor meets it: its own server, and a headless Chromium."""

from __future__ import annotations

import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import CHROMIUM, OWN, PATIENCE, app_server, chromium, keep_screenshot

from app.uploads import MOST_MEGABYTES
from datasets.sample.write import draw
from deploy.pictures.decode import encode_png
from deploy.predictor import Predictor
from evaluation.page.texts import TEXTS

pytest.importorskip("streamlit", reason="no streamlit: the app is not tested (requirements-app.txt)")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: the app is not tested in a browser")
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium: the app is not tested in a browser (apt install chromium)"
    ),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """`python -m app`, see `app_server`."""
    with app_server(tmp_path) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[object]:
    """A headless Chromium."""
    with chromium() as started:
        yield started


def test_a_visitor_trains_tests_and_takes_the_model_along(
    server: SimpleNamespace, browser: object, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(PATIENCE)
    page, outside = context.new_page(), []
    page.on("request", lambda request: outside.append(request.url))

    def seen(text: str) -> None:
        page.get_by_text(text).locator("visible=true").first.wait_for()

    def click(name: str) -> None:
        page.get_by_role("button", name=name, exact=True).locator("visible=true").click()

    def drop(path: Path, text: str) -> None:
        """Drop a picture until the page answers: on a busy machine it may be redrawn under the hand."""
        until = time.monotonic() + PATIENCE / 1000
        while True:
            page.locator("input[type=file]").locator("nth=0").set_input_files([str(path)])
            try:
                page.get_by_text(text).locator("visible=true").first.wait_for(timeout=20_000)
                return
            except playwright.TimeoutError:
                if time.monotonic() > until:
                    raise

    # bad uploads: no picture, and one that is too large
    page.goto(server.address)
    seen("Drop pictures of good products")
    text, large = tmp_path / "text.png", tmp_path / "large.png"
    text.write_text("no picture")
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * (MOST_MEGABYTES << 20))
    drop(text, "is no picture that can be read")
    drop(large, f"must be {MOST_MEGABYTES}")
    [kept] = server.folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700 and not list(kept.iterdir())

    # train on the sample data, and reload in the middle
    page.get_by_text("Sample data", exact=True).click()
    seen("Drawn pictures")
    page.get_by_text("Fast", exact=True).locator("visible=true").click()
    click("Train")
    seen("Training")
    page.reload()
    seen("0 of 8")
    address = page.url

    # another browser does not see it, even with the address
    other = browser.new_context().new_page()
    other.goto(address)
    other.get_by_text("Drop pictures of good products").wait_for(timeout=PATIENCE)
    assert other.url != address and other.get_by_role("heading", name="washer").count() == 0
    other.close()

    # predict: a dropped picture joins the results
    mine = tmp_path / "mine.png"
    mine.write_bytes(encode_png(draw("washer", "good", 7, 1)[0]))
    page.get_by_text("Test pictures", exact=True).click()
    drop(mine, "Not known")
    page.get_by_text("Called good", exact=True).click()
    page.locator("img[src*='/media/']").first.wait_for()

    # move the threshold: half of the good pictures may be called defective, and fewer defects are missed
    def misses() -> str:
        return page.get_by_text("Misses").inner_text()

    before = misses()
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    playwright.expect(page.get_by_text("Misses")).not_to_have_text(before, timeout=PATIENCE)
    assert int(misses().split()[1]) < int(before.split()[1])

    # feedback: a verdict is wrong; the threshold is set by the labelled pictures
    page.get_by_role("button", name="Wrong verdict").first.click()
    seen("1 verdicts marked as wrong")
    click("Set by labelled pictures")
    seen("The threshold is set by")

    # the report, in Chinese when the page is
    keep_screenshot(page, "app")
    page.get_by_text("中文", exact=True).click()
    seen("反馈")
    keep_screenshot(page, "app_zh")
    click("检测报告")
    with page.expect_download(timeout=PATIENCE) as download:
        click("保存检测报告")
    download.value.save_as(tmp_path / "report.zip")
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        told = archive.read("washer.html").decode()
    assert TEXTS["worst_misses"][1] in told and "data:image/webp" in told and "scratch" in told
    page.get_by_text("English", exact=True).click()

    # a download, which runs without the app
    click("Exported model")
    with page.expect_download(timeout=PATIENCE) as download:
        click("Save Exported model")
    download.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path / "export")
    predictor = Predictor.load(tmp_path / "export/stats")
    assert [prediction.score > 0 for prediction in predictor.predict([mine])] == [True]
    assert predictor.calibration.labelled["good"] + predictor.calibration.labelled["defective"] >= 16

    # a reload keeps all; nothing was fetched from elsewhere; the server leaves nothing behind
    page.reload()
    seen("Use the threshold set by labelled pictures")
    assert not [url for url in outside if url.startswith("http") and not any(f"//{own}:" in url for own in OWN)]
    assert list(server.folder.iterdir())
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE / 1000) == 0, server.log.read_text()
    assert not list(server.folder.iterdir()) and "Traceback" not in server.log.read_text()
