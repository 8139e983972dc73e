import json
import re
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from twinspire_core.config.feature_kinds import IdFeature
from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.config.settings import SCHEMA_LINE, schema_text, settings, toml_text
from twinspire_core.config.tables.base import Duration
from twinspire_core.config.validation_errors import explain
from twinspire_core.errors import UsageError

SHIPPED = sorted((Path(__file__).parents[3] / "pipelines").glob("*.toml"))
GOOD = """
[pipeline]
name = "shop"
time_zone = "Asia/Tokyo"
[source]
events = "logs/dt={date}/"
items = "gs://bucket/items/dt={date}/"
wait = "90m"
[columns]
user = "customer"
item = "sku"
time = "at"
event = "type"
positives = ["buy"]
[features.customer]
kind = "id"
tower = "query"
[features.sku]
kind = "id"
tower = "item"
[features.brand]
kind = "category"
tower = "item"
[features.history]
kind = "history"
types = ["view"]
[features.sold]
kind = "count"
days = 3
[train]
dimension = 16
"""


@pytest.fixture
def read(tmp_path):
    """Loads the good file with one text replaced by another."""

    def read(old="", new="", text=GOOD):
        assert old in text
        (tmp_path / "shop.toml").write_text(text.replace(old, new, 1))
        return load(tmp_path / "shop.toml")

    return read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_files_are_valid(path):
    assert load(path).name == path.stem


def test_what_the_file_says_is_there(read, tmp_path):
    p = read()
    assert p.source.wait == timedelta(minutes=90) and p.train.dimension == 16
    assert p.source.events == f"{tmp_path}/logs/dt={{date}}/", "relative to the file's own folder"
    assert p.source.items == "gs://bucket/items/dt={date}/"
    assert p.pipeline.work_root == f"{tmp_path}/work" and p.registry.root == f"{tmp_path}/registry"
    assert list(p.tower("item")) == ["sku", "brand", "sold"]
    assert list(p.of_kind(IdFeature)) == ["customer", "sku"]
    assert (p.item_id, p.user_id, p.column("sku")) == ("sku", "customer", "sku")


def test_limits_name_measures_as_they_are_measured(read):
    limits = """[evaluation]
ks = [2]
[gate]
metric = "recall@2"
[gate.floors]
"recall@2" = 0.1
"served/recall@2/users:0" = 0.1
"hit_rate@2/users:1-4" = 0.1
"recall@2/items:20+" = 0.1
[gate.ceilings]
"popular_share@2/users:5-19" = 0.9
[train]"""
    assert len(read("[train]", limits).gate.floors) == 4


def test_a_value_has_the_type_that_toml_gives_it(read):
    p = read("[train]", "[corpus]\nfilter = { in_stock = [true, 1, 1.5, '1'] }\n[train]")
    kinds = [type(value) for value in p.corpus.filter["in_stock"]]
    assert kinds == [bool, int, float, str]
    p = read("dimension = 16", "temperature = 1\nlayers = [64, 32]")
    assert p.train.temperature == 1.0 and p.train.layers == (64, 32)


def test_the_environment_is_read(read, monkeypatch):
    monkeypatch.setenv("LOGS", "/from/environment")
    assert read('"logs/', '"${LOGS}/').source.events == "/from/environment/dt={date}/"
    assert read('"logs/', '"${ABSENT:-/default}/').source.events == "/default/dt={date}/"
    with pytest.raises(UsageError, match=r"\$\{ABSENT\}, which is not set"):
        read('"logs/', '"${ABSENT}/')


BUY, ITEMS = 'positives = ["buy"]', 'items = "gs://bucket/items/dt={date}/"\n'
EVENT, TYPES = 'event = "type"\n', 'types = ["view"]\n'
BRAND, SKU = '[features.brand]\nkind = "category"', '[features.sku]\nkind = "id"\ntower = "item"\n'
CUSTOMER = '[features.customer]\nkind = "id"\ntower = "query"'
STARS = "label = 'stars'\n[features.stars]\nkind = 'number'\ntower = 'query'"
LISTS = '[corpus]\nattributes = ["brand", "shelf"]\n[lists]\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dimension", "dimensions", "train.dimensions: unknown key; did you mean 'dimension'?"),
        ("[train]", "[trian]", "trian: unknown key; did you mean 'train'?"),
        ("[train]", "[gate]\nmax_lead_drop = 0.3\n[train]", "was removed; delete the line"),
        ("[train]", "[sources]\nuse = ['factors']\n[train]", "'factors' was removed; delete it"),
        ("types", "tipes", "features.history.tipes: unknown key; did you mean 'types'?"),
        ('kind = "category"', 'kind = "categorys"', "found 'categorys'; did you mean 'category'?"),
        ('kind = "category"\n', "", "features.brand.kind: must be one of id, category,"),
        ("dimension = 16", "order = 'tim'", "time, shuffled; found 'tim'; did you mean 'time'?"),
        ("Asia/Tokyo", "Asia/Tokio", "did you mean 'Asia/Tokyo'?"),
        ("Asia/Tokyo", "CEST", "found 'CEST'; name a place"),
        ("90m", "90 minutes", "with a unit (90s, 15m, 6h, 2d); found '90 minutes'"),
        ('"90m"', "90", "a duration must be a number with a unit (90s, 15m, 6h, 2d); found 90"),
        ("dt={date}", "today", "the path must contain {date}"),
        ("days = 3", "days = '3'", "sold.days: must be a whole number; found '3', which is text"),
        ("days = 3", "days = 3.0", "features.sold.days: must be a whole number; found 3.0"),
        ("dimension = 16", "dimension = true", "dimension: must be a whole number; found true"),
        ('name = "shop"', "name = 7", "pipeline.name: must be text in quotes; found 7"),
        ('["buy"]', '"buy"', "columns.positives: must be a list in brackets; found 'buy'"),
        ('events = "logs/', 'events = "ftp://logs/', "az://BUCKET/NAME; found ftp://logs/dt="),
        ("[source]", "work_root = 'file:///work'\n[source]", "Write the path alone, /work."),
        ("dimension = 16", "dimension = 0", "train.dimension: must be at least 1; found 0"),
        ("days = 3", "days = 15", "features.sold.days is 15, more than window.count_days = 14"),
        (ITEMS, "", "brand reads items, but source.items"),
        (SKU, "", "a history needs the embedding of item ids"),
        (BRAND, '[features.brand]\nkind = "id"', "more than one feature of kind id"),
        (CUSTOMER, CUSTOMER.replace("query", "item"), "more"),
        (EVENT, "", "columns.event, the column with the type, is not set"),
        ("[features.brand]", "[features.Brand]", "lower-case"),
        ("[features.brand]", "[features.class]", "write [features.its_class] with column = "),
        ("dimension = 16", "auxiliary.weight = 0.1", "but columns.label, the column to learn, is"),
        ("", "[serving]\nuser_store = 0", "or a number of users (1 or more); found 0"),
        ("", "[corpus]\nfilter = 'new'", "corpus.filter: must be a table; found 'new'"),
        ("", "[gate]\nmetric = 'recall@77'", "evaluation.ks = [10, 50, 100]; found 'recall@77'"),
        ("", "[evaluation]\nks = [10]", "found 'recall@50'; did you mean 'recall@10'?"),
        ("", "[gate]\nmetric = 'recall@50/users:0'", "that can stand in gate.floors"),
        ("", "[gate.floors]\n'gini@50' = 0.9", "found 'gini@50'; that can stand in gate.ceilings"),
        ("", "[gate.ceilings]\n'ginny@50' = 0.9", "did you mean 'gini@50'?"),
        ("", "[gate.floors]\n'recall@50/users:1-9' = 0.1", "a slice, one of 0, 1-4, 5-19, 20+"),
        ("", "[gate.floors]\n'served/recal@50' = 0.1", "'recal@50'; did you mean 'recall@50'?"),
        ("", "[sources]\nuse = ['neighbours']", "neighbours, which stores lists of single"),
        ("", "[sources]\nuse = ['history', 'history']", "found 'history' twice"),
        ("", "[gate.floors]\n'ndcg@50/items:0' = 0.1", "found 'ndcg@50/items:0'; did you mean"),
        ("", f"{LISTS}caps = {{ brnd = 2 }}", "found 'brnd'; did you mean 'brand'?"),
        ("", f"{LISTS}caps = {{ colour = 2 }}", "found 'colour'; known: brand, shelf"),
        ("", "[lists]\ncaps = { brand = 2 }", "found 'brand'; none is declared there"),
        ("", "[lists]\nnew_share = 0.3\n[serving]\nexclude_seen = true", "leave one"),
        (BUY, f"{BUY}\nweights = {{ buy = -1.0 }}", "a number from 0 to 1,000,000; found -1 for"),
        (BUY, f"{BUY}\nweights = {{ buy = nan }}", "found nan for 'buy'"),
        (BUY, f"{BUY}\nweights = {{ buy = inf }}", "found inf for 'buy'"),
        (BUY, f"{BUY}\nweights = {{ by = 2 }}", "found 'by'; did you mean 'buy'?"),
        (BUY, f"{BUY}\nweights = {{ view = 2 }}", "found 'view', which is not used in training"),
        (BUY, f"{BUY}\nweights = {{ buy = 0 }}", "0 for all of columns.positives"),
        (f"{EVENT}{BUY}", "weights = { buy = 2 }", "but columns.event, the column with"),
        (BUY, f"{BUY}\n{STARS}", "features.stars reads columns.label = 'stars': the label of an"),
    ],
)
def test_a_broken_rule_is_named(read, old, new, message):
    text = GOOD.replace(TYPES, "") if "weights" in new else GOOD
    with pytest.raises(UsageError) as raised:
        read(old, new, text)
    assert message in str(raised.value) and "shop.toml" in str(raised.value)


def _beyond_bounds():
    """A value that is just too small or too large, for each key that has a bound."""
    for table, field in Pipeline.model_fields.items():
        for key, schema in (
            getattr(field.annotation, "model_json_schema", dict)().get("properties", {}).items()
        ):
            for bound, step in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1)):
                if bound in schema:
                    whole = schema.get("type") == "integer"
                    value = schema[bound] + step
                    yield table, key, int(value) if whole else float(value)


@pytest.mark.parametrize(("table", "key", "value"), _beyond_bounds())
def test_a_number_beyond_its_bound_is_named_with_the_bound(table, key, value):
    with pytest.raises(ValidationError) as raised:
        Pipeline.model_validate({table: {key: value}})
    [error] = [e for e in raised.value.errors() if e["loc"] == (table, key)]
    message = explain(error, Pipeline)
    assert message.startswith(f"{table}.{key}: must be ") and f"found {value:g}" in message


@pytest.mark.parametrize(
    "value", ["no such thing é/", "", -1, 1e300, float("nan"), 1.5, True, [1, "a"], [], {"x": 1}]
)
def test_no_message_is_in_the_words_of_pydantic(value):
    """Each key with a value of each type; most are wrong."""
    for table, field in Pipeline.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {"x": None})
        wrong = {
            key: {table: {key: value}} if table != "features" else {table: {"x": value}}
            for key in keys
        }
        for tables in wrong.values():
            with pytest.raises(ValidationError) as raised:
                Pipeline.model_validate(tables)
            for error in raised.value.errors():
                message = explain(error, Pipeline)
                assert not re.search("Input|should|valid (?!pipeline)", message), message


def test_objectives_are_read(read):
    p = read(BUY, f"{BUY}\nweights = {{ buy = 3 }}\nlabel = 'stars'")
    assert (p.columns.weights, p.columns.label) == ({"buy": 3.0}, "stars")
    any_type = "event = 'type'\nweights = { anything = 0.5 }"
    assert read(f"{EVENT}{BUY}", any_type, GOOD.replace(TYPES, ""))


def test_all_broken_rules_are_listed_at_once(read):
    with pytest.raises(UsageError) as raised:
        read("wait", "wiat", GOOD.replace("dimension", "dimensio"))
    assert "train.dimensio" in str(raised.value) and "source.wiat" in str(raised.value)


def test_a_missing_file_and_invalid_toml_are_reported(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "absent.toml")
    (tmp_path / "x.toml").write_text("# ${SECRET:-b}\na = logs/day ${SECRET:-b}")
    monkeypatch.setenv("SECRET", "hidden")
    with pytest.raises(UsageError, match=r"line 2.*: 'a = logs/day .{SECRET:-b}'") as raised:
        load(tmp_path / "x.toml")
    assert "hidden" not in str(raised.value)
    (tmp_path / "x.toml").write_bytes("# Gr\u00fc\u00dfe".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8; byte 4"):
        load(tmp_path / "x.toml")


def test_each_value_comes_with_where_it_comes_from(read, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "secret")
    monkeypatch.setenv("WIDTH", "32")
    p = read(
        "dimension = 16",
        "dimension = ${WIDTH}\n[notify]\ncommand = 'curl -d a=${KEY}, ${URL:-http://a}'\n"
        "[evaluation]\nks = [${FEW:-5}, 50, 100]",
    )
    actual = {(x.table, x.key): x for x in settings(p, tmp_path / "shop.toml")}
    expected = {
        ("source", "wait"): (timedelta(minutes=90), "file"),
        ("features.brand", "from"): (None, "default"),
        ("features.sold", "days"): (3, "file"),
        ("train.history", "pooling"): ("mean", "default"),
        ("pipeline", "work_root"): (f"{tmp_path}/work", "default"),
        ("train", "dimension"): ("${WIDTH}", "environment"),
        ("notify", "command"): ("curl -d a=${KEY}, ${URL:-http://a}", "environment"),
        ("evaluation", "ks"): (["${FEW:-5}", 50, 100], "environment"),
    }
    assert {key: (actual[key].value, actual[key].source) for key in expected} == expected
    assert "secret" not in str(actual)


def test_values_are_spelled_as_toml_reads_them():
    values = (True, 7, 10_000, 0.5, 'a "b" ü', ("x", 2), {}, {"recall@50": 0.1, "b-c": ()})
    for value in values:
        read = tomllib.loads(f"key = {toml_text(value)}")["key"]
        assert read == json.loads(json.dumps(value))
    for text in ("0s", "90s", "15m", "36h", "2d"):
        assert toml_text(TypeAdapter(Duration).validate_python(text)) == f'"{text}"'


@pytest.fixture(scope="module")
def complaints():
    """What an editor complains of in a pipeline file."""
    schema = json.loads(schema_text())
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    return lambda text: [error.message for error in check.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_editors_find_nothing_wrong_with_shipped_files(complaints, path):
    assert path.read_text().startswith(SCHEMA_LINE)
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dimension", "dimensions"),
        ("[train]", "[trian]"),
        ('"90m"', '"90 minutes"'),
        ('kind = "category"\n', 'kind = "categorie"\n'),
        ("days = 3", "day = 3"),
    ],
)
def test_editors_see_what_is_wrong(complaints, old, new):
    assert complaints(GOOD) == []
    assert old in GOOD and complaints(GOOD.replace(old, new, 1))
