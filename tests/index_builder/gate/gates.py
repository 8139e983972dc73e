"""Made-up days that the gate judges: a good one with some figures changed, and any."""

from hypothesis import strategies as st

from index_builder.gate.comparison import JudgedVersion
from index_builder.gate.verdict import judge
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.features_report import FeatureSkew

GATE = GateConfig(metric="recall@50", max_drop=0.1, min_users=200)
INDEX = IndexConfig(recall_target=0.98)
GOOD = {
    "candidate": {"recall@50": 0.2, "coverage@50": 0.3},
    "baseline": {"recall@50": 0.2},
    "users": 500,
    "index_recall": 0.99,
    "items": 1000,
    "baseline_items": 1000,
}


def verdict(gate=GATE, fixed_order=None, **changes):
    """Of a good day with some figures changed; `fixed_order` are those that are changed of lists in
    that order.
    """
    data = {**GOOD, **changes}
    lists = {name: data.pop(name, None) for name in ("candidate", "baseline", "change", "users")}
    two_tower = HeldOutMeasures(**lists)
    order = HeldOutMeasures(**({**lists, **fixed_order} if fixed_order else {}))
    return judge(JudgedVersion(two_tower=two_tower, fixed_order=order, **data), gate, INDEX)


def skew(**changes):
    """A category of which most of what is served is one value that training never met."""
    shares = {"distance": 0.9, "outside": 0.2, "trained_share": 0.0, "served_share": 0.9}
    return FeatureSkew(
        **{"feature": "brand", "kind": "category", "value": "x", **shares, **changes}
    )


def gate(**changes):
    return GateConfig.model_validate({**GATE.model_dump(), **changes})


def changed(change, low, high, *, before=0.2, users=500, differ=100, worse=0, where=""):
    """A version whose recall, of all or of a slice of users, is another than its baseline's."""

    def measures(recall):
        part = {"users": users, "recall@50": recall}
        return {"recall@50": 0.2, "slices": {"users": {where: part}}} if where else part

    told = {"change": change, "differ": differ, "worse": worse}
    told |= {} if low is None else {"low": low, "high": high}
    name = f"recall@50/users:{where}" if where else "recall@50"
    after, before = measures(before * (1 + change)), measures(before)
    return {"candidate": after, "baseline": before, "change": {name: told}}


share = st.floats(0, 1)
sizes = st.sampled_from([0, 150, 199, 200, 5000])


@st.composite
def any_day(draw):
    """A version, its baseline and how sure the difference is, with one slice; and the limits."""

    def difference():
        low, change, high = sorted(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
        return change, low, high

    of_all = changed(*difference(), before=draw(share))
    users, differ = draw(sizes), draw(st.integers(0, 50))
    part = changed(*difference(), before=draw(share), users=draw(sizes), differ=differ, where="0")
    candidate = {**of_all["candidate"], "gini@50": draw(share)}
    day = {
        "candidate": {**candidate, "slices": part["candidate"]["slices"]},
        "baseline": {**of_all["baseline"], "slices": part["baseline"]["slices"]},
        "change": {**of_all["change"], **part["change"]},
        "users": users,
    }
    limits = {"max_drop": draw(share)}
    floors = {"recall@50": draw(share), "recall@50/users:0": draw(share)}
    return day, {**limits, "floors": floors, "ceilings": {"gini@50": draw(share)}}
