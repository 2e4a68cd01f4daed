"""The page in a browser: a song goes in, its genres over time come out; what goes wrong is said."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from served import GENRES, RATE, serving, write_toy_classifier

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
By = pytest.importorskip("selenium.webdriver.common.by").By
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium-driver)", allow_module_level=True)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1000",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = tmp_path_factory.mktemp("models") / "toy"
    write_toy_classifier(model / "1")
    with serving(model, "--max-seconds", "20") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, server):
    browser.get_log("browser")
    browser.get(server.url)
    return browser


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Six seconds, the first half silent, the second loud: `polka`, then `bebop`."""
    path = tmp_path_factory.mktemp("songs") / "half loud.wav"
    samples = np.concatenate([np.zeros(3 * RATE), 0.9 * np.sign(np.sin(np.arange(3 * RATE)))])
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path


def give(page, path):
    page.find_element(By.ID, "file").send_keys(str(path))


def wait_for(page, condition):
    return WebDriverWait(page, 30).until(condition)


def text(page, name):
    return page.find_element(By.ID, name).text


def is_shown(page, name):
    return page.find_element(By.ID, name).is_displayed()


def test_a_song_is_uploaded_and_its_course_shown(page, song, tmp_path):
    give(page, song)
    wait_for(page, lambda _: is_shown(page, "result"))
    assert text(page, "genre") in GENRES
    assert "half loud.wav" in text(page, "summary")
    assert not is_shown(page, "error")
    rows = page.find_elements(By.CSS_SELECTOR, ".row")
    assert {row.get_attribute("data-genre") for row in rows} == set(GENRES)
    assert all(len(row.find_elements(By.CSS_SELECTOR, "rect")) == 13 for row in rows)
    assert text(page, "axis-end") == "0:06"
    page.save_screenshot(os.environ.get("KERAS_GENRE_SCREENSHOT", str(tmp_path / "page.png")))
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_genres_follow_the_player(page, song):
    give(page, song)
    wait_for(page, lambda _: is_shown(page, "result"))
    player = page.find_element(By.ID, "player")
    wait_for(page, lambda _: page.execute_script("return arguments[0].readyState", player) >= 2)
    for seconds, genre in ((1.0, "polka"), (4.5, "bebop"), (2.0, "polka")):
        page.execute_script("arguments[0].currentTime = arguments[1]", player, seconds)
        wait_for(page, lambda _, t=seconds: text(page, "moment").startswith(f"at 0:0{t}"))
        assert text(page, "moment").endswith(genre)
        assert page.find_element(By.CSS_SELECTOR, ".row.top").get_attribute("data-genre") == genre
    strip = page.find_element(By.CSS_SELECTOR, ".row svg")
    webdriver.ActionChains(page).move_to_element_with_offset(strip, strip.size["width"] // 4, 0).click().perform()
    wait_for(page, lambda _: text(page, "moment").startswith("at 0:04.5"))


def test_the_table_says_in_numbers_what_the_strips_show(page, song):
    give(page, song)
    wait_for(page, lambda _: is_shown(page, "result"))
    page.find_element(By.TAG_NAME, "summary").click()
    head = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "#table-head th")]
    body = [
        [cell.text for cell in row.find_elements(By.XPATH, "*")]
        for row in page.find_elements(By.CSS_SELECTOR, "#table-body tr")
    ]
    assert set(head[1:]) == set(GENRES)
    assert [row[0] for row in body[:2]] == ["whole", "0:00.0 to 0:00.5"]
    assert len(body) == 14
    for row in body:
        assert sum(map(float, row[1:])) == pytest.approx(1, abs=0.02)


def test_nothing_runs_over_the_edge_of_a_narrow_window(page, song):
    size = page.get_window_size()
    page.set_window_size(500, 900)
    try:
        give(page, song)
        wait_for(page, lambda _: is_shown(page, "result"))
        page.find_element(By.TAG_NAME, "summary").click()
        widths = page.execute_script("const d = document.documentElement; return [d.scrollWidth, d.clientWidth]")
        assert widths[0] <= widths[1]
    finally:
        page.set_window_size(size["width"], size["height"])


def test_what_the_server_refuses_is_said_and_the_next_song_works(page, song, tmp_path):
    bad = tmp_path / "letter.mp3"
    bad.write_text("to my aunt" * 100)
    give(page, bad)
    wait_for(page, lambda _: is_shown(page, "error"))
    assert text(page, "error").startswith("letter.mp3: ")
    assert not is_shown(page, "result")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(21 * RATE), RATE)
    give(page, long)
    wait_for(page, lambda _: "limit of 20 s" in text(page, "error"))
    give(page, song)
    wait_for(page, lambda _: is_shown(page, "result"))
    assert not is_shown(page, "error")


def test_a_file_that_the_browser_cannot_play_has_its_course_all_the_same(page, encode, tmp_path):
    path = tmp_path / "old.au"
    path.write_bytes(encode("AU", "PCM_16", seconds=2.0))
    give(page, path)
    wait_for(page, lambda _: is_shown(page, "unplayable"))
    strip = page.find_element(By.CSS_SELECTOR, ".row svg")
    webdriver.ActionChains(page).move_to_element(strip).click().perform()
    wait_for(page, lambda _: text(page, "moment").startswith("at 0:01.0"))


def test_names_are_shown_as_text_whatever_they_contain(page, encode, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.wav"
    path.write_bytes(encode("WAV", "PCM_16"))
    give(page, path)
    wait_for(page, lambda _: is_shown(page, "result"))
    assert "<img src=x onerror=alert(1)>.wav" in text(page, "summary")
    assert page.find_elements(By.TAG_NAME, "img") == []


def test_a_server_that_cannot_be_reached_is_said(page, song):
    page.execute_cdp_cmd("Network.enable", {})

    def set_offline(offline):
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    set_offline(True)
    try:
        give(page, song)
        wait_for(page, lambda _: is_shown(page, "error"))
        assert "cannot be reached" in text(page, "error")
    finally:
        set_offline(False)
