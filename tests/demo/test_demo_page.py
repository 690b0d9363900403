"""The page in a real Chromium without a network: the showers of `generate`, drawn on every kind of mesh."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import SOFTWARE_WEBGL, complaints, lowest_contrast, needs_chromium, show, start, wait
from report_samples import MESHES
from scattered import scattered
from test_demo import Quiet

from caloforge.data import Conditions
from caloforge.demo import write_demo
from caloforge.demo.runtime import runtime_files
from caloforge.errors import ExportError
from caloforge.exports.graph import OLDEST_TORCH
from caloforge.generation import generate
from caloforge.generation.noise import noise_stream
from caloforge.runtime import streams

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
    ),
]
STRANGE = ("<b>one</b>", "\"two' & \\ three")
SET = """
    const e = document.querySelectorAll(arguments[0])[arguments[1]];
    e.value = arguments[2];
    e.dispatchEvent(new Event(arguments[3], { bubbles: true }));"""
UNNAMED = """
    const named = (e) => (e.labels && e.labels.length) || e.getAttribute('aria-label');
    return [...document.querySelectorAll('input, select, svg, canvas')].filter((e) => !named(e)).length;"""
TEXT = "h1, .subtitle, label, output, span, dt, dd, button, li, a, p, summary, figcaption"
MADE = "return Number(document.body.dataset.made || 0)"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    try:
        for name, content in runtime_files().items():
            (folder / name).write_bytes(content)
    except ExportError as error:
        pytest.skip(f"ONNX Runtime for browsers is not at hand: {error}")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and its address at a file server on this machine."""
    folder = tmp_path_factory.mktemp("site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(site: tuple[Path, str], runtime: Path) -> Callable[[str], str]:
    """Address of the page of a model on a mesh of this kind; "several" has two detectors and particles."""
    folder, address = site

    def made(kind: str) -> str:
        if not (folder / kind).exists():
            several = kind == "several"
            model = scattered(
                MESHES["box" if several else kind],
                folder / "models" / kind,
                detectors=STRANGE if several else ("toy",),
                several=several,
            )
            write_demo(model, folder / kind, runtime=runtime, showers=40, progress=False)
        return f"{address}/{kind}/"

    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start(tmp_path_factory.mktemp("profile"), *SOFTWARE_WEBGL, "--force-prefers-reduced-motion")
    yield driver
    driver.quit()


def look(browser: Any, address: str, width: int = 1200) -> None:
    show(browser, address, width)
    wait(browser, "return document.body.dataset.made || !document.getElementById('trouble').hidden", 90)
    assert browser.execute_script("return document.getElementById('trouble').textContent") == ""


def act(browser: Any, script: str, *arguments: object) -> None:
    """Do something that makes a shower, and wait for it."""
    before = browser.execute_script(MADE)
    browser.execute_script(script, *arguments)
    wait(browser, f"return Number(document.body.dataset.made) > {before}")


def fetched(browser: Any, expression: str, *arguments: object) -> Any:
    """What a promise gives; numbers of an array go as base64 of float32."""
    script = (
        "const done = arguments[arguments.length - 1]; (async (...given) => { const page = await demo; "
        f"const made = await ({expression}); return made instanceof Float32Array ? "
        "btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(made).buffer))) : made; "
        "})(...arguments).then(done, (error) => done(`failed: ${error}`))"
    )
    return browser.execute_async_script(script, *arguments)


def floats(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def test_noise_is_that_of_generation(browser: Any, page: Callable[[str], str]) -> None:
    look(browser, page("cylinder"))
    stream = noise_stream("cells")
    for seed, number, n in ((0, 0, 7), (2**64 - 1, 2**62 - 1, 2048), (7, 123, 1), (1 << 40, 5 << 33, 64)):
        made = fetched(
            browser,
            "page.normals(BigInt(given[0]), BigInt(given[1]), given[2], given[3])",
            str(seed),
            str(number),
            streams.stream_id(stream),
            n,
        )
        np.testing.assert_allclose(floats(made), streams.normals(seed, [number], stream, n)[0], atol=1e-6)


def test_showers_are_those_of_generation(browser: Any, page: Callable[[str], str], site: Any) -> None:
    """Of the second detector and particle, with a direction and an impact point."""
    look(browser, page("several"))
    of = {"energy": 12e3, "theta": 0.5, "phi": 0.1, "x": 1.0, "y": -1.0, "particle": 22, "detector": 1}
    made = fetched(browser, "page.shower(7n, 123n, given[0]).then((one) => one.energies)", of)
    conditions = Conditions([12e3], 0.5, 0.1, "gamma", STRANGE[1], [[1.0, -1.0]])
    model = site[0] / "models" / "several"
    expected = generate(model, conditions=conditions, seed=7, first=123, progress=False).energies
    assert (expected > 0).mean() > 0.2
    np.testing.assert_allclose(floats(made), expected.ravel(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["cylinder", "image", "unknown-depth", "ragged-box"])
def test_every_mesh_is_drawn(browser: Any, page: Callable[[str], str], kind: str) -> None:
    pil = pytest.importorskip("PIL.Image")
    look(browser, page(kind))
    lit = int(browser.find_element("css selector", "#facts .value:nth-of-type(4)").text.split()[0])
    assert lit > 3
    wait(browser, f"return document.getElementById('scene').dataset.drawn === '{lit}'")
    assert browser.find_element("id", "along").is_displayed() == (MESHES[kind].n_layers > 1)
    assert browser.execute_script("return document.querySelectorAll('.chart .truth').length") > 0
    shot = pil.open(io.BytesIO(browser.find_element("id", "scene").screenshot_as_png)).convert("HSV")
    vivid = (np.asarray(shot)[..., 1:] > 100).all(axis=-1).mean()
    assert 0.002 < vivid < 0.9
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith((page(kind), "data:", "blob:"))] == []
    assert complaints(browser) == []


def test_what_is_chosen_is_what_is_made(browser: Any, page: Callable[[str], str]) -> None:
    look(browser, page("several"))
    facts = "return document.getElementById('facts').textContent"
    code = "return document.getElementById('code').textContent"
    assert "Conditions(10000, theta=" in browser.execute_script(code)
    first = browser.execute_script(facts)
    act(browser, SET, "#slider-energy", 0, 400, "input")
    assert "Conditions(24" in browser.execute_script(code)
    assert browser.execute_script(facts) != first
    assert browser.find_element("id", "slider-energy").get_attribute("aria-valuetext").startswith("24")
    assert "5e" not in browser.find_element("css selector", ".legend .truth").text
    act(browser, SET, "#sliders select", 0, 1, "change")
    act(browser, SET, "#sliders select", 1, 1, "change")
    assert 'particle="gamma", detector="\\"two\' & \\\\ three"' in browser.execute_script(code)
    act(browser, SET, "#number", 0, str(2**62 - 2), "change")
    act(browser, "document.getElementById('next').click()")
    assert f"first={2**62 - 1})" in browser.execute_script(code)
    browser.execute_script(SET, "#number", 0, "-1", "change")
    assert not browser.execute_script("return document.getElementById('number').validity.valid")
    assert browser.execute_script("return document.querySelectorAll('#sliders b').length") == 0
    assert STRANGE[0] in browser.find_element("id", "sliders").text


def test_it_keeps_going_and_averages(browser: Any, page: Callable[[str], str]) -> None:
    look(browser, page("cylinder"))
    browser.execute_script("document.getElementById('play').click()")
    wait(browser, "return Number(document.body.dataset.made) >= 13")
    browser.execute_script("document.getElementById('play').click()")
    wait(browser, "return document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    act(browser, "document.getElementById('last').value = '10'; document.getElementById('next').click()")
    shown = "return document.querySelector('#mean-facts dd').textContent"
    assert browser.execute_script(shown) == "10"
    # the mean response of ten showers of a toy that scatters by 5 % and its cells
    assert "%" in browser.execute_script("return document.querySelectorAll('#mean-facts dd')[2].textContent")
    act(browser, SET, "#slider-energy", 0, 0, "input")
    assert browser.execute_script(shown) == "1"


def test_keys_turn_and_zoom(browser: Any, page: Callable[[str], str]) -> None:
    look(browser, page("cylinder"))
    scene, seen = browser.find_element("id", "scene"), set()
    for key in ("", "\ue012", "\ue013", "+"):  # nothing, left, up
        if key:
            scene.send_keys(key)
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        seen.add(scene.screenshot_as_base64)
    assert len(seen) == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(browser: Any, page: Callable[[str], str], scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        look(browser, page("several"), width=400)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
        assert lowest_contrast(browser, TEXT) > 4.5
        assert browser.execute_script("return document.getElementById('sliders').childElementCount") == 7
        assert browser.execute_script(UNNAMED) == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_without_webgl_there_are_still_numbers(tmp_path: Path, page: Callable[[str], str]) -> None:
    driver = start(tmp_path, "--disable-3d-apis")
    try:
        look(driver, page("cylinder"))
        assert driver.find_element("id", "no-webgl").is_displayed()
        assert not driver.find_element("id", "scene").is_displayed()
        assert (
            "MeV" in driver.find_element("id", "facts").text
            or "GeV" in driver.find_element("id", "facts").text
        )
    finally:
        driver.quit()


def test_opened_as_a_file_it_says_how(browser: Any, page: Callable[[str], str], site: Any) -> None:
    page("cylinder")
    show(browser, site[0] / "cylinder" / "index.html")
    wait(browser, "return !document.getElementById('trouble').hidden")
    assert "python -m http.server" in browser.find_element("id", "trouble").text
