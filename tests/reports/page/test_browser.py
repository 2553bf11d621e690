"""The page in a headless Chromium: what is seen is what the ledger says, and nothing is asked of the network."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from records.gallery import GalleryDirectory
from records.ledger import Ledger
from records.run_directory import RunDirectory
from reports.page.run_page import write_run_page
from tests.reports.page.runs import HOSTILE, make_run, multiply_pictures

webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra browser: pip install '.[browser]'")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

MANY = 10_000
CARDS = "return [...document.querySelectorAll('.card')]"


class Browser:
    """A page and what is on it.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, run: RunDirectory, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(run.report_page.as_uri() + fragment)

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: object) -> Any:
        """Wait until a script returns something true."""
        end = time.monotonic() + 10
        while not (found := self.js(script, *arguments)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)
        return found

    def keys(self, *keys: str) -> None:
        actions = webdriver.ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def choose(self, field: str, value: str) -> None:
        """Set a field as a person does, who leaves an event behind."""
        self.js(
            "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
            "for (const name of ['input', 'change']) f.dispatchEvent(new Event(name, {bubbles: true}))",
            field,
            value,
        )

    def kind(self, value: str) -> None:
        self.js("document.querySelector(`input[name=kind][value='${arguments[0]}']`).click()", value)

    def units(self) -> list[list[Any]]:
        """(unit id, cycle) of all units that pass the filters, in their order, whether or not they are in sight."""
        return self.js("return gallery.shown().map(u => [u.unit_id, u.cycle])")

    def names(self) -> list[str]:
        """The names on the cards in the page, in the order of places."""
        return self.js(
            CARDS + ".sort((a, b) => a.dataset.place - b.dataset.place).map(c => c.querySelector('.name').textContent)"
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    # --no-sandbox: containers that run tests as root have no user namespaces
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(word)
    options.add_argument("--window-size=1300,900")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(30)
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    made = make_run(tmp_path_factory.mktemp("runs") / "<script>alert(3)&amp;")
    write_run_page(made.path)
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Ten thousand queried units, and a few beside them."""
    made = make_run(tmp_path_factory.mktemp("runs") / "large", queried=MANY, cycles=1, pool=MANY + 100, draw=1)
    multiply_pictures(GalleryDirectory(made.cycle(0).gallery), MANY)
    write_run_page(made.path)
    return made


def ledger_rows(run: RunDirectory, cycle: int) -> list[Any]:
    ledger = Ledger(run.ledger)
    try:
        return ledger.queried(cycle)
    finally:
        ledger.close()


def test_rows_are_the_ledgers_and_their_texts_are_texts(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    browser.kind("queried")
    browser.choose("sort", "cycle")
    expected = [[q.unit_id, cycle] for cycle in (1, 0) for q in ledger_rows(run, cycle)]
    assert browser.units() == expected
    browser.js("document.getElementById('grid').scrollIntoView()")
    browser.until(CARDS + ".length === 12")
    assert browser.names() == [name for name, _ in expected]
    assert {*HOSTILE} <= {*browser.names()}
    ranks = browser.js("return [...document.querySelectorAll('.badge.queried')].map(b => b.textContent)")
    assert sorted(ranks) == sorted(f"rank {q.rank}" for cycle in (0, 1) for q in ledger_rows(run, cycle))
    assert browser.js("return document.querySelectorAll('#grid img[src=x], #grid script, td b').length") == 0
    assert browser.driver.title.startswith("<script>alert(3)&amp;")
    browser.until("return [...document.querySelectorAll('.card img')].every(i => i.complete && i.naturalWidth > 0)")


def test_nothing_is_asked_of_the_network_and_nothing_fails(browser: Browser, run: RunDirectory) -> None:
    browser.driver.get_log("performance")
    browser.driver.get_log("browser")
    browser.open(run, f"#unit={quote(HOSTILE[0], safe='')}&cycle=0")
    browser.until("return document.querySelector('#layers img.image').naturalWidth > 0")
    for unit in (HOSTILE[1], HOSTILE[3]):
        browser.js("location.hash = arguments[0]", f"#unit={quote(unit, safe='')}")
        browser.until("return document.getElementById('unit-title').textContent === arguments[0]", unit)
    messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    folder = run.report.as_uri()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((folder, "about:", "data:"))] == []
    assert [e["message"] for e in browser.driver.get_log("browser")] == []


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("score-down", lambda q, cycle: (-q.score,)),
        ("score-up", lambda q, cycle: (q.score,)),
        ("rank", lambda q, cycle: (q.rank, -cycle)),
        ("cycle", lambda q, cycle: (-cycle, q.rank)),
    ],
)
def test_units_are_sorted(browser: Browser, run: RunDirectory, order: str, key: Callable[..., tuple]) -> None:
    browser.open(run)
    browser.kind("queried")
    browser.choose("sort", order)
    rows = [(q, cycle) for cycle in (0, 1) for q in ledger_rows(run, cycle)]
    assert browser.units() == [[q.unit_id, cycle] for q, cycle in sorted(rows, key=lambda row: key(*row))]


def test_filters_change_what_is_seen(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    first, second = ledger_rows(run, 0), ledger_rows(run, 1)
    assert len(browser.units()) == 36
    for kind in ("queried", "control", "lowest"):
        browser.kind(kind)
        assert len(browser.units()) == 12
    browser.kind("queried")
    browser.choose("filter-cycle", "0")
    assert browser.units() == [[q.unit_id, 0] for q in first]
    browser.choose("filter-cycle", "")
    browser.choose("filter-state", "waiting")
    assert browser.units() == [[q.unit_id, 1] for q in second[3:]]
    browser.choose("filter-state", "rejected")
    assert browser.units() == [[second[0].unit_id, 1]]
    browser.choose("filter-state", "")
    browser.choose("filter-annotator", "ann")
    assert browser.units() == [[second[0].unit_id, 1], [second[5].unit_id, 1]]
    browser.choose("filter-annotator", "")
    browser.choose("filter-class", "sky")
    assert 0 < len(browser.units()) < 12
    browser.choose("filter-class", "")
    browser.choose("filter-text", "ONERROR")
    assert browser.units() == [[HOSTILE[0], 0]]
    browser.choose("filter-text", "no such unit")
    assert browser.js("return !document.getElementById('nothing').hidden && document.getElementById('grid').hidden")
    browser.js("document.getElementById('nothing-reset').click()")
    browser.until("return gallery.shown().length === 36")
    browser.kind("queried")
    scores = [q.score for q in (*first, *second)]
    browser.choose("score-low", "950")
    high = browser.units()
    assert high == [[q.unit_id, 0] for q in first if q.score >= 0.95 * max(scores)]
    browser.choose("score-low", "0")
    browser.choose("score-high", "950")
    assert len(browser.units()) == 12 - len(high)
    browser.choose("score-low", "1000")
    words = browser.js("return [document.getElementById('score-words').textContent, gallery.shown().length]")
    assert words == ["Score 0.95 to 1", len(high)], "the sliders have changed places"


def test_who_waits_leads_to_the_units(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    browser.js("document.getElementById('show-waiting').click()")
    browser.until("return gallery.shown().length === 3")
    assert browser.units() == [[q.unit_id, 1] for q in ledger_rows(run, 1)[3:]]


def test_keys_open_move_and_close(browser: Browser, run: RunDirectory) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(run)
    browser.kind("queried")
    title = "return document.getElementById('unit-title').textContent"
    ids = [unit for unit, _ in browser.units()]
    browser.js("document.activeElement.blur()")
    browser.keys("j", Keys.ARROW_RIGHT, Keys.ENTER)
    browser.until("return document.getElementById('unit').open")
    assert browser.js(title) == ids[1]
    browser.keys("j", Keys.ARROW_RIGHT, "j", "k", Keys.ARROW_LEFT)
    assert browser.js(title) == ids[2]
    assert browser.js("return gallery.linked(location.hash).unit_id") == ids[2]
    browser.keys(Keys.ARROW_LEFT, "k", "k", "k")
    assert browser.js(title) == ids[0]
    assert browser.js("return document.getElementById('previous').disabled")
    browser.keys(Keys.ESCAPE)
    browser.until("return !document.getElementById('unit').open")
    browser.until("return location.hash === ''")
    assert browser.js("return document.activeElement.dataset.place") == "0"


def test_a_link_opens_its_unit(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    links = browser.js("return gallery.units.map(u => [gallery.link(u), u.index])")
    assert len({link for link, _ in links}) == 36
    assert browser.js("return arguments[0].every(([link, i]) => gallery.linked(link).index === i)", links)
    browser.open(run, links[20][0])
    browser.until("return document.getElementById('unit').open")
    unit, place = browser.js("const u = gallery.units[20]; return [u, gallery.shown().indexOf(u)]")
    assert browser.js("return document.getElementById('unit-title').textContent") == unit["unit_id"]
    assert browser.js("return document.getElementById('place').textContent") == f"{place + 1} of 36"
    browser.open(run, "#unit=nobody")
    assert not browser.js("return document.getElementById('unit').open")
    # as on a phone: the way back leads out of the unit
    browser.js("location.hash = arguments[0]", links[0][0])
    browser.until("return document.getElementById('unit').open")
    browser.js("history.back()")
    browser.until("return !document.getElementById('unit').open")


def test_layers_are_shown_hidden_and_blended(browser: Browser, run: RunDirectory) -> None:
    browser.open(run, f"#unit={quote(HOSTILE[0], safe='')}&cycle=0")
    browser.until("return [...document.querySelectorAll('#layers img:not([hidden])')].every(i => i.naturalWidth > 0)")
    seen = "return [...document.querySelectorAll('#layers img')].filter(i => i.checkVisibility()).map(i => i.className)"
    assert browser.js(seen) == ["image", "prediction", "region"]
    browser.keys("2", "3", "4")
    assert browser.js(seen) == ["image", "uncertainty", "truth", "region"]
    browser.js("document.getElementById('show-image').click()")
    assert browser.js(seen) == ["uncertainty", "truth", "region"]
    opacity = "return getComputedStyle(document.querySelector('#layers img.prediction')).opacity"
    browser.choose("opacity-prediction", "20")
    assert float(browser.js(opacity)) == 0.2
    assert browser.js(seen) == ["prediction", "uncertainty", "truth", "region"]
    # what is on stays on for the next unit, and a layer that it lacks has no switch
    browser.keys("j")
    browser.until("return document.querySelector('#layers img.prediction').naturalWidth > 0")
    assert browser.js(seen) == ["prediction", "uncertainty", "region"]
    assert float(browser.js(opacity)) == 0.2
    assert not browser.js("return document.getElementById('show-truth').checkVisibility()")


def test_the_magnifier_follows_keys_and_pointer(browser: Browser, run: RunDirectory) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(run, f"#unit={quote(HOSTILE[0], safe='')}&cycle=0")
    browser.until("return document.querySelector('#layers img.image').naturalWidth > 0")
    place = "const l = document.getElementById('lens'); return l.checkVisibility() ? [l.style.left, l.style.top] : null"
    assert browser.js(place) is None
    browser.keys("m")
    before = browser.until(place)
    webdriver.ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert browser.js(place)[0] != before[0]
    assert browser.js(place)[1] == before[1]
    stage = browser.driver.find_element("id", "stage")
    webdriver.ActionChains(browser.driver).move_to_element_with_offset(stage, 60, 40).perform()
    assert browser.js(place)[1] != before[1]
    widths = (
        "return [document.querySelector('#lens .layers').clientWidth, document.getElementById('stage').clientWidth]"
    )
    lens, plain = browser.js(widths)
    assert lens == pytest.approx(4 * plain, abs=4)


def test_tables_are_sorted_by_a_click(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    column = (
        "const t = document.querySelector('#labelled-classes table');"
        "t.tHead.rows[0].cells[arguments[0]].querySelector('button').click();"
        "return [...t.tBodies[0].rows].map(r => r.cells[arguments[0]].textContent.trim())"
    )
    assert browser.js(column, 1) == ["250", "150", "100"]
    assert browser.js(column, 1) == ["100", "150", "250"]
    assert browser.js(column, 0) == ["<b>car</b>", "road", "sky"]
    assert browser.js("return document.querySelectorAll('#labelled-classes th[aria-sort=ascending]').length") == 1


def test_curve_and_histogram_follow_their_fields(browser: Browser, run: RunDirectory) -> None:
    browser.open(run)
    words = "return [...document.querySelectorAll('#curve-chart g[aria-label]')].map(g => g.getAttribute('aria-label'))"
    assert browser.js(words) == ["cycle 0: 0.4 at 5 labelled units", "cycle 1: 0.5 at 11 labelled units"]
    browser.choose("curve-cost", "labelled_pixels")
    browser.choose("curve-metric", "val/iou/sky")
    assert browser.js(words) == ["cycle 0: 0.2 at 500 labelled pixels", "cycle 1: 0.3 at 1\u202f100 labelled pixels"]
    cut = "return document.getElementById('histogram-cut').textContent"
    for cycle in (0, 1):
        browser.choose("histogram-cycle", str(cycle))
        lowest = min(q.score for q in ledger_rows(run, cycle))
        assert f"{lowest:.4g}" in browser.js(cut)


def test_values_that_differ_by_rounding_alone_have_axes(browser: Browser, tmp_path: Path) -> None:
    near = make_run(tmp_path / "run", pictures=False)
    for number, score in enumerate((0.9, math.nextafter(0.9, 1))):
        cycle = near.cycle(number)
        cycle.write_metrics({**cycle.read_metrics(), "val/miou": score})
    scores = near.cycle(1).read_scores()
    near.cycle(1).write_scores(scores.assign(score=[math.nextafter(0.5, 1), *[0.5] * (len(scores) - 1)]))
    write_run_page(near.path)
    browser.open(near)
    assert browser.js("return document.querySelectorAll('#curve-chart .dot').length") == 2
    assert browser.js("return document.querySelectorAll('#histogram-chart rect').length") > 0


def test_a_narrow_screen_has_no_sideways_scroll(browser: Browser, run: RunDirectory) -> None:
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        browser.open(run)
        browser.until("return innerWidth <= 390 && document.querySelectorAll('.card').length >= 0")
        assert browser.js("return document.documentElement.scrollWidth") <= 390
        browser.js("location.hash = gallery.link(gallery.shown()[0])")
        browser.until("return document.querySelector('#layers img.image').naturalWidth > 0")
        box = browser.js("const b = document.getElementById('stage').getBoundingClientRect(); return [b.left, b.right]")
        assert 0 <= box[0] < box[1] <= 390
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_ten_thousand_units_scroll_with_few_elements(browser: Browser, large: RunDirectory) -> None:
    browser.open(large)
    browser.kind("queried")
    count = browser.js("return document.getElementById('count').textContent")
    assert count == "10\u202f000 of 10\u202f200 units"
    names = {q.unit_id: q.rank for q in ledger_rows(large, 0)}
    seen: set[str] = set()
    for share in (0, 0.1, 0.5, 0.9, 1):
        browser.js(
            "const g = document.getElementById('grid'); const top = g.getBoundingClientRect().top + scrollY;"
            "scrollTo({top: top + (g.offsetHeight - innerHeight) * arguments[0], behavior: 'instant'})",
            share,
        )
        browser.until(
            CARDS + ".filter(c => { const b = c.getBoundingClientRect(); return b.bottom > 0 && b.top < innerHeight })"
            ".length >= 8"
        )
        assert browser.js("return document.querySelectorAll('#grid *').length") < 1500
        seen.update(browser.names())
    assert seen <= {*names}
    assert {1, MANY} <= {names[name] for name in seen}
