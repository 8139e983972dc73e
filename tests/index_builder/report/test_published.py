from datetime import timedelta

from index_builder import publish_stage
from index_builder.registry.registry import Registry
from tests.index_builder.report.pages import FIRST, Page


def test_the_days_before_are_in_it_and_those_after_are_not(context, pipeline, parent, tmp_path):
    registry = Registry(pipeline.registry.root, pipeline.name)
    days = [FIRST + timedelta(days=n) for n in range(4)]
    made = []
    for day, recall in zip(days, (0.2, 0.31, 0.05, 0.33), strict=True):
        made.append(context(day, recall=recall, parent=parent(pipeline, day)))
        publish_stage.run(made[-1])
    assert [e.action for e in registry.log()] == ["publish", "publish", "refuse", "publish"]
    last = page_of(registry, days[3], tmp_path)
    assert (
        "2024-05-03 0.050 0.200 refused" in last.parts["days"]
        and "2024-05-04 0.330 0.200 this" in last.parts["days"]
    )
    assert f"Compared with {registry.accepted()[1]}, the live version" in last.parts["changes"]
    # Once more, with a later day published: the same day over again is another version if its
    # content is.
    publish_stage.run(context(days[1], recall=0.32, parent=parent(pipeline, days[1]), seed=1))
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
