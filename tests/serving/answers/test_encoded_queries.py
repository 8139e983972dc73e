import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serving.answers.encoded_queries import overlap, read_queries
from serving.requests.query_rows import STORED_EVENTS, STORED_HISTORY
from serving.requests.request_model import SEEN
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST, UserStore
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.user_histories import PersonalCounts

ITEMS = [chr(ord("a") + n) for n in range(8)]


class Catalogue:
    """A version of which only the items are asked."""

    def rows(self, ids):
        return np.array([ITEMS.index(one) if one in ITEMS else -1 for one in ids.to_pylist()])


def table(**columns) -> pa.Table:
    """Requests and what is stored of their users; a text is a list of its letters, each of one event
    if their number is not given.
    """
    strings = pa.list_(pa.string())
    lists = {
        name: pa.array([None if text is None else list(text) for text in texts], strings)
        for name, texts in columns.items()
        if name != STORED_EVENTS
    }
    if STORED_PAST in columns:
        counts = columns.get(STORED_EVENTS, pc.list_value_length(lists[STORED_PAST]))
        lists[STORED_EVENTS] = pa.array(counts, pa.int64())
    return pa.table(lists)


def past_of(rows: pa.Table) -> list[tuple[str, int]]:
    queries = read_queries(Catalogue(), rows, personal=False)
    past, events = queries.past, queries.events
    items = [past.part(n, n + 1).values for n in range(past.rows)]
    return [
        ("".join(ITEMS[item] if item >= 0 else "-" for item in own), int(number))
        for own, number in zip(items, events, strict=True)
    ]


@pytest.mark.parametrize(
    ("stored", "history", "old"),
    [
        ("abcde", "cdebf", 3),  # the last three are known
        ("abcde", "zabcdebf", 6),  # a history that goes further back than what is stored
        ("abcde", "abcde", 5),  # nothing new
        ("abcde", "de", 2),
        ("abcde", "bf", 0),  # all new: b was had again
        ("abcde", "cd", 0),  # not the end of what is stored
        ("aa", "aa", 2),  # the longer overlap: nothing counts twice
        ("aba", "abab", 3),
        ("ab", "abab", 4),  # all that is stored, as late as it stands
        ("", "ab", 0),
        ("ab", "", 0),
    ],
)
def test_what_is_old_in_a_history(stored, history, old):
    numbers = [np.array([ord(one) for one in text], np.int64) for text in (stored, history)]
    assert overlap(*numbers) == old


def test_numbers_do_not_match_across_their_bytes():
    """256 and 1 hold, end to end, the bytes of 1 at a place that is none."""
    stored, history = np.array([1 << 8]), np.array([1 << 16, 0, 1 << 8, 5])
    assert overlap(stored, history) == 3
    assert overlap(np.array([1]), np.array([1 << 8, 1 << 8])) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_past_is_that_of_all_events_whatever_part_a_request_tells(seed):
    """Where the stored history holds the whole window, the answer is exact: counted again from all
    events, of before the version's day and of after it.
    """
    rng = np.random.default_rng(seed)
    events = ["".join(rng.choice(ITEMS, rng.integers(1, 12))) for _ in range(30)]
    until = [int(rng.integers(0, len(all_of) + 1)) for all_of in events]
    before = [all_of[:end] for all_of, end in zip(events, until, strict=True)]
    # The request has all new events, and any number of earlier ones.
    actual = [all_of[rng.integers(0, end + 1) :] for all_of, end in zip(events, until, strict=True)]

    def of(texts):
        lengths = np.array([len(text) for text in texts])
        items = np.array([ITEMS.index(one) for text in texts for one in text], np.int64)
        return PersonalCounts.of_histories(Ragged.of_lengths(items, lengths)).items

    stored = of(before)
    pasts = ["".join(ITEMS[item] for item in stored.part(n, n + 1).values) for n in range(30)]
    stored_of = {STORED_PAST: pasts, STORED_HISTORY: before, STORED_EVENTS: [*map(len, before)]}
    lists = past_of(table(**{SEEN: actual, **stored_of}))
    exact = of(events)
    for n, (past, number) in enumerate(lists):
        expected = "".join(ITEMS[item] for item in exact.part(n, n + 1).values)
        # By chance, a request may repeat the end of the stored history: then it counts as that.
        numbers = [np.array([ord(c) for c in text], np.int64) for text in (before[n], actual[n])]
        if overlap(*numbers) == len(actual[n]) - (len(events[n]) - until[n]):
            assert (past, number) == (expected, len(events[n])), (before[n], actual[n])


def test_users_that_are_not_stored_have_the_history_of_their_request():
    stored = {key: [None, None] for key in (STORED_PAST, STORED_HISTORY, STORED_EVENTS)}
    rows = table(**{SEEN: ["abb?", None], **stored})
    assert past_of(rows) == [("ba", 4), ("", 0)]
    assert past_of(rows.select([SEEN])) == [("ba", 4), ("", 0)], "of a version without users"


def test_without_a_stored_history_only_other_items_are_new():
    """So versions of pipelines without a history, whose users have `_past` alone."""
    rows = table(**{SEEN: ["aef"], STORED_PAST: ["ba"]})
    assert past_of(rows) == [("feba", 4)], "of equal counts the newest first"


def test_items_outside_the_catalogue_stay_separate():
    """`?` and `!` are both unknown; they are not the same event."""
    rows = table(**{SEEN: ["!a"], STORED_PAST: ["b?"], STORED_HISTORY: ["b?"], STORED_EVENTS: [2]})
    assert past_of(rows) == [("ab", 4)]


def last_taken(rows: pa.Table) -> list[str]:
    """What each user took, the item taken last first, where no counts are stored."""
    taken = read_queries(Catalogue(), rows, personal=True).weighted_items().items
    lists = [taken.part(n, n + 1).values for n in range(taken.rows)]
    return ["".join(ITEMS[item] for item in own) for own in lists]


def most_frequent(text: str) -> str:
    return "".join(sorted(set(text), key=lambda one: (-text.count(one), one)))


def test_what_was_taken_last_by_hand():
    """The request's history is the newest, then what is stored in order, then the most frequent."""
    stored = {STORED_PAST: ["fgabcd", "fgabcd", "", None], STORED_HISTORY: ["abcd", None, "", None]}
    told = {SEEN: ["cdeb", "?cb", None, "ab"]}
    assert last_taken(table(**told, **stored)) == ["bedcafg", "bcfgad", "", "ba"]
    nothing = table(**{SEEN: [None] * 4}, **stored)
    assert last_taken(nothing) == ["dcbafg", "fgabcd", "", ""], "what the version knows is enough"
    of_past = table(**told, **{STORED_PAST: stored[STORED_PAST]})
    assert last_taken(of_past) == ["bedcfga", "bcfgad", "", "ba"], "of a version without histories"
    assert last_taken(table(**told)) == ["bedc", "bc", "", "ba"], "of a version without users"


def test_an_event_that_is_sent_again_counts_once():
    """Where no counts are stored: twice is what one history has twice."""
    rows = table(
        **{SEEN: ["abb", "b"], STORED_PAST: ["cab", "cab"], STORED_HISTORY: ["bca", "cca"]}
    )
    counts = read_queries(Catalogue(), rows, personal=True).weighted_items()
    assert counts.items.padded().tolist() == [[1, 0, 2], [1, 0, 2]]
    assert counts.weights.tolist() == [2, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_what_was_taken_is_that_of_all_events(seed):
    """For any number of stored events before the version's day and of events in the request."""
    rng = np.random.default_rng(seed)
    events = ["".join(rng.choice(ITEMS, rng.integers(1, 20))) for _ in range(30)]
    ends = [int(rng.integers(0, len(all_of) + 1)) for all_of in events]
    stored = [all_of[max(0, end - 4) : end] for all_of, end in zip(events, ends, strict=True)]
    actual = [all_of[rng.integers(0, end + 1) :] for all_of, end in zip(events, ends, strict=True)]
    pasts = [most_frequent(all_of[:end]) for all_of, end in zip(events, ends, strict=True)]
    lists = last_taken(table(**{SEEN: actual, STORED_HISTORY: stored, STORED_PAST: pasts}))
    for n, all_of in enumerate(events):
        exact = "".join(sorted(set(all_of), key=all_of.rindex, reverse=True))
        in_order = {*stored[n], *actual[n]}
        rest = [one for one in pasts[n] if one not in in_order]
        assert lists[n] == exact[: len(in_order)] + "".join(rest)


@pytest.mark.parametrize("taken", [[], ["a", "b"]])
def test_stored_users_with_an_empty_column_are_loaded(tmp_path, taken):
    lists = pa.list_(pa.string())
    columns = {
        "_user": ["ann"],
        "_past": pa.array([None], lists),
        "_personal": pa.array([taken], lists),
    }
    pq.write_table(pa.table(columns), tmp_path / "users.parquet")
    users = UserStore(tmp_path)
    users.count()
    stored, known = users.find(["ann", "nobody"])
    assert known.tolist() == [True, False]
    assert stored["_personal"].to_pylist() == [taken, None]


def test_what_stored_users_took_is_a_row_of_the_corpus_or_none(tmp_path):
    columns = {
        "_user": ["ann", "bob"],
        "_past": pa.array([["c", None, "z"], ["a"]], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "users.parquet")
    version = Version(None, tmp_path, None)
    vars(version).update(users=UserStore(tmp_path), items=pa.table({"_item": ITEMS}))
    version.users.count()
    stored, _ = version.users.find(["ann", "bob"])
    assert version.rows(stored["_past"].combine_chunks().flatten()).tolist() == [2, -1, -1, 0]
