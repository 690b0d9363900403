"""The page in a real Chromium without a network: it draws, folds, slides and fits a narrow screen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import (
    SOFTWARE_WEBGL,
    complaints,
    lowest_contrast,
    needs_chromium,
    show,
    start,
    violations,
    wait,
)

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start(tmp_path_factory.mktemp("profile"), *SOFTWARE_WEBGL)
    yield driver
    driver.quit()


def open_all(browser: Any) -> None:
    browser.find_element("id", "open-all").click()


def draw_scenes(browser: Any) -> None:
    open_all(browser)
    browser.execute_script("document.getElementById('scenes').scrollIntoView()")
    wait(browser, "return document.getElementById('scenes').dataset.drawn === 'true'")


@pytest.mark.parametrize(
    ("kind", "width"), [("cylinder", 1280), ("image", 1280), ("unknown-depth", 400), ("ragged-box", 400)]
)
def test_page_draws_everything_without_a_network(
    browser: Any, sample: Callable[[str], Any], kind: str, width: int
) -> None:
    """And does not scroll sideways."""
    show(browser, sample(kind).page, width)
    draw_scenes(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('.scene canvas').length") >= 2
    triangles = (
        "return ['reference', 'generated'].map(n => document.getElementById('scene-' + n).data[0].i.length)"
    )
    assert min(browser.execute_script(triangles)) > 12
    assert browser.execute_script("return document.getElementById('no-webgl').hidden")
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []
    assert complaints(browser) == []


def test_verdict_is_first_and_visible(browser: Any, sample: Callable[[str], Any]) -> None:
    show(browser, sample("cylinder").page)
    first = (
        "const t = document.querySelector('main .verdict').getBoundingClientRect(); "
        "return [t.top, t.bottom, t.width]"
    )
    top, bottom, width = browser.execute_script(first)
    assert 0 < top < 300
    assert bottom > top
    assert width > 300
    assert browser.execute_script("return document.querySelector('main section').id") == "verdict"
    assert "from Geant4" in browser.find_element("css selector", ".headline").text
    link = browser.find_element("css selector", "main a[href='#warnings']")
    assert link.text == "1 warning limits these numbers."
    link.click()
    wait(browser, "return document.querySelector('#warnings details').open")
    assert "warning" in browser.find_element("css selector", "#warnings .warnings").text


def test_first_screen_has_picture_plots_and_key_table(browser: Any, sample: Callable[[str], Any]) -> None:
    """On a screen of 1200 x 900 pixels the table has begun; everything else is folded."""
    show(browser, sample("cylinder").page, 1200)
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#verdict .row')].map(r => r.querySelectorAll('img').length)"
    )
    assert rows == [3, 3]
    place = "return document.querySelector('#verdict table tbody tr').getBoundingClientRect().bottom"
    assert browser.execute_script(place) < 900
    assert browser.execute_script(OPEN) == 0


OPEN = "return document.querySelectorAll('main details[open]').length"
SECTIONS = "return document.querySelectorAll('main section').length"


def test_folds_open_close_and_keep_their_state_when_printed(
    browser: Any, sample: Callable[[str], Any]
) -> None:
    show(browser, sample("cylinder").page)
    total = browser.execute_script("return document.querySelectorAll('main details').length")
    sections = browser.execute_script(SECTIONS)
    assert total >= sections >= 18
    assert browser.execute_script(OPEN) == 0
    assert not browser.find_element("css selector", "#numbers table").is_displayed()
    browser.find_element("css selector", "#numbers summary h2").click()
    assert browser.execute_script(OPEN) == 1
    assert browser.find_element("css selector", "#numbers table").is_displayed()
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(OPEN) == total
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(OPEN) == 1
    browser.find_element("id", "open-all").click()
    assert browser.execute_script(OPEN) == total
    browser.find_element("id", "close-all").click()
    assert browser.execute_script(OPEN) == 0
    browser.execute_script("location.hash = '#features'")
    wait(browser, "return document.querySelector('#features details').open")


@pytest.mark.parametrize("width", [1280, 400])
def test_navigation_stays_and_marks_the_section_on_screen(
    browser: Any, sample: Callable[[str], Any], width: int
) -> None:
    show(browser, sample("cylinder").page, width)
    marked = (
        "const a = document.querySelectorAll('nav a[aria-current]'); "
        "return a.length === 1 ? a[0].hash.slice(1) : null"
    )
    assert browser.execute_script(marked) == "verdict"
    for name in ("response", "memorisation", "provenance", "numbers"):
        browser.execute_script(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
        wait(browser, f"return (() => {{ {marked} }})() === '{name}'")
        place = (
            "const a = document.querySelector('nav a[aria-current]').getBoundingClientRect(); "
            "return a.top >= 0 && a.bottom <= innerHeight && a.left >= 0 && a.right <= innerWidth + 1"
        )
        assert browser.execute_script(place), name


def test_layer_slider(browser: Any, sample: Callable[[str], Any]) -> None:
    show(browser, sample("cylinder").page)
    open_all(browser)
    image = "return document.getElementById('layer-generated').toDataURL()"
    move = (
        "const s = document.getElementById('layer-slider'); s.value = arguments[0]; "
        "s.dispatchEvent(new Event('input')); return document.getElementById('layer-text').textContent"
    )
    assert browser.execute_script(move, 0).startswith("Layer 0, 0 to 5.000 mm deep: mean energy ")
    before = browser.execute_script(image)
    assert browser.execute_script(move, 3).startswith("Layer 3,")
    assert browser.execute_script(image) != before


def test_threshold_hides_cells_and_cameras_turn_together(browser: Any, sample: Callable[[str], Any]) -> None:
    show(browser, sample("cylinder").page)
    draw_scenes(browser)
    cells = "return document.getElementById('scene-generated').data[0].i.length"
    before = browser.execute_script(cells)
    browser.execute_script(
        "const s = document.getElementById('threshold'); s.value = 80; s.dispatchEvent(new Event('change'))"
    )
    wait(browser, "return document.getElementById('scenes').dataset.drawn === 'true'")
    assert 0 < browser.execute_script(cells) < before
    turn = (
        "const done = arguments[0]; const camera = {eye: {x: 2, y: 1, z: 0.5}}; "
        "Plotly.relayout('scene-reference', {'scene.camera': camera}).then(() => setTimeout(done, 500))"
    )
    browser.execute_async_script(turn)
    wait(browser, "return document.getElementById('scene-generated').layout.scene.camera.eye.x === 2")
    assert complaints(browser) == []


def test_tables_stack_on_a_narrow_screen(browser: Any, sample: Callable[[str], Any]) -> None:
    """All of them, and none is cut or scrolls sideways; on a wide screen none does either."""
    cut = (
        "return [...document.querySelectorAll('.scroll, table')]"
        ".filter(t => t.scrollWidth > t.clientWidth + 1)"
        ".map(t => t.getAttribute('aria-label') || t.caption.textContent)"
    )
    for width, shown in ((400, "block"), (1200, "table")):
        show(browser, sample("cylinder").page, width)
        open_all(browser)
        displays = "return [...document.querySelectorAll('table')].map(t => getComputedStyle(t).display)"
        assert set(browser.execute_script(displays)) == {shown}
        assert browser.execute_script(cut) == [], width


def test_dark_mode_is_readable(browser: Any, sample: Callable[[str], Any]) -> None:
    """Text of every kind keeps a contrast of 4.5 against what is behind it, light and dark."""
    kinds = (
        ".headline, .differs li, .agrees li, .note, .meaning, td, th, nav a, .beyond, .heat-1, .heat-2, h2, "
        ".warnings li, figcaption, figcaption a, .aside, button"
    )
    lightness = "return getComputedStyle(document.body).backgroundColor"
    seen = set()
    try:
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            show(browser, sample("cylinder").page)
            open_all(browser)
            assert lowest_contrast(browser, kinds) > 4.5, scheme
            seen.add(browser.execute_script(lightness))
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(seen) == 2


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 400)])
def test_keyboards_and_screen_readers_are_served(
    browser: Any, sample: Callable[[str], Any], scheme: str, width: int
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        show(browser, sample("cylinder").page, width)
        open_all(browser)
        assert violations(browser) == []
        levels = [int(h.tag_name[1]) for h in browser.find_elements("css selector", "h1, h2, h3")]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        rows = "return document.querySelectorAll('td:not([role=cell]), th:not([scope])').length"
        assert browser.execute_script(rows) == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_can_be_reached_and_left_by_keyboard(
    browser: Any, sample: Callable[[str], Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, sample("cylinder").page)
    focus = (
        "const e = document.activeElement; return [e.tagName, e.className, getComputedStyle(e).outlineStyle]"
    )
    seen: list[list[str]] = []
    for _ in range(150):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        tag, kind, outline = browser.execute_script(focus)
        if tag == "BODY" or (seen and kind == "skip"):
            break  # all the way through, and out
        seen.append([tag, outline])
    assert {"A", "BUTTON", "SUMMARY"} <= {tag for tag, _ in seen}
    assert 50 < len(seen) < 150
    assert all(outline != "none" for _, outline in seen)


def test_print_holds_what_is_folded(browser: Any, sample: Callable[[str], Any]) -> None:
    show(browser, sample("cylinder").page)
    folded = "return document.querySelector('#features table').checkVisibility({contentVisibilityAuto: true})"
    assert not browser.find_element("css selector", "#features table").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        wait(browser, folded)  # what was folded is laid out in a frame of its own
        assert not browser.find_element("css selector", "nav").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_essentials_need_no_script(browser: Any, sample: Callable[[str], Any]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
        browser.get(sample("cylinder").page.as_uri())
        for selector in (".headline", "#verdict table", "#verdict img", "#features summary", "nav a"):
            assert browser.find_element("css selector", selector).is_displayed(), selector
        fold = browser.find_element("css selector", "#numbers table")
        assert not fold.is_displayed()
        browser.find_element("css selector", "#numbers summary").click()
        assert fold.is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_without_webgl_the_page_says_so(tmp_path: Path, sample: Callable[[str], Any]) -> None:
    driver = start(tmp_path, "--disable-3d-apis")
    try:
        show(driver, sample("box").page)
        open_all(driver)
        assert driver.find_element("id", "no-webgl").is_displayed()
        assert not driver.find_element("id", "scenes").is_displayed()
        assert complaints(driver) == []
    finally:
        driver.quit()
