"""What is different from the version before."""

from collections.abc import Iterator, Mapping

from index_builder.report.facts import Facts, Previous
from index_builder.report.report_blocks import Section
from index_builder.report.stage_outcomes import setting_text, settings_by_path
from twinspire_core.contracts.manifest import Manifest
from twinspire_core.display.figures import NONE, change, count, number
from twinspire_core.display.table import Table

_NAMED = 8


def changes(facts: Facts) -> Section:
    """What is different from the version that was live."""
    title = "What changed"
    before = facts.previous
    if before is None:
        text = ["Nothing was published before this version: there is nothing to compare with."]
        return Section(anchor="changes", title=title, text=text)
    which = "the live version" if before.live else "the version it was trained on from"
    return Section(
        anchor="changes",
        title=title,
        text=[f"Compared with {before.manifest.version}, {which} when this one was published."],
        tables=[_compared(facts, before), _settings(facts, before), *_items(facts, before)],
    )


def _compared(facts: Facts, before: Previous) -> Table:
    old = before.manifest
    new = facts.manifest
    old_quality = _quality(old, facts.metric)
    new_quality = _quality(new, facts.metric)
    rows = [
        ["day", str(old.date), str(new.date), NONE],
        [
            f"{facts.metric} of the two-tower, held out, each on its own day",
            number(old_quality),
            number(new_quality),
            _relative(old_quality, new_quality),
        ],
        [
            "index recall",
            number(old.quality.index_recall, 4),
            number(new.quality.index_recall, 4),
            NONE,
        ],
        ["items", count(old.items), count(new.items), _relative(old.items, new.items)],
        ["width of vectors", str(old.dimension), str(new.dimension), NONE],
    ]
    rows += [
        [name, old.software.get(name, NONE), new.software.get(name, NONE), NONE]
        for name in sorted({*old.software, *new.software})
        if old.software.get(name) != new.software.get(name)
    ]
    title = (
        "Held-out users of two days are different users on different days: "
        "the gate’s figures compare like with like"
    )
    return Table(head=["", "before", "now", "change"], rows=rows, title=title)


def _quality(manifest: Manifest, metric: str) -> float | None:
    """What the gate judged a version by; None if that was another measure."""
    if manifest.quality.metric != metric:
        return None
    return manifest.quality.candidate


def _relative(old: float | None, new: float | None) -> str:
    if not old or new is None:
        return NONE
    return change(new / old - 1)


def _settings(facts: Facts, before: Previous) -> Table:
    head = ["setting", "before", "now"]
    if not before.manifest.settings:
        title = "Settings: the version before does not tell its own."
        return Table(head=head, rows=[], title=title)
    old = settings_by_path(before.manifest.settings)
    new = settings_by_path(facts.manifest.settings)
    rows = [
        [name, setting_text(old.get(name)), setting_text(new.get(name))]
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    ]
    title = "Settings that changed" if rows else "Settings: none changed."
    return Table(head=head, rows=rows, title=title)


def _items(facts: Facts, before: Previous) -> list[Table]:
    tables = [
        *_only_here("new in", facts.items, before.items),
        *_only_here("gone from", before.items, facts.items),
    ]
    return tables or [Table(head=[], rows=[], title="The catalogue holds the same items.")]


def _only_here(
    how: str, these: Mapping[str, str | None], others: Mapping[str, str | None]
) -> Iterator[Table]:
    """The items of one corpus that another lacks, the most popular ones by name."""
    items = [item for item in these if item not in others]
    if not items:
        return
    title = f"{count(len(items))} items are {how} the catalogue"
    if len(items) > _NAMED:
        title += f", of which the {_NAMED} most popular"
    # `these` is in order of popularity
    rows = [[item, these[item] or NONE] for item in items[:_NAMED]]
    yield Table(head=["item", "name"], rows=rows, title=title)
