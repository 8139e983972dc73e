"""The report in a browser: on a phone, by day and by night."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from PIL import Image

from index_builder.report.page import render

chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


def browse(tmp_path, *options):
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        ["chromium", *quiet, *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@chromium
def test_a_phone_shows_it_without_scrolling_sideways(facts, tmp_path):
    wide = replace(
        facts, items={**facts.items, "a": "Donaudampfschifffahrtsgesellschaft" * 3}, user_store=True
    )
    probe = """<script>
      document.querySelectorAll("details").forEach(d => d.open = true);
      const out = [...document.querySelectorAll("body *")]
        .filter(e => !e.parentElement.closest(".scroll"))  // a wide table scrolls in its own frame
        .filter(e => e.getBoundingClientRect().right > innerWidth + .5).map(e => e.tagName + e.textContent);
      parent.document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth, out]);
    </script></body>"""
    page = escape(render(wide).decode().replace("</body>", probe))
    # A window may not be made as narrow as a phone, a frame may.
    (tmp_path / "phone.html").write_text(
        f'<title></title><iframe width=390 height=30000 frameborder=0 srcdoc="{page}">'
    )
    dom = browse(tmp_path, "--dump-dom", (tmp_path / "phone.html").as_uri())
    width, needed, outside = json.loads(re.search(r"<title>(.*?)</title>", dom)[1])
    assert outside == [] and (width, needed) == (390, 390)


@chromium
def test_it_is_light_by_day_and_dark_by_night(facts, tmp_path):
    (tmp_path / "report.html").write_bytes(render(facts))
    pixels = []
    for number, scheme in enumerate((1, 0)):  # Blink's numbers of light and dark
        picture = tmp_path / f"{number}.png"
        options = (
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=1280,2000",
            f"--screenshot={picture}",
        )
        browse(tmp_path, *options, (tmp_path / "report.html").as_uri())
        pixels.append(np.asarray(Image.open(picture).convert("L"), float))
    light, dark = pixels
    assert light.shape == dark.shape == (2000, 1280)
    assert np.median(light) > 230 and np.median(dark) < 40
    assert (light < 100).mean() > 0.005 and (dark > 150).mean() > 0.005, "there is writing on it"
