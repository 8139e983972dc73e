"""Figures of training: the loss, the error of estimates, the popularity of recommended items."""

from collections.abc import Sequence

from index_builder.report import charts
from index_builder.report.facts import Facts, Figure, Mark, Section
from twinspire_core.contracts.day_metrics import (
    AuxiliaryFigures,
    FrequencyFigures,
    PopularityFigures,
)
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.table import Table, count, number, share


def learning(facts: Facts) -> Section:
    """The learning curve."""
    train = facts.metrics.train
    days = f"the events of {train.last_day or facts.manifest.date}"
    if train.days > 1:
        days = f"{count(train.days)} days, {train.first_day} to {train.last_day}"
    parent = facts.manifest.parent
    begun = f"from {parent}" if parent else "from scratch"
    text = [
        f"Trained {begun} on {days}: {count(train.rows)} examples in {count(train.steps)} steps.",
        *_labels(facts.metrics.auxiliary),
        _frequencies(facts.metrics.frequency),
    ]
    if train.warning:
        text.append(f"Warning: {train.warning}")
    if not train.loss:
        text.append("There is no curve, because training took no step.")
    return Section(
        anchor="learning",
        title="Learning",
        text=text,
        figures=[_loss(train.loss)] if train.loss else [],
        half=True,
    )


def _labels(head: AuxiliaryFigures | None) -> list[str]:
    """The error of the auxiliary head, one sentence for each set of labels."""
    if head is None:
        return []
    text = [
        f"The auxiliary head learned from {count(head.labels)} labels; their mean is"
        f" {number(head.mean)}."
    ]
    for errors, whose in (
        (head.holdout, "held-out users"),
        (head.progressive, "the day, predicted by the parent"),
    ):
        if errors:
            text.append(
                f"Labels of {whose} ({count(errors.labels)}): root mean square error"
                f" {number(errors.value('rmse'))}; if the mean is always predicted,"
                f" {number(errors.value('rmse_of_mean'))}."
            )
    return text


def _loss(loss: Sequence[tuple[int, float]]) -> Figure:
    steps, nats = zip(*loss, strict=True)
    # About ten rows are enough for readers who do not see the curve.
    few = loss[:: max(1, len(loss) // 10)]
    return Figure(
        title="Loss by step",
        svg=charts.curve("loss", steps, nats, ("step", "loss, nats")),
        alt=(
            f"A line from {number(nats[0], 2)} nats at step {steps[0]:,} to {number(nats[-1], 2)}"
            f" at {steps[-1]:,}."
        ),
        caption=(
            "Each point is the mean loss of the batches since the previous point. Look for a jump or a"
            " lasting rise; the level depends on the batch size and on how varied the day was. Steps"
            " are counted across days."
        ),
        table=Table(
            head=["step", "loss"],
            rows=[[f"{int(s):,}", number(v)] for s, v in few],
            title="Loss in nats",
        ),
    )


def popularity(facts: Facts) -> Section:
    """The popularity of the recommended items next to that of the items taken."""
    measured = facts.metrics.popularity
    title = "Popularity: offered and taken"
    if not (measured and sum(measured.clicks)):
        none = "Not measured: no user was held out, or none of their items was in the catalogue."
        return Section(anchor="popularity", title=title, text=[none], half=True)
    text = [
        "Each of ten groups of items has a tenth of all earlier events. The first has the few most"
        " popular items, the tenth the many rare ones. “none” has the items without an event in"
        " window.count_days. If a line follows the bars, the list offers items that are as popular"
        " as the taken ones."
    ]
    if "uncorrected" in measured.lists:
        text.append(
            "“Correction taken out” estimates a model without the correction; no such model is"
            " trained. It subtracts log q from this model’s scores, which is what an uncorrected"
            " softmax over in-batch negatives would learn."
        )
    figure = _popularity(measured)
    return Section(anchor="popularity", title=title, text=text, figures=[figure], half=True)


def _popularity(figures: PopularityFigures) -> Figure:
    # The last group has the items without events
    names = [*(str(number + 1) for number in range(len(figures.items) - 1)), "none"]
    lists = [(name, shares) for name, shares in figures.lists.items() if sum(shares)]
    series = [
        charts.Series(colour=name, values=shares, dashed=name not in ("two_tower", "fixed_order"))
        for name, shares in lists
    ]
    legend = [
        Mark("clicks", "taken that day", "area"),
        *(Mark(s.colour, list_name(s.colour), "dash" if s.dashed else "line") for s in series),
    ]
    top = "; ".join(f"{list_name(name)} {share(shares[0])}" for name, shares in lists)
    bottom = "; ".join(f"{list_name(name)} {share(shares[-1])}" for name, shares in lists)
    rows = [
        [
            name,
            count(figures.items[position]),
            share(figures.clicks[position]),
            *(share(shares[position]) for _, shares in lists),
        ]
        for position, name in enumerate(names)
    ]
    table = Table(
        head=["group", "items", "taken", *(list_name(name) for name, _ in lists)],
        rows=rows,
        title="Shares by group of items",
    )
    return Figure(
        title=f"Shares of the first {figures.k} recommended items, and of the taken items",
        svg=charts.groups(
            "popularity",
            names,
            charts.Series(colour="clicks", values=figures.clicks),
            series,
            ("groups of items, most popular first", "share of listed or taken items"),
        ),
        alt=(
            f"In the most popular group: taken {share(figures.clicks[0])}; {top}. In the group"
            f" without events: taken {share(figures.clicks[-1])}; {bottom}"
        ),
        caption="Lists of this version for held-out users of the day.",
        legend=legend,
        table=table,
    )


def _frequencies(estimated: FrequencyFigures | None) -> str:
    """The error of the streaming estimate that the correction uses, in a sentence."""
    if estimated is None or not estimated.pairs:
        return "No frequencies were estimated: train.correction is none, or the day had no rows."
    if estimated.factor is None:
        return (
            f"No item occurred {estimated.known} times, so the error of the estimated frequencies is not"
            " known."
        )
    return (
        "The correction estimates how often items are in a batch. For items that occurred at least"
        f" {estimated.known} times on the day, the mean error over their rows is a factor of"
        f" {estimated.factor:.2f}."
    )
