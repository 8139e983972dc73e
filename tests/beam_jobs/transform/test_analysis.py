import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from beam_jobs.transform import analysis
from tests.beam_jobs.transform.made_up_log import analysis_schema, make, table_of
from twinspire_core.contracts import feature_schema


def test_parts_add_up_to_the_whole(window):
    p = make()
    whole = table_of(window, analysis_schema(p))
    combine = analysis.Summarise(p)
    slices = [whole.slice(i, 13) for i in range(0, len(whole), 13)]
    parts = [combine.compact(analysis.summarise(p, rows)) for rows in slices]
    random.Random(2).shuffle(parts)
    merged = [combine.merge_accumulators(parts[:5]), *parts[5:]]
    merged = combine.extract_output(combine.merge_accumulators(merged))
    assert merged.equals(combine.extract_output(analysis.summarise(p, whole)))


def test_what_may_be_in_a_vocabulary_is_all_that_a_part_hands_on(window):
    p = make()
    (whole,) = table_of(window, analysis_schema(p)).to_batches()
    parts = list(analysis.in_parts(whole, p))
    counts = [part.counts["user"][0] for _, part in parts if "user" in part.counts]
    values = [set(table["value"].to_pylist()) for table in counts]
    assert len(values) > analysis.PARTS / 2
    assert sum(map(len, values)) == len(set.union(*values)), "a value is in one part"
    assert max(map(len, values)) < sum(map(len, values)) / 3
    add_up = analysis.AddUp(p)
    handed_on = [add_up.extract_output(part) for _, part in parts]
    kept = sum(len(part.counts["user"][0]) for part in handed_on if "user" in part.counts)
    summarise = analysis.Summarise(p)
    row = summarise.extract_output(summarise.merge_accumulators(handed_on))
    assert row.equals(analysis.summary_row(p, analysis.summarise(p, whole)))
    assert kept == len(row[analysis.vocabulary_column("user")][0]) < sum(map(len, values))


def test_ids_and_values_beyond_the_most_share_rows(window, monkeypatch):
    monkeypatch.setattr(analysis, "MOST_IDS", 2)
    monkeypatch.setattr(analysis, "MOST_VALUES", 3)
    p = make()
    (whole,) = table_of(window, analysis_schema(p)).to_batches()
    row = analysis.summary_row(p, analysis.summarise(p, whole))
    for name, most in (("user", 2), ("device", 3)):
        often = Counter(one[name] for one in window if one[name]).most_common(most)
        kept = row[analysis.vocabulary_column(name)][0].as_py()
        assert sorted(kept) == sorted(value for value, _ in often)


def test_many_partial_counts_are_added_up_now_and_then(monkeypatch):
    monkeypatch.setattr(analysis, "COMPACT_ROWS", 10)
    p, rng = make(), np.random.default_rng(0)
    combine = analysis.Summarise(p)
    summary, seen = combine.create_accumulator(), Counter()
    for _ in range(40):
        values = [f"d{i}" for i in rng.integers(0, 30, 12)]
        seen.update(values)
        times = pa.array([datetime(2024, 3, 10, 12, tzinfo=UTC)] * 12, feature_schema.TIME)
        batch = pa.record_batch({"device": values, "_time": times})
        summary = combine.add_input(summary, analysis.summarise(p, batch))
        assert sum(map(len, summary.counts["device"])) <= 2 * 30 + 10 + 12
    counts = analysis.added_up(summary.counts["device"]).to_pylist()
    assert {row["value"]: row["events"] for row in counts} == seen
