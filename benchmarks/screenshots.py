"""Screenshots of a run's page for the README: the head on a wide screen, and an opened unit on a narrow one.

python benchmarks/screenshots.py RUN_DIR docs/figures (needs Chromium, its driver and the extra browser; the run's page
is drawn by the fit, or by `dropquery report RUN_DIR`)
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from records.files import replacing
from records.run_directory import RunDirectory

COLOURS = 256
"""A palette makes a screenshot a third as large; dither keeps its colours."""


def main() -> None:
    """Take both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="run directory of a fit that has queried")
    parser.add_argument("out", type=Path, help="folder of the screenshots")
    options = parser.parse_args()
    page = RunDirectory(options.run_dir).report_page
    if not page.is_file():
        raise SystemExit(f"expected a page at {page}, got none; run: dropquery report {options.run_dir}")
    with tempfile.TemporaryDirectory() as profile:
        driver = open_browser(Path(profile))
        try:
            look(driver, page, 1200, 800, scale=1)
            driver.execute_script("document.getElementById('gallery').scrollIntoView({behavior: 'instant'})")
            take(driver, options.out / "page_wide.png")
            look(driver, page, 390, 800, scale=2)
            driver.execute_script(
                "const unit = gallery.shown().find(u => gallery.picture(u, 'prediction')) ?? gallery.shown()[0];"
                "location.hash = gallery.link(unit)"
            )
            take(driver, options.out / "page_narrow.png")
        finally:
            driver.quit()


def open_browser(profile: Path) -> Any:
    """A headless Chromium of this machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    # --no-sandbox: root has no sandbox in a container
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
        options.add_argument(word)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def look(driver: Any, page: Path, width: int, height: int, scale: int) -> None:
    """Open the page on a screen of a size, in CSS pixels."""
    screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get("about:blank")
    driver.get(page.absolute().as_uri())


def take(driver: Any, path: Path) -> None:
    """Write what is seen once every picture in sight is there."""
    end = time.monotonic() + 20
    ready = "return [...document.images].every(i => !i.checkVisibility() || i.complete)"
    time.sleep(0.5)
    while not driver.execute_script(ready) and time.monotonic() < end:
        time.sleep(0.1)
    image = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    with replacing(path) as beside:
        image.quantize(COLOURS, kmeans=2).save(beside, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
