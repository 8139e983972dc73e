import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.validation import drift, statistics
from beam_jobs.validation.drift import Numbers
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import StatisticsFile


def test_distances_by_hand():
    assert drift.linf({"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.5, "c": 0.3}) == pytest.approx(0.3)
    assert drift.linf({}, {}) == 0
    half, certain = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert drift.js(half, half) == 0
    assert drift.js(certain, certain[::-1]) == pytest.approx(1)
    # m = (3/4, 1/4): (1/2 log 2/3 + 1/2 log 2 + log 4/3) / 2 = (log 4/3 + 2 log 4/3) / 4 = 3/4 log
    # 4/3, in bits
    by_hand = 0.75 * math.log2(4 / 3)
    assert drift.js(half, certain) == pytest.approx(by_hand)
    assert drift.js(certain, half) == pytest.approx(by_hand)


def test_a_frequent_value_gets_its_own_interval():
    a = Numbers.weighted([0, 1], [60, 40])
    b = Numbers.weighted([1, 0], [90, 10])
    assert a.distance(b) == b.distance(a)
    assert a.distance(b) == pytest.approx(drift.js(np.array([0.6, 0.4]), np.array([0.1, 0.9])))
    assert a.distance(Numbers.weighted([0.5], [100])) == pytest.approx(1)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1))
def test_quantiles_and_shares_are_those_of_the_sorted_numbers(numbers):
    summary = Numbers.weighted(numbers, np.ones(len(numbers)))
    ranks = [n / len(numbers) for n in range(1, len(numbers) + 1)]
    assert summary.quantiles(ranks).tolist() == sorted(numbers)
    for number in numbers:
        share = np.mean(np.array(numbers) <= number)
        assert summary.share_up_to([number])[0] == pytest.approx(share)
    assert summary.share_up_to([-10, 10]).tolist() == pytest.approx([0, 1])
    assert summary.distance(summary) == 0


PLACES = {name: f"/none/{name}/{{date}}/" for name in ("events", "items", "users")}
PIPELINE = Pipeline.model_validate(
    {
        "pipeline": {"name": "tiny"},
        "source": PLACES,
        "columns": {"user": "who", "item": "what", "time": "at"},
        "features": {
            "who": {"kind": "id", "tower": "query"},
            "age_group": {"kind": "category", "tower": "query", "from": "users"},
            "device": {"kind": "category", "tower": "query"},
            "recent": {"kind": "history"},
            "item": {"kind": "id", "tower": "item"},
            "sold": {"kind": "count", "days": 7},
            "since": {"kind": "age"},
            "brand": {"kind": "category", "tower": "item"},
            "tags": {"kind": "categories", "tower": "item"},
        },
    }
)
ALIKE = {
    "sold": np.arange(100.0),
    "since": np.arange(100.0),
    "brand": ["a", "b"] * 50,
    "tags": [["x"], ["x", "y"]] * 50,
    "age_group": ["old", "young"] * 50,
}


def trained_on(columns: dict) -> dict:
    """The statistics of 100 rows that the transform graph is fitted on."""
    rows = pa.RecordBatch.from_pydict({"_row": np.arange(100), **columns})
    sketches = statistics.Collect([*ALIKE]).add_input({}, rows)
    return statistics.finish(feature_schema.example_schema(PIPELINE), sketches)


def skews(trained: dict, popular=1, lately=1, past_events=1, **served) -> dict:
    """The skew of each feature where 100 rows of each side are as `ALIKE`, or as said."""
    columns = trained_on({**ALIKE, **trained})
    table = {**ALIKE, **served}
    weights = {"_popular": popular, "_lately": lately, "_past_events": past_events}
    table |= {name: np.broadcast_to(value, 100) for name, value in weights.items()}
    tables = {folder: pa.table(table) for folder in (feature_schema.CORPUS_END, "users")}
    return {skew.feature: skew for skew in drift.compare_skew(PIPELINE, columns, tables)}


def test_what_is_alike_is_no_distance_apart():
    every = skews({})
    assert set(every) == set(ALIKE)
    assert all(skew.distance == skew.outside == 0 for skew in every.values())
    assert every["sold"].trained == every["sold"].served
    quantiles = {"low": 0, "tenth": 9, "median": 49, "ninetieth": 89, "high": 99}
    assert every["sold"].trained.model_dump() == quantiles


def test_a_quarter_beyond_the_range_on_either_side():
    """75 of 100 values are one decile's; the 25 at the ends are outside."""
    values = np.repeat([-6.0, 49.0, 105.0], [10, 75, 15])
    sold = skews({}, sold=values)["sold"]
    assert sold.outside == 0.25
    inside = skews({}, sold=np.repeat([-4.0, 49.0, 103.0], [10, 75, 15]))["sold"]
    assert inside.outside == 0, "a twentieth of the range is no matter"


def test_rows_count_by_their_events():
    """Half of the items, those of 1000 and more, have 1 of 100 events."""
    values = np.where(np.arange(100) < 50, np.arange(100.0) * 2, 1000.0)
    popular = np.where(np.arange(100) < 50, 99, 1)
    weighted = skews({}, popular=popular, lately=0, sold=values)["sold"]
    assert weighted.outside == pytest.approx(0.01, abs=1e-4) and weighted.distance < 0.02
    alike = skews({}, popular=1, lately=0, sold=values)["sold"]
    assert alike.outside == 0.5 and alike.distance > 0.2


def test_the_nearer_of_two_weightings_counts():
    values = np.where(np.arange(100) < 50, np.arange(100.0) * 2, 1000.0)
    first, last = np.where(np.arange(100) < 50, 1, 0), np.where(np.arange(100) < 50, 0, 1)
    for popular, lately in ((first, last), (last, first)):
        near = skews({}, popular=popular, lately=lately, sold=np.where(values == 1000, 500, values))
        assert near["sold"].outside == 0 and near["sold"].distance < 0.06
    far = skews({}, popular=last, lately=last, sold=values)
    assert far["sold"].outside == far["sold"].distance == 1


@pytest.mark.parametrize(
    ("before", "now", "reported"), [(5, 9, False), (9, 14, False), (14, 13.5, True)]
)
def test_ages_are_compared_once_the_log_is_as_long_as_their_window(before, now, reported):
    ages = {
        "trained": {"since": np.linspace(0, before, 100)},
        "since": np.linspace(now - 1, now, 100),
    }
    assert ("since" in skews(**ages)) is reported
    longer = {"sold": np.linspace(0, before, 100)}
    assert skews(longer, sold=ages["since"])["sold"].distance > 0.5, "counts always are"


def test_categories_by_the_share_that_moved_most():
    brand = skews({}, brand=["a"] * 70 + ["c"] * 30)["brand"]
    assert (brand.distance, brand.value) == (0.5, "b")
    assert (brand.trained_share, brand.served_share, brand.outside) == (0.5, 0, 0.3)
    tags = skews({}, tags=[["x"], ["x", "y", "z", "z"]] * 50)["tags"]
    assert (tags.value, tags.distance, tags.outside) == ("z", 0.4, 0.4)
    assert tags.trained_share == 0


def test_users_are_weighted_by_their_events_or_all_alike():
    half_young = ["young" if n < 50 else "old" for n in range(100)]
    many = np.where(np.arange(100) < 50, 9, 1)
    for trained_young in (50, 90):
        trained = {"age_group": ["young"] * trained_young + ["old"] * (100 - trained_young)}
        same = skews(trained, past_events=many, age_group=half_young)["age_group"]
        assert same.distance == 0
    trained = {"age_group": ["young"] * 70 + ["old"] * 30}
    assert skews(trained, past_events=many, age_group=half_young)["age_group"].distance == 0.2


def test_too_few_values_report_no_drift():
    few = [5.0] * 49 + [None] * 51
    assert "sold" not in skews({"sold": few}) and "sold" not in skews({}, sold=few)
    enough = [5.0] * 50 + [None] * 50
    assert skews({"sold": enough}, sold=enough)["sold"].distance == 0
    assert "sold" not in skews({}, popular=0, lately=0)


def test_a_later_catalogue_is_compared_with_what_its_towers_were_trained_on(tmp_path):
    day, later = tmp_path / "day", tmp_path / "later"
    weights = dict.fromkeys(("_popular", "_lately", "_past_events"), [1] * 100)
    for out, sold in ((day, np.arange(100.0)), (later, np.arange(100.0) + 1000)):
        for folder in ("corpus/end", "users"):
            (out / folder).mkdir(parents=True)
            table = pa.table({**ALIKE, **weights, "sold": sold})
            pq.write_table(table, out / folder / "part.parquet")
    rows = PIPELINE, str(day)
    assert drift.measure_skew(*rows) == [], "by an earlier release"
    StatisticsFile(training=trained_on(ALIKE)).write(str(day))
    assert [skew.distance for skew in drift.measure_skew(*rows)] == [0] * 5
    assert drift.measure_skew(PIPELINE, str(later)) == [], "a refresh trains on nothing"
    first, *others = drift.measure_skew(PIPELINE, str(later), trained=str(day))
    assert (first.feature, first.distance, first.outside) == ("sold", 1, 1)
    assert all(skew.distance == 0 for skew in others)
