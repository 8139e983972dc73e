"""Lists to look at: users with their past and what they were recommended."""

from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Example, Item, Section
from twinspire_core.contracts.example_lists import ExampleList


def examples(facts: Facts) -> Section:
    """A held-out user of each slice, by this version."""
    text = [
        f"What this version recommends to held-out users on {facts.manifest.date}, the best first;"
        " ✓ marks what they took that day. One of each slice by earlier events, chosen by the"
        " fingerprint of their id and not by result."
    ]
    if facts.examples and not facts.user_store:
        text.append("They are not named: serving.user_store is off.")
    if not facts.examples:
        text = [
            "There are none: no user was held out, or the training files of this version have none."
        ]
    shown = [_example(facts, one, number) for number, one in enumerate(facts.examples, 1)]
    return Section(anchor="examples", title="Lists to look at", text=text, examples=shown)


def _example(facts: Facts, one: ExampleList, number: int) -> Example:
    name = f"User {one.user}" if facts.user_store else f"User {'ABCDEFGH'[number - 1]}"
    past = one.past_events
    earlier = f"{past:,} event{'s' if past != 1 else ''} before" if past else "new: no event before"
    taken = set(one.taken)
    hits = len(taken & set(one.items))
    return Example(
        who=f"{name}, {earlier}",
        history=[_item(facts, item) for item in one.history],
        items=[_item(facts, item, item in taken) for item in one.items],
        taken=(
            f"took {len(taken)} item{'s' if len(taken) != 1 else ''} that day, {hits} of them among"
            " these"
        ),
    )


def _item(facts: Facts, item: str, taken: bool = False) -> Item:
    name = facts.items.get(item)
    return Item(name, item, taken) if name and name != item else Item(item, taken=taken)
