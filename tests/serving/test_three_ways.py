"""HTTP, files of queries and the command `recommend` answer the same queries with the same lists."""

import json

import pytest
from typer.testing import CliRunner

from tests.serving import conftest as circle
from tests.serving.answers.test_retrieval import files, in_order
from tests.serving.http.conftest import answering, shop
from twinspire.cli.main import app

QUERIES = [
    {"user": "anna"},
    {"user": "who"},
    {"user": "who", "history": ["i03", "i05"]},
    {},
    {"user": "who", "place": 3.2},
    {"user": "anna", "deny": {"kind": "odd"}},
    {"user": "who", "allow": {"kind": "odd"}},
    {"user": "anna", "exclude": ["i05", "i00"]},
    {"exclude": ["i00", "i11"], "deny": {"kind": "odd"}},
]
OPTIONS = {
    "default": {},
    "seen items stay out": {"exclude_seen": True},
    "half is new": {"new_share": 0.5},
    "without rules": {"rules": False},
    "of one source": {"source": "two_tower"},
}


@pytest.fixture(scope="module", params=["two_tower", "fixed_order"])
def asked(request, tmp_path_factory, towers):
    """A server of a version whose lists are by this source, and the pipeline file."""
    home = tmp_path_factory.mktemp("ways")
    several = request.param == "fixed_order"
    carried = files(in_order(history=0, popular=1) if several else None)
    circle.publish(shop(home), towers, home / "staged", nominators=carried)
    with answering(shop(home)) as client:
        yield client, home / "circle.toml"


def command(pipeline_file, *arguments: str) -> str:
    said = ["recommend", str(pipeline_file), "--json", "-k", "4", *arguments]
    return CliRunner().invoke(app, said, catch_exceptions=False).stdout


def as_arguments(options: dict) -> list[str]:
    names = {"exclude_seen": ["--exclude-seen"], "rules": ["--no-rules"]}
    return [
        part
        for key, value in options.items()
        for part in names.get(key, [f"--{key.replace('_', '-')}", str(value)])
    ]


def filters(query: dict) -> list[str]:
    return [
        part
        for key in ("allow", "deny")
        for name, value in query.get(key, {}).items()
        for part in (f"--{key}", f"{name}={value}")
    ]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equal_queries_get_equal_lists(asked, tmp_path, options):
    client, pipeline_file = asked
    body = {"queries": QUERIES, "k": 4, **options}
    by_http = client.post("/v1/recommend", json=body).json()["results"]
    queries, out = tmp_path / "queries.jsonl", tmp_path / "lists.jsonl"
    queries.write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    said = as_arguments(options)
    command(pipeline_file, "--queries", str(queries), "--out", str(out), *said)
    by_file = [json.loads(line) for line in out.read_text().splitlines()]
    for query, served, line in zip(QUERIES, by_http, by_file, strict=True):
        sources = served.get("sources", ["two_tower"] * len(served["items"]))
        assert line["items"] == served["items"], query
        assert line["scores"] == pytest.approx(served["scores"], abs=1e-6)
        assert line["sources"] == sources
        if "user" in query and not {"history", "exclude", "place"} & query.keys():
            arguments = ["--user", query["user"], *filters(query), *said]
            report = json.loads(command(pipeline_file, *arguments))
            assert [item["item"] for item in report["items"]] == served["items"], query
            assert [item["score"] for item in report["items"]] == pytest.approx(
                served["scores"], abs=1e-6
            )
            assert [item["source"] for item in report["items"]] == sources
            assert (report["source"], report["known"]) == (served["source"], served["known"])
            assert report["exclude_seen"] == served["exclude_seen"]
    popular = {one["source"] for one in by_http if one["based_on"] == "nothing"}
    assert len({tuple(one["items"]) for one in by_http}) > 4
    assert popular <= {"popular", "fixed_order"} or options.get("source") == "two_tower"
