"""Figures of days made up, and the page as a browser has it."""

from datetime import date
from html.parser import HTMLParser

from index_builder.report.page import render
from twinspire_core.contracts.version_manifest import Manifest

FIRST = date(2024, 5, 1)
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


def measures(recall, **more):
    """As model/evaluation/evaluate.py leaves them."""
    sliced = {name: {"users": 10, "recall@50": recall / 2} for name in ("0", "1-4")}
    data = {"recall@10": recall / 2, "recall@50": recall, "ndcg@10": recall / 3, "mrr": recall / 4}
    shown = {"coverage@50": 0.25, "gini@50": 0.5, "overlap@50": 0.125, "popular_share@50": 0.75}
    slices = {"users": sliced, "items": {**sliced, "outside": {"true": 7}}}
    intervals = {"recall@50": [recall * 0.9, recall * 1.1], "recall@50/users:0": [0.0, recall]}
    actual = {"seen": "kept", "users": 20, **data, **shown, "slices": slices}
    return {**actual, "intervals": intervals, **more}


def metrics(progressive, held, before=None):
    """As twinspire_core/contracts/day_metrics.py says; the fixed order finds a tenth more than the
    two-tower.
    """
    lists = {"most_popular": 0.05, "popular_lately": 0.0625, "purchase_history": 0.03}
    lists = {name: measures(recall) for name, recall in lists.items()}
    change = (
        {"recall@50": {"change": held / before - 1, "low": -0.01, "high": 0.25}} if before else None
    )
    holdout = {"users": 20, "days": 1, "candidate": measures(held), "baselines": lists}
    holdout |= {"baseline": measures(before) if before else None, "change": change}
    of_order = {"users": 20, "candidate": measures(held * 1.1), "baseline": None, "change": None}
    train = {"rows": 1234, "steps": 5, "days": 1, "last_day": "2024-05-04"}
    alone = {"two_tower": [0.2] * 5 + [0.0] * 6, "uncorrected": [0.0] * 9 + [0.5, 0.5]}
    popularity = {"k": 50, "items": [1] * 10 + [5], "clicks": [0.1] * 10 + [0.0], "lists": alone}
    frequency = {"rows": 100, "items": 3, "known": 10, "factor": 1.25}
    return {
        "progressive": measures(progressive) if progressive else None,
        "baselines": lists,
        "holdout": holdout,
        "fixed_order": {
            "progressive": measures(progressive * 1.1) if before else None,
            "holdout": of_order,
        },
        "train": {**train, "loss": [[1, 7.5], [3, 6.5], [5, 6.0]]},
        "popularity": popularity,
        "frequency": {**frequency, "pairs": [[0.5, 0.5], [0.05, 0.1], [0.005, 0.005]]},
    }


def changed(part, **changes):
    """A part of a JSON file with other values of some keys."""
    return type(part).model_validate({**part.model_dump(), **changes})


def manifest(day, items=4, **more):
    quality = {"metric": "recall@50", "candidate": 0.2, "index_recall": 0.99}
    settings = {"train": {"epochs": 3, "dimension": 16}, "features": {"user": {"kind": "id"}}}
    given = {"settings": settings, "quality": quality, "software": {"tensorflow": "2.21.0"}, **more}
    data = {"pipeline": "tiny", "day": day, "files": {}, "items": items, "dimension": 16}
    return Manifest.create(**data, parent="2024-05-03-x", **given)


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
            # A line may break inside a word
            apart = "" if self.elements and self.elements[-1][0] == "wbr" else " "
            self.parts[self._part] = (
                f"{self.parts.get(self._part, '')}{apart}{data.strip()}".strip()
            )

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


_shown = {}


def shown(facts):
    """The page of these facts, drawn once."""
    key = repr(facts)
    if key not in _shown:
        _shown[key] = Page(render(facts).decode())
    return _shown[key]
