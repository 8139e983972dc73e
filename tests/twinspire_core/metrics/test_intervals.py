import numpy as np
import pytest

from twinspire_core.metrics.intervals import interval, intervals, resampled_means


def spread(values, user, resamples=2000):
    return resampled_means({"x": values}, user, resamples)["x"].std()


def test_the_spread_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(1)
    values = rng.exponential(size=400)
    assert spread(values, np.arange(400)) == pytest.approx(values.std() / 20, rel=0.06)
    error = values.std() / 20
    expected = [values.mean() - 1.96 * error, values.mean() + 1.96 * error]
    limits = interval(resampled_means({"x": values}, np.arange(400), 4000)["x"])
    assert limits == pytest.approx(expected, abs=0.2 * error)


def test_a_users_queries_are_drawn_together():
    rng = np.random.default_rng(3)
    values, user = rng.normal(size=300), np.arange(300)
    once, four_times = spread(values, user), spread(np.repeat(values, 4), np.repeat(user, 4))
    assert four_times == pytest.approx(once, rel=1e-9)
    assert spread(np.repeat(values, 4), np.arange(1200)) == pytest.approx(once / 2, rel=0.1)


def test_a_measure_is_averaged_where_it_applies():
    values = np.array([1.0, np.nan, 1.0, np.nan, 3.0, 3.0])
    samples = resampled_means({"x": values, "y": np.arange(6.0)}, np.arange(6), 500)
    assert np.nanmin(samples["x"]) >= 1 and np.nanmax(samples["x"]) <= 3
    assert np.nanmean(samples["x"]) == pytest.approx(2, abs=0.1)
    assert interval(samples["x"])[0] >= 1


def test_lists_are_resampled_alike():
    rng = np.random.default_rng(4)
    ours = rng.random(200)
    first, second = (
        resampled_means({"x": x}, np.arange(200), 300)["x"] for x in (ours, ours + 0.01)
    )
    np.testing.assert_allclose(second - first, 0.01)
    assert first.std() > 0.01


def test_many_users_are_resampled_in_parts(monkeypatch):
    values, user = np.random.default_rng(5).random(50), np.arange(50)
    whole = resampled_means({"x": values}, user, 40)["x"]
    monkeypatch.setattr("twinspire_core.metrics.intervals._CHUNK_BYTES", 8 * 50 * 7)
    monkeypatch.setattr("twinspire_core.metrics.intervals._MOST_KEPT", 0)  # drawn again
    np.testing.assert_allclose(resampled_means({"x": values}, user, 40)["x"], whole)


def test_without_users_or_resamples_there_is_no_interval():
    assert interval(resampled_means({"x": np.zeros(0)}, np.zeros(0, np.int64), 10)["x"]) is None
    assert interval(resampled_means({"x": np.full(3, np.nan)}, np.arange(3), 10)["x"]) is None
    assert interval(resampled_means({"x": np.ones(3)}, np.arange(3), 0)["x"]) is None
    assert interval(np.array([1.0, np.inf])) is None


def test_many_intervals_are_those_of_each():
    rng = np.random.default_rng(6)
    drawn = {"a": rng.random(500), "none": np.full(500, np.nan)}
    drawn["some"] = np.where(rng.random(500) < 0.2, np.nan, rng.random(500))
    drawn["endless"] = np.where(rng.random(500) < 0.5, np.inf, 1.0)
    drawn["too"] = drawn["some"] ** 2
    ranges = intervals(drawn)
    assert list(ranges) == ["a", "some", "too"]
    assert intervals({}) == intervals({"x": np.zeros(0)}) == {}
    for name, span in ranges.items():
        np.testing.assert_allclose(span, np.nanquantile(drawn[name], [0.025, 0.975]))
        assert span == interval(drawn[name])
