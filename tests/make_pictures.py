"""Take the pictures of report and app in docs/ anew: python tests/make_pictures.py [--weights resnet18.pdparams].

With the sample data and ResNet-18, or `compact` without weights. Needs a Chromium, as the tests in a browser do.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import CHROMIUM, PATIENCE, ROOT, app_server, chromium
from PIL import Image

sys.path.insert(0, str(ROOT))

from deploy.command_line.parser import Parser
from deploy.command_line.script import run_script
from deploy.errors import UserError

PRODUCT = "connector"
MOST = 150_000  # bytes of a picture
QUALITY = 80  # of WebP, 0 to 100


def main() -> None:
    parser = Parser(prog="make_pictures.py", usage="python tests/%(prog)s [OPTIONS]", description=__doc__)
    parser.add_argument("--weights", default=None, metavar="FILE", help="of ResNet-18; without them compact is used")
    args = parser.parse()
    if CHROMIUM is None:
        raise UserError("there is no Chromium: apt-get install chromium")
    arch = "compact" if args.weights is None else "resnet18"
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        place = Path(folder)
        page = browser.new_page(viewport={"width": 1240, "height": 1640}, locale="en")
        page.set_default_timeout(PATIENCE)
        report(page, place, arch, args.weights)
        page.set_viewport_size({"width": 1240, "height": 1080})
        app(page, place, arch, args.weights)


def report(page: Any, place: Path, arch: str, weights: str | None) -> None:
    """The report of one product of the sample data."""
    script("-m", "datasets.sample", place / "data")
    more = [] if weights is None else ["--weights", weights]
    words = [
        "--data_path",
        place / "data",
        "--category",
        PRODUCT,
        "--arch",
        arch,
        *more,
        "--save_path",
        place / "output",
    ]
    script("train.py", *words, "--eval", "--report")
    [found] = (place / "output").rglob("*.html")
    page.goto(found.as_uri())
    save(page, "report")


def app(page: Any, place: Path, arch: str, weights: str | None) -> None:
    """The app after it learnt the same product."""
    more = [] if weights is None else ["--weights", weights]
    with app_server(place, *more) as server:
        page.goto(server.address)
        for text in ("Sample data", PRODUCT, *([arch] if more else [])):
            page.get_by_text(text, exact=True).locator("visible=true").click()
        page.get_by_role("button", name="Train", exact=True).locator("visible=true").click()
        page.get_by_text("False alarms").wait_for()
        page.locator("img[src*='/media/']").nth(3).wait_for()
        page.get_by_text("Download", exact=True).wait_for()
        page.wait_for_timeout(3000)  # the chart moves into its place
        save(page, "app")


def script(*words: object) -> None:
    """Run a script of ours; UserError where it fails."""
    if subprocess.run([sys.executable, *map(str, words)], cwd=ROOT).returncode:
        raise UserError(f"{words[0]} failed, see above")


def save(page: Any, name: str) -> None:
    """Write what the page shows as a small WebP; UserError where it is not small."""
    path = ROOT / "docs" / f"{name}.webp"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=QUALITY, method=6)
    print(f"{path}: {path.stat().st_size} bytes")
    if path.stat().st_size > MOST:
        raise UserError(f"{path} is larger than {MOST} bytes: show less, or lower QUALITY")


if __name__ == "__main__":
    run_script(main)
