"""What the benchmark of rules counts, by hand."""

import numpy as np

from benchmarks.list_rules import NONE, contains_pairs, rules, table
from twinspire_core.search.ragged import Ragged


def test_what_was_taken_is_new_unless_the_user_had_it():
    known = Ragged(np.array([3, 1, -1, 3]), np.array([0, 0, 1, 2]), 3)
    taken = Ragged(np.array([1, 2, 3, -1, 3]), np.array([0, 0, 1, 1, 2]), 3)
    assert contains_pairs(known, taken).tolist() == [True, False, False, False, True]


def test_every_kind_of_rule_is_compared_with_none():
    compared = rules("brand")
    assert not compared[NONE].hold and all(
        one.hold for name, one in compared.items() if name != NONE
    )
    assert compared["brand 5"].caps == {"brand": 5}
    assert len(rules(None)) == 4


def test_a_row_of_the_table():
    row = {"name": "brand 5", "recall@50": 0.25, "more": -0.01, "low": -0.02, "high": 0.0}
    row |= {"recall@10": 0.125, "recall@50, new": 0.0625, "new": 0.5, "items": 48.5}
    row |= {"explored": 7, "hits": 1, "ms": 1.5, "lists": 1234}
    head, line, last = table([row]).splitlines()
    assert line.split() == [
        *("brand", "5", "0.2500", "-0.0100", "(-0.0200", "to", "+0.0000)"),
        *("0.125", "0.0625", "0.500", "48.5", "7", "1", "1.50"),
    ]
    assert len(head) == len(line) and last == "1,234 lists"
