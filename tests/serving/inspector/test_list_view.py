from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from serving.http.bodies import BodyParser
from serving.http.hot_swap import Served
from serving.http.server_settings import Settings
from serving.inspector import templating
from serving.inspector.address import Address
from serving.inspector.list_view import ListView, Row, compared, recommended
from serving.requests.query_rows import Requests
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.served_figure import on_next_day


def panel(items: str, **more) -> ListView:
    return ListView(
        version="v", live=False, rows=[Row(item=one, name=one, about="") for one in items], **more
    )


def test_how_items_moved():
    first, second = compared([panel("abc"), panel("cad")])
    assert [(row.item, row.moved, row.alone) for row in first.rows] == [
        ("a", None, False),
        ("b", None, True),
        ("c", None, False),
    ]
    assert [(row.item, row.moved, row.alone) for row in second.rows] == [
        ("c", 2, False),
        ("a", -1, False),
        ("d", None, True),
    ]
    assert first.shared == second.shared == 2


def test_a_version_without_users_and_popularity_is_shown_too(without_users):
    requests, settings = Requests(without_users.pipeline), Settings()
    parser = BodyParser(requests.model, settings)
    asked = parser.recommend_from({"query": {"user": "anna", "place": 4}, "k": 3, "display": True})
    parts = recommended(without_users, True, requests, asked)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(parts)
    found = ended.value.value
    assert (found.status, found.basis, found.history) == (200, "the features", [])
    assert found.rows[0].item == "i04" and [row.tags for row in found.rows] == [[], [], []]

    service = SimpleNamespace(pipeline=without_users.pipeline, requests=requests, settings=settings)
    served = Served(without_users, datetime(2024, 1, 2, 15, tzinfo=UTC))
    landing = templating.view(service, served, Address(), None, [], [], None)
    assert "This version carries no users" in landing and "3 Jan 2024, 00:00 JST" in landing
    assert "was not measured" in landing
    nothing = replace(found, rows=[replace(row, score="") for row in found.rows])
    views = [
        templating.view(service, served, Address(user="anna"), None, [], [one], None)
        for one in (found, nothing)
    ]
    assert all("Item [4]" in page for page in views)
    assert ['title="score"' in page for page in views] == [True, False]

    recall = {"users": 400, "recall@50": 0.5}
    measured = {"progressive": recall, "baselines": {"purchase_history": {"recall@50": 0.4}}}
    figure = on_next_day(DayMetrics.model_validate(measured), None, date(2024, 1, 3), "recall@50")
    told = templating.view(service, served, Address(), figure, [], [], None)
    assert "served 0.500, past purchases 0.400, over all 400 measured users of 2024-01-03" in told
    assert "served: 25.0% better than the best simple list" in told and "not measured" not in told
