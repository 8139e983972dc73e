import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape

import pytest

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
