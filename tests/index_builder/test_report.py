"""The report of a version: complete, true to its figures, and readable wherever it is opened."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import date, timedelta
from html import escape
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from index_builder import publish
from index_builder.manifest import Manifest
from index_builder.registry import Registry
from index_builder.report import charts
from index_builder.report.facts import Day, Facts, Previous
from index_builder.report.page import render

FIRST = date(2024, 5, 1)
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


def measures(recall, **more):
    """As model/evaluate.py leaves them."""
    sliced = {name: {"users": 10, "recall@50": recall / 2} for name in ("0", "1-4")}
    return {
        "seen": "kept",
        "users": 20,
        "recall@10": recall / 2,
        "recall@50": recall,
        "ndcg@10": recall / 3,
        "mrr": recall / 4,
        "coverage@50": 0.25,
        "gini@50": 0.5,
        "overlap@50": 0.125,
        "popular_share@50": 0.75,
        "slices": {"users": sliced, "items": {**sliced, "outside": {"true": 7}}},
        "intervals": {"recall@50": [recall * 0.9, recall * 1.1], "recall@50/users:0": [0.0, recall]},
        **more,
    }


def metrics(progressive, held, before=None):
    lists = {"most_popular": measures(0.05), "popular_lately": measures(0.0625), "past": measures(0.03)}
    change = {"recall@50": {"change": held / before - 1, "low": -0.01, "high": 0.25}} if before else None
    return {
        "progressive": measures(progressive) if progressive else None,
        "baselines": lists,
        "holdout": {
            "users": 20,
            "days": 1,
            "candidate": measures(held),
            "baseline": measures(before) if before else None,
            "change": change,
            "baselines": lists,
        },
        "train": {
            "rows": 1234,
            "steps": 5,
            "days": 1,
            "last_day": "2024-05-04",
            "loss": [[1, 7.5], [3, 6.5], [5, 6.0]],
        },
        "popularity": {
            "k": 50,
            "items": [1] * 10 + [5],
            "clicks": [0.1] * 10 + [0.0],
            "lists": {"two_tower": [0.2] * 5 + [0.0] * 6, "uncorrected": [0.0] * 9 + [0.5, 0.5]},
        },
        "frequency": {
            "rows": 100,
            "items": 3,
            "known": 10,
            "factor": 1.25,
            "pairs": [[0.5, 0.5], [0.05, 0.1], [0.005, 0.005]],
        },
    }


def manifest(day, items=4, **more):
    quality = {"metric": "recall@50", "candidate": 0.2, "index_recall": 0.99}
    settings = {"train": {"epochs": 3, "dimension": 16}, "features": {"user": {"kind": "id"}}}
    given = {"settings": settings, "quality": quality, "software": {"tensorflow": "2.21.0"}, **more}
    return Manifest.create(
        pipeline="tiny", day=day, files={}, items=items, dimension=16, parent="2024-05-03-x", **given
    )


@pytest.fixture
def facts():
    """A fourth day."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    told = [metrics(p, h, b) for p, h, b in ((None, 0.1, None), (0.1, 0.2, 0.16), (0.3, 0.2, 0.2), (0.2, 0.25, 0.2))]
    settings = {"tried": [{"kind": "quantised", "k": 10, "rescored": 20, "leaves": 0, "leaves_searched": 0}]}
    point = {**settings["tried"][0], "recall": 0.97, "work": 500}
    chosen = {**point, "rescored": 40, "recall": 0.99, "work": 700}
    return Facts(
        manifest=manifest(days[-1]),
        metric="recall@50",
        k=50,
        user_store=False,
        metrics=told[-1],
        gate={"accepted": True, "refused": [], "notes": ["few users"], "figures": {"users": 20, "items": 4}},
        index={
            "kind": "quantised",
            "k": 10,
            "recall": 0.985,
            "recall_target": 0.98,
            "reasons": ["4 items"],
            "settings": {key: chosen[key] for key in settings["tried"][0]},
            "tried": [point, chosen],
        },
        speed={
            "single_ms_median": 0.5,
            "single_ms_p99": 0.75,
            "batch_queries_per_s": 1000.4,
            "exact_queries_per_s": 500.0,
            "tried_ms": [0.25, 0.5],
        },
        data={"rows": 1000, "rejected": {"no time": 3}, "users": 20, "statistics": {"anomalies": ["price: odd"]}},
        examples=[
            {"user": "secret-7", "past_events": 3, "history": ["c", "gone"], "items": ["a", "b"], "taken": ["b"]}
        ],
        days=[Day(d, str(d), "accepted", m) for d, m in zip(days, told, strict=True)],
        previous=Previous(manifest=manifest(days[2], items=3), live=True, items={"a": "An a", "old": "Old one"}),
        items={"a": "An a", "b": "A <b>bold</b> one & more", "c": None, "d": "d"},
    )


class Page(HTMLParser):
    """The page as a browser has it: elements, and the text of each part."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.parts, self._open, self._part = [], {}, [], ""
        self.feed(html)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._part = dict(attrs)["id"]

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open and "svg" not in self._open:
            apart = "" if self.elements and self.elements[-1][0] == "wbr" else " "  # a line may break inside a word
            self.parts[self._part] = f"{self.parts.get(self._part, '')}{apart}{data.strip()}".strip()

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def shown(facts):
    return Page(render(facts).decode())


def first_day(facts):
    told = {**facts.metrics, "progressive": None, "frequency": None, "popularity": None}
    told["holdout"] = {"users": 0, "days": 1, "candidate": None, "baseline": None, "change": None, "baselines": {}}
    day = Day(facts.manifest.date, "v", "this", told)
    index = {**facts.index, "tried": []}
    return replace(
        facts, metrics=told, days=[day], previous=None, index=index, examples=[], data={}, gate={"accepted": True}
    )


@pytest.mark.parametrize("change", [lambda facts: facts, first_day])
def test_the_page_needs_nothing_else(facts, change):
    page = shown(change(facts))
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    links = [v for _, a in page.elements for n, v in a.items() if n in ("href", "xlink:href", "src", "srcset")]
    assert links and all(link.startswith("#") for link in links)
    html = render(change(facts)).decode()
    assert not re.findall(r"@import|https?:|url\((?!#)", html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)


def test_every_colour_is_defined_for_light_and_dark(facts):
    light, dark = re.findall(r":root \{(.*?)\}", files(charts.__package__).joinpath("page.css").read_text(), re.S)
    for scheme in (light, dark):
        assert set(re.findall(r"var\(--([\w-]+)\)", render(facts).decode())) - {"c"} <= set(
            re.findall(r"--(\w+):", scheme)
        )
        assert set(charts.COLOURS) <= set(re.findall(r"--(\w+):", scheme))
    assert not re.findall("|".join(charts.COLOURS.values()), render(facts).decode()), "no placeholder is left"


def test_every_picture_is_told_in_words_and_numbers(facts):
    page = shown(facts)
    pictures = page.all("div", role="img")
    assert len(pictures) == len(page.all("figure")) == len(page.all("svg")) == 9
    assert all(len(a["aria-label"]) > 20 for a in pictures)
    assert len(page.all("figcaption")) == 9 and len(page.all("table")) > 15
    assert "recall@50 by earlier events of the item" in page.parts["slices"]


def path_points(svg, colour, with_=""):
    """Places of the lines of a colour, in units of the picture."""
    drawn = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none;[^"]*{with_}[^"]*stroke: var\(--{colour}\)', svg)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in drawn]


def test_lines_are_where_their_values_are():
    days = [FIRST + timedelta(days=n) for n in (0, 1, 3)]
    values = [0.1, 0.3, 0.2]
    (points,) = path_points(charts.by_day("t", days, [charts.Series(colour="past", values=values)], "x"), "past")
    x, y = points.T
    assert (x[1] - x[0]) * 2 == pytest.approx(x[2] - x[1], rel=1e-3), "a missing day leaves a gap"
    assert (y[0] - y[1]) / (y[2] - y[1]) == pytest.approx((0.3 - 0.1) / (0.3 - 0.2), rel=1e-3)
    assert y[1] < y[2] < y[0], "up is more"


def test_right_estimates_lie_on_the_diagonal():
    svg = charts.against("t", [0.5, 0.05, 0.005], [0.5, 0.1, 0.005], ("true", "estimated"))
    (line,) = path_points(svg, "muted", "stroke-dasharray")
    slope, at = np.polyfit(line[:, 0], line[:, 1], 1)
    dots = np.array(re.findall(r'<use [^>]*x="(\S+)" y="(\S+)"[^>]*fill: var\(--two_tower\)', svg), float)
    off = dots[:, 1] - (slope * dots[:, 0] + at)
    assert len(dots) == 3 and abs(off[[0, 2]]).max() < 0.01 and off[1] < -5, "a point above is estimated too high"


def test_what_was_measured_stands_there(facts):
    parts = shown(facts).parts
    assert "0.200" in parts[""] and "popular lately, the best baseline: 0.062" in parts[""]
    assert "+25.0% (−1.0% to +25.0%) from 0.200" in parts[""]
    assert "2024-05-03 0.300 0.050 0.062 0.030" in parts["days"]
    assert "this version 0.125 0.250 0.083 0.062" in parts["lists"]
    assert "25.0% 50.0% 12.5% 75.0%" in parts["lists"]
    assert "1-4 10 0.100 0.025 0.031 0.015" in parts["slices"] and "7 items taken were not in" in parts["slices"]
    assert "two-tower 0.200 (0.180–0.220)" in parts["sources"]
    assert "off by a factor of 1.25" in parts["frequency"] and "5.0000% 10.0000% 2.00" in parts["frequency"]
    assert "finds 0.9850 of the 10 exact neighbours; 0.98 was asked for" in parts["index"]
    assert "all 40 0.9900 700 0.500" in parts["index"] and "0.50 ms for one query" in parts["index"]
    assert "3 of 1,000 records were set aside as malformed (0.30%)" in parts["data"]
    assert "• price: odd" in parts["data"] and "no time 3" in parts["data"]
    assert "Note: few users." in parts["gate"]
    few = {**facts.metrics, "train": {**facts.metrics["train"], "warning": "too few steps"}}
    assert "Warning: too few steps" in shown(replace(facts, metrics=few)).parts["learning"]


def test_what_changed_since_the_live_version(facts):
    new = facts.manifest.model_copy(update={"settings": {"train": {"epochs": 5, "dimension": 16, "skip": True}}})
    part = shown(replace(facts, manifest=new)).parts["changes"]
    assert f"Compared with {facts.previous.manifest.version}, the live version" in part
    assert "train.epochs 3 5" in part and "train.skip – true" in part and "features.user.kind id –" in part
    assert "train.dimension" not in part and "tensorflow" not in part
    assert "items 3 4 +33.3%" in part
    assert "3 items are new in the catalogue" in part and "1 items are gone from the catalogue" in part
    assert "old Old one" in part and "An a" not in part
    assert "Settings: none changed" in shown(facts).parts["changes"]


def test_the_first_day_says_what_it_cannot_show(facts):
    parts = shown(first_day(facts)).parts
    assert "There is no such figure yet" in parts["days"]
    assert "Nothing was published before" in parts["changes"]
    assert "no version before this one" in parts["lists"]
    assert "train.correction is none" in parts["frequency"] and "not measured" in parts["popularity"]
    assert "There are none" in parts["examples"] and "No settings were tried" in parts["index"]
    assert "working files of the features stage are gone" in parts["data"]


def test_reasons_of_a_refusal(facts):
    reasons = ["recall@50 is 0.1000, below 0.1800", "the corpus is empty"]
    page = shown(replace(facts, gate={**facts.gate, "accepted": False, "refused": reasons}))
    assert "refused" in page.parts[""] and "accepted" not in page.parts[""]
    assert all(f"• {reason}" in page.parts["gate"] for reason in reasons)


def test_the_gate_shows_slices_and_limits(facts):
    limits = {"max_drop": 0.1, "max_slice_drop": 0.2, "min_users": 200}
    floors = {"recall@50/users:0": 0.0625}
    gate = {**limits, "floors": floors, "ceilings": {"overlap@50": 0.25}}
    one = {"users": 1300, "candidate": 0.125, "baseline": 0.25, "change": -0.5, "low": -0.6, "high": -0.4, "differ": 99}
    slices = {"users:0": one, "users:1-4": {**one, "low": None, "high": None}, "users:5+": {**one, "baseline": None}}
    judged = {**facts.gate, "figures": {"slices": slices}}
    settings = {**facts.manifest.settings, "gate": gate}
    part = shown(replace(facts, gate=judged, manifest=facts.manifest.model_copy(update={"settings": settings}))).parts
    assert "0 1,300 0.250 0.125 −50.0% (−60.0% to −40.0%)" in part["gate"]
    assert "1-4 1,300 0.250 0.125 −50.0%" in part["gate"] and "5+" not in part["gate"]
    assert "beyond −20%, in slices of 200 users or more" in part["gate"]
    assert "recall@50/users:0 0.125 (0.000–0.250) ≥ 0.0625" in part["gate"]
    assert "overlap@50 0.125 ≤ 0.25" in part["gate"]


def test_users_are_named_only_where_versions_carry_them(facts):
    assert "secret-7" not in render(facts).decode() and "User A" in shown(facts).parts["examples"]
    named = shown(replace(facts, user_store=True)).parts["examples"]
    assert "User secret-7, 3 events before" in named and "took 1 item that day, 1 of them among these" in named


def test_names_out_of_logs_are_text(facts):
    page = shown(facts)
    assert "A <b>bold</b> one & more ✓ b" in page.parts["examples"]
    assert "c gone" in page.parts["examples"], "what has no name, or has left, is shown by its id"


def test_the_days_before_are_in_it_and_those_after_are_not(context, pipeline, parent, tmp_path):
    registry = Registry(pipeline.registry.root, pipeline.name)
    days = [FIRST + timedelta(days=n) for n in range(4)]
    made = []
    for day, recall in zip(days, (0.2, 0.31, 0.05, 0.33), strict=True):
        made.append(context(day, recall=recall, parent=parent(pipeline, day)))
        publish.run(made[-1])
    assert [e.action for e in registry.log()] == ["publish", "publish", "refuse", "publish"]
    last = page_of(registry, days[3], tmp_path)
    assert (
        "2024-05-03 0.050 0.200 refused" in last.parts["days"] and "2024-05-04 0.330 0.200 this" in last.parts["days"]
    )
    assert f"Compared with {registry.accepted()[1]}, the live version" in last.parts["changes"]
    # Once more, with a later day published: the same day over again is another version if its content is.
    publish.run(context(days[1], recall=0.32, parent=parent(pipeline, days[1]), seed=1))
    again = page_of(registry, days[1], tmp_path)
    assert (
        "0.320" in again.parts["days"]
        and "0.310" not in again.parts["days"]
        and "2024-05-04" not in again.parts["days"]
    )


def page_of(registry, day, cache):
    """The report of the day's newest version."""
    version = max((s for s in registry.statuses() if s.date == day), key=lambda s: s.at).version
    return Page((registry.open(version, cache / "cache") / "report.html").read_text())


chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


def browse(tmp_path, *options):
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(["chromium", *quiet, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@chromium
def test_a_phone_shows_it_without_scrolling_sideways(facts, tmp_path):
    wide = replace(facts, items={**facts.items, "a": "Donaudampfschifffahrtsgesellschaft" * 3}, user_store=True)
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
