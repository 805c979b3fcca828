"""The report in a real browser: the handle is dragged, a place opened, keys pressed; on a wide screen and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spoils
from PIL import Image

from geosegsr.appraisal.report import report

pytestmark = pytest.mark.browser

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return Path(report(*spoils.sound_pair(folder, nodata=True)).path)


@pytest.fixture
def browser(page: Path) -> Iterator[Any]:
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if not all(found.values()):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found["chromedriver"]))
    try:
        yield driver
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def _open(browser: Any, page: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def _cut(browser: Any) -> float:
    """Share of the picture that shows what was before."""
    clip = browser.find_element(By.ID, "right").value_of_css_property("clip-path")
    return float(clip.rstrip(")").split()[-1].rstrip("%")) if "%" in clip else float("nan")


def _zoom(browser: Any) -> float:
    script = (
        "const e = document.getElementById('layers'); return e.getBoundingClientRect().width / e.offsetWidth"
    )
    return float(browser.execute_script(script))


def _wait(holds: Callable[[], bool]) -> None:
    """Until the next picture of a busy machine shows it."""
    WebDriverWait(None, 30).until(lambda _: holds())


def test_the_handle_is_dragged(browser: Any, page: Path) -> None:
    _open(browser, page, 1400)
    slider = browser.find_element(By.ID, "slider")
    assert _cut(browser) == pytest.approx(50, abs=1)
    ActionChains(browser).drag_and_drop_by_offset(slider, 200, 0).perform()
    picture = browser.find_element(By.ID, "layers").rect["width"]
    _wait(lambda: _cut(browser) == pytest.approx(50 + 100 * 200 / picture, abs=3))
    slider.send_keys(Keys.ARROW_LEFT * 10)
    assert (
        float(slider.get_property("value"))
        < 50 + 100 * 200 / browser.find_element(By.ID, "stage").rect["width"]
    )


def test_a_place_is_opened_and_the_left_side_changed(browser: Any, page: Path) -> None:
    _open(browser, page, 1400)
    caption = browser.find_element(By.ID, "caption")
    assert caption.text.startswith("Whole scene")
    [place] = [
        b for b in browser.find_elements(By.CSS_SELECTOR, "#places button") if "Edge of nodata" in b.text
    ][:1]
    place.click()
    assert caption.text.startswith("Edge of nodata")
    assert place.get_attribute("aria-current") == "true"
    left = browser.find_element(By.ID, "left")
    before = left.get_attribute("src")
    browser.find_element(By.CSS_SELECTOR, "[data-side=bicubic]").click()
    assert left.get_attribute("src") != before
    assert browser.find_element(By.ID, "before").text == "Bicubic"
    assert browser.execute_script("return document.getElementById('right').naturalWidth") > 100


def test_keys_zoom_pan_and_change_the_place(browser: Any, page: Path) -> None:
    _open(browser, page, 1400)
    stage = browser.find_element(By.ID, "stage")
    browser.execute_script("arguments[0].focus()", stage)
    ActionChains(browser).send_keys("+").pause(0.2).send_keys("+").perform()
    _wait(lambda: _zoom(browser) > 1.5)
    where = browser.find_element(By.ID, "layers").rect["x"]
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    _wait(lambda: browser.find_element(By.ID, "layers").rect["x"] < where)
    ActionChains(browser).send_keys("0").perform()
    _wait(lambda: _zoom(browser) == pytest.approx(1, abs=0.01))
    ActionChains(browser).send_keys("n").perform()
    assert not browser.find_element(By.ID, "caption").text.startswith("Whole scene")
    ActionChains(browser).send_keys("p").perform()
    assert browser.find_element(By.ID, "caption").text.startswith("Whole scene")


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_runs_over_the_edge_of_the_screen(
    browser: Any, page: Path, tmp_path: Path, width: int
) -> None:
    _open(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    sizes = [b.rect["height"] for b in browser.find_elements(By.CSS_SELECTOR, ".bar button")]
    assert min(sizes) >= 40  # a thumb's width
    stage = browser.find_element(By.ID, "stage")
    browser.execute_script("arguments[0].scrollIntoView()", stage)
    shot = tmp_path / "stage.png"
    stage.screenshot(str(shot))
    with Image.open(shot) as file:
        picture = np.asarray(file.convert("RGB")).astype(float)
    # The handle's line stands in the middle, and both sides show ground.
    middle = picture.shape[1] // 2
    assert picture[20:100, middle - 1 : middle + 1].mean() > 240
    for side in (picture[:, middle - 60 : middle - 10], picture[:, middle + 10 : middle + 60]):
        assert side.std() > 10
