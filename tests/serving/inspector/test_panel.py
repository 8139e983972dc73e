"""Two lists, compared."""

from serving.inspector.panel import Panel, Row, compared


def panel(items: str, **more) -> Panel:
    return Panel(version="v", live=False, rows=[Row(item=one, name=one, about="") for one in items], **more)


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


def test_one_list_is_compared_with_nothing():
    for other in ([], [panel("", loading=True)], [panel("", problem="it is damaged")]):
        assert compared([panel("ab"), *other]) == [panel("ab"), *other]
