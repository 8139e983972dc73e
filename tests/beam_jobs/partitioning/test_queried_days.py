"""`partition --query`: the same daily folders as from files, of a PostgreSQL server, a Delta and an
Iceberg table.
"""

import json
import shutil
import sys
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from beam_jobs.partitioning.queried_days import partition_query
from tests.beam_jobs.partitioning.lay import read_back
from tests.dags import postgres
from tests.twinspire.cli.test_prepare import twinspire
from twinspire_core.errors import BadData, NothingToDo, TryAgain, UsageError

BERLIN = "Europe/Berlin"
# Clocks change on the second day of each, which has 23 and 25 hours, so 46 and 50 rows
SPANS = {"spring": (date(2024, 3, 30), 46), "autumn": (date(2024, 10, 26), 50)}
WHERE = "where at >= {start} and at < {end}"
SELECT = f'select "user", price, at from events {WHERE}'


@pytest.fixture(scope="module")
def rows():
    """An event each half hour, from a day before the first to a day after the last day of each span."""
    times = [
        datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(minutes=30 * n)
        for first, _ in SPANS.values()
        for n in range(-48, 48 * 4)
    ]
    count = range(len(times))
    columns = {"user": [f"u{n}" for n in count], "price": [n / 4 for n in count]}
    return pa.table({**columns, "at": pa.array(times, pa.timestamp("us", "UTC"))})


@pytest.fixture(scope="module")
def server(rows):
    """The URL of a PostgreSQL with the rows."""
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    if not postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed where Debian has it")
    with postgres.running() as url:
        url = url.replace("+psycopg2", "")
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("events", rows)
            connection.commit()
        yield url


@pytest.fixture(scope="module")
def lake(rows, tmp_path_factory):
    """A folder with a Delta table, partitioned by day."""
    deltalake = pytest.importorskip("deltalake")
    folder = tmp_path_factory.mktemp("lake")
    deltalake.write_deltalake(folder / "events", _with_day(rows), partition_by=["day"])
    return folder


@pytest.fixture(scope="module")
def catalog(rows, tmp_path_factory):
    """A folder with a catalog of Iceberg in SQLite, and a table, partitioned by day."""
    module = pytest.importorskip("pyiceberg.catalog")
    from pyiceberg.transforms import IdentityTransform

    folder = tmp_path_factory.mktemp("iceberg")
    settings = {"TYPE": "sql", "URI": f"sqlite:///{folder}/catalog.db", "WAREHOUSE": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"PYICEBERG_CATALOG__TEST__{name}", value)
        # Its settings are read when it is imported
        patch.setattr("pyiceberg.catalog._ENV_CONFIG", module._ENV_CONFIG.__class__())
        opened = module.load_catalog("test")
        opened.create_namespace("shop")
        table = opened.create_table("shop.events", schema=_with_day(rows).schema)
        with table.update_spec() as spec:
            spec.add_field("day", IdentityTransform(), "day")
        table.append(_with_day(rows))
        yield folder


def _with_day(rows):
    days = [at.as_py().date().isoformat() for at in rows["at"]]
    return rows.append_column("day", pa.array(days))


SOURCES = {"server": SELECT + " order by at", "lake": SELECT, "catalog": SELECT}


def arguments_for(source, request):
    """What `--database` and `--query` are for it."""
    opened = request.getfixturevalue(source)
    query = SOURCES[source]
    if source == "server":
        return opened, query
    if source == "lake":
        return f"delta:{opened}/events", query
    return "iceberg:test", query.replace('"', "").replace("events", "shop.events")


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("source", SOURCES)
def test_days_are_those_of_the_same_rows_in_a_file(source, span, rows, request, tmp_path):
    database, query = arguments_for(source, request)
    first, on_the_second = SPANS[span]
    keys = {"time": "at", "time_zone": BERLIN, "first": first, "last": first + timedelta(2)}
    layout = Layout(**keys, done_marker="_SUCCESS")
    pq.write_table(rows, tmp_path / "rows.parquet")
    for name in ("file", "query"):
        out = f"{tmp_path}/{name}/dt={{date}}/"
        if name == "file":
            partition([str(tmp_path / "rows.parquet")], out, layout)
        else:
            summary = partition_query(query, database, out, layout, spill_bytes=1)
    expected, days = read_back(tmp_path / "file"), read_back(tmp_path / "query")
    assert {day: sorted(rows, key=lambda row: row["at"]) for day, rows in days.items()} == expected
    assert [len(rows) for rows in days.values()] == [48, on_the_second, 48]
    assert (summary.rows, summary.days, summary.written) == (96 + on_the_second, 3, 3)
    assert len([*(tmp_path / "query").rglob("_SUCCESS")]) == 3


@pytest.mark.parametrize("source", ["lake", "catalog"])
def test_files_of_other_days_are_not_opened(source, request, tmp_path, monkeypatch):
    database, query = arguments_for(source, request)
    folder = request.getfixturevalue(source)
    kept = shutil.copytree(folder, tmp_path / "kept")
    others = [f for f in folder.rglob("day=*/*.parquet") if f.parent.name[4:] > "2024-04"]
    assert others
    for file in others:
        file.unlink()
    try:
        layout = Layout(time="at", time_zone=BERLIN, first=date(2024, 3, 31))
        done = partition_query(query, database, f"{tmp_path}/out/{{date}}", layout)
        assert done.rows == 46
    finally:
        shutil.copytree(kept, folder, dirs_exist_ok=True)


def test_by_the_command_line_a_day_is_written_once_and_an_empty_day_is_said(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("TWINSPIRE_DATABASE", server)
    out = f"{tmp_path}/out/dt={{date}}/"
    command = ("partition", "--query", SELECT + " order by at", "--out", out, "--time", "at")
    for written in (1, 0):
        code, text, _ = twinspire(*command, "--from", "2024-03-31", "--time-zone", BERLIN)
        summary = json.loads(text)
        assert (code, summary["rows"], summary["written"]) == (0, 46, written)
    code, text, said = twinspire(*command, "--from", "2023-03-31", "--to", "2023-04-02")
    assert code == 99 and "no rows for 2023-03-31 and 2023-04-02" in said
    assert [*read_back(tmp_path / "out")] == ["dt=2024-03-31"]
    assert twinspire(*command, "--from", str(date.today()))[0] == 75
    assert twinspire(*command)[0] == 2
    assert twinspire(*command, "--from", "2024-03-31", "log.csv")[0] == 2


def test_a_day_whose_rows_are_gone_keeps_its_folder_and_is_named(lake, tmp_path):
    days = {"time": "at", "first": date(2024, 3, 30), "last": date(2024, 3, 31)}
    out, database, layout = f"{tmp_path}/out/dt={{date}}", f"delta:{lake}/events", Layout(**days)
    partition_query(SELECT, database, out, layout)
    gone = SELECT + " and at >= '2024-03-31T00:00:00Z'"
    done = partition_query(gone, database, out, layout, replace=True)
    assert "2024-03-30 stays" in done.warning and "Delete it" in done.warning
    assert (done.unchanged, done.missing) == (1, [date(2024, 3, 30)])
    none = SELECT + " and at < '2020-01-01T00:00:00Z'"
    with pytest.raises(NothingToDo, match="2024-03-30 stays"):
        partition_query(none, database, out, layout, replace=True)
    assert len([*(tmp_path / "out").glob("dt=*/*.parquet")]) == 2


def test_a_query_that_breaks_or_returns_other_days_writes_nothing(server, tmp_path):
    first = date(2024, 3, 31)
    broken = SELECT.replace("price", "1 / (case when at < '2024-03-31 18:00Z' then 1 else 0 end)")
    cases = {
        broken: (UsageError, "division by zero"),
        SELECT.replace("price", "nope"): (UsageError, 'column "nope"'),
        SELECT.replace("at >= {start}", "{start} is not null"): (BadData, "of other days in UTC"),
        SELECT.replace(", at from", ", null::timestamptz as at from"): (BadData, "at is null"),
        "select 1": (UsageError, "lacks {start} and {end}"),
    }
    for query, (error, said) in cases.items():
        with pytest.raises(error, match=said):
            partition_query(query, server, f"{tmp_path}/{{date}}", Layout(time="at", first=first))
    assert not [*tmp_path.rglob("*.parquet")]


def test_numbers_whose_digits_would_be_lost_are_refused(server, tmp_path):
    query = 'select 9007199254740993::numeric as "user", at from events ' + WHERE
    layout = Layout(time="at", first=date(2024, 3, 30))
    with pytest.raises(UsageError, match=r"numeric must hold numbers below 2\^53"):
        partition_query(query, server, str(tmp_path / "dt={date}"), layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("query", "database", "code", "says"),
    [
        ("select 1/0 as a", {}, 2, "division by zero"),
        ("select interval '1 day' as span", {}, 2, "extract(epoch from span)"),
        ("selec 1", {}, 2, "syntax error"),
        ("select 1 as a", {"/airflow": "/nowhere"}, 2, 'database "nowhere" does not exist'),
        ("select 1 as a", {"//airflow@": "//nobody:pw@"}, 2, 'role "nobody" does not exist'),
        ("select 1 as a", {"/airflow": "/airflow?colour=red"}, 2, "colour"),
        ("select 1 as a", {"/airflow": "/airflow?port=1"}, 75, "refused"),
        ("select pg_sleep(5)::text as a", {"/airflow": "/airflow?options=-cstatement_timeout%3D9"}, 75, "timeout"),
    ],
)  # fmt: skip
def test_only_what_may_pass_is_tried_again(server, tmp_path, query, database, code, says):
    for old, new in database.items():
        server = new.join(server.rsplit(old, 1))
    with pytest.raises((UsageError, TryAgain)) as e:
        partition_query(query, server, f"{tmp_path}/{{date}}", Layout(snapshot=date(2024, 4, 1)))
    assert (e.value.exit_code, says in str(e.value)) == (code, True), e.value
    assert not list(tmp_path.iterdir())


def test_types_of_postgresql_are_those_that_stages_read(server, tmp_path):
    query = (
        "select '8b5eb0e4-0c1f-4d5a-9c3e-0a9e5f0d2b11'::uuid as id, 12.50::numeric(8, 2) as price,"
        " '{\"a\": 1}'::jsonb as extra, array['x', 'y'] as tags, 'b'::text as name"
    )
    partition_query(query, server, f"{tmp_path}/{{date}}", Layout(snapshot=date(2024, 4, 1)))
    assert read_back(tmp_path)["2024-04-01"] == [
        {
            "id": "8b5eb0e4-0c1f-4d5a-9c3e-0a9e5f0d2b11",
            "price": 12.5,
            "extra": '{"a": 1}',
            "tags": ["x", "y"],
            "name": "b",
        }
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://airflow:geh%23eim@127.0.0.1:1/airflow",
        "postgresql://airflow:geh@eim@127.0.0.1:1/airflow",
        "postgresql://airflow:geh/eim@127.0.0.1:1/airflow",
        "postgresql://airflow:geh:eim@127.0.0.1:1/airflow",
        "postgresql://airflow:geheim?@127.0.0.1:1/airflow",
        "postgresql://127.0.0.1:1/airflow?user=airflow&password=geh%23eim",
        "postgresql://127.0.0.1:1/airflow?password=geheim&passwort=geheim",
        "mysql://airflow:geheim@127.0.0.1:1/airflow",
    ],
)
def test_no_message_has_the_password(url, tmp_path, monkeypatch):
    pytest.importorskip("adbc_driver_postgresql")
    monkeypatch.setenv("TWINSPIRE_DATABASE", url)
    command = ("partition", "--query", SELECT, "--out", f"{tmp_path}/{{date}}", "--time", "at")
    code, out, said = twinspire(*command, "--from", "2024-03-31")
    assert code in (2, 75) and said
    assert "geh" not in out + said and "eim" not in out + said


def test_iceberg_takes_plain_columns_of_one_table(catalog, tmp_path):
    layout = Layout(time="at", first=date(2024, 3, 31))
    for query in ("select upper(user) as user, at from shop.events", "select at from a join b"):
        with pytest.raises(UsageError, match=r"select COLUMN, … from NAMESPACE\.TABLE where"):
            partition_query(f"{query} {WHERE}", "iceberg:test", f"{tmp_path}/{{date}}", layout)
    with pytest.raises(NothingToDo):
        partition_query(
            f"select * from shop.events {WHERE}",
            "iceberg:test",
            f"{tmp_path}/{{date}}",
            Layout(time="at", first=date(2020, 1, 1)),
        )


@pytest.mark.parametrize(
    ("database", "module", "extra"),
    [
        ("postgresql://localhost/shop", "adbc_driver_postgresql", "adbc"),
        ("delta:/lake/events", "deltalake", "delta"),
        ("iceberg:prod", "pyiceberg.catalog", "iceberg"),
    ],
)
def test_without_its_library_the_command_that_installs_it_is_named(
    database, module, extra, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    query = SELECT.replace('"', "")
    with pytest.raises(UsageError, match=rf"pip install 'twinspire\[{extra}\]'"):
        layout = Layout(time="at", first=date(2024, 3, 31))
        partition_query(query, database, f"{tmp_path}/{{date}}", layout)
