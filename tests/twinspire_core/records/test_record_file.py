import gzip
import json

import polars as pl
import pytest

from twinspire_core.records.csv_lines import CsvOptions
from twinspire_core.records.json_lines import first_keys
from twinspire_core.records.raw_files import Unreadable, kind_of
from twinspire_core.records.record_file import WHOLE, RecordBlock, RecordFile, delimiter_of, sniff

ROWS = pl.DataFrame({"user": [f"u{n:02}" for n in range(50)], "item": ["007", "1.50"] * 25})
NAMES = ["log.parquet", "log.csv", "log.tsv", "log.csv.gz", "log.jsonl", "log.jsonl.gz"]


def write(path, frame=ROWS):
    if path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=20)
        return path
    separator = "," if "csv" in path.name else "\t"
    is_json = "json" in path.name
    text = frame.write_ndjson() if is_json else frame.write_csv(separator=separator)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def opened(path, **options):
    return RecordFile(str(path), kind_of(path.name), CsvOptions(**options))


def split(records):
    """Blocks, and what is no record."""
    records = list(records)
    blocks = [x for x in records if isinstance(x, RecordBlock)]
    return blocks, [x for x in records if isinstance(x, Unreadable)]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_rows_in_blocks_with_their_numbers(tmp_path, name):
    file = opened(write(tmp_path / name))
    blocks, unreadable = split(file.blocks(block_rows=10, block_bytes=200))
    rows = pl.concat([pl.DataFrame(pl.from_arrow(block.rows)) for block in blocks])
    assert rows.equals(ROWS) and not unreadable and len(blocks) > 2
    first = 2 if file.kind == "csv" else 1
    assert [int(n) for block in blocks for n in block.numbers] == list(range(first, first + 50))
    size = (tmp_path / name).stat().st_size
    assert all(0 < block.offset <= size for block in blocks)
    assert file.count() == 50


@pytest.mark.parametrize("name", NAMES)
def test_only_wanted_columns_are_read(tmp_path, name):
    blocks, _ = split(opened(write(tmp_path / name)).blocks(["item"]))
    assert [block.rows.column_names for block in blocks] == [["item"]] * len(blocks)


def test_parts_are_row_groups_whose_records_keep_their_numbers(tmp_path):
    file = opened(write(tmp_path / "log.parquet"))
    assert file.parts() == [0, 1, 2]
    blocks, _ = split(file.blocks(part=1))
    assert [int(n) for block in blocks for n in block.numbers] == list(range(21, 41))
    assert opened(write(tmp_path / "log.csv")).parts() == [None]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
def test_a_file_of_columns_without_rows_gives_one_empty_block(tmp_path, name):
    blocks, _ = split(opened(write(tmp_path / name, ROWS.clear())).blocks(["user"]))
    assert [(block.rows.num_rows, block.rows.column_names) for block in blocks] == [(0, ["user"])]


def test_names_are_looked_at_before_a_record_is_read(tmp_path):
    def refuse(names):
        raise LookupError(names)

    for name in ("log.parquet", "log.csv"):
        with pytest.raises(LookupError, match=r"\['user', 'item'\]"):
            next(opened(write(tmp_path / name)).blocks(check_names=refuse))


def test_lines_without_an_object_are_reported_before_their_block(tmp_path):
    lines = ['{"n": 1}', "", "[2]", '{"n":', "null", "[" * 100_000, '{"n": 3}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    blocks, unreadable = split(opened(tmp_path / "log.jsonl").blocks())
    assert [bad.number for bad in unreadable] == [3, 4, 5, 6]
    assert [unreadable[n].why for n in (0, 2)] == ["a list", "null"]
    assert blocks[0].numbers.tolist() == [1, 7] and blocks[0].rows["n"].to_pylist() == [1, 3]


def test_objects_are_made_ready_or_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"n": 1}\n{"n": "ö"}\n{"n": 3}\n')

    def numbers_only(record):
        return {"twice": 2 * record["n"]} if isinstance(record["n"], int) else "n is a string"

    blocks, unreadable = split(opened(tmp_path / "log.jsonl").blocks(prepare=numbers_only))
    assert unreadable == [Unreadable(2, "n is a string", "", '{"n": "ö"}')]
    assert blocks[0].rows.to_pylist() == [{"twice": 2}, {"twice": 6}]
    assert blocks[0].numbers.tolist() == [1, 3]


def test_a_column_has_one_type_throughout_only_where_the_file_is_one_block(tmp_path):
    lines = [json.dumps({"id": n if n < 40 else f"x{n}"}) for n in range(50)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    file = opened(tmp_path / "log.jsonl")
    several, _ = split(file.blocks(block_bytes=100))
    types = {str(block.rows.schema.field("id").type) for block in several}
    assert types == {"int64", "string"}
    (block,), _ = split(file.blocks(block_bytes=WHOLE))
    assert block.rows["id"].to_pylist() == [str(n) if n < 40 else f"x{n}" for n in range(50)]


def test_empty_fields_of_a_csv_are_null_where_that_is_asked_for(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\n1,\n,2\n")
    for empty, expected in ((False, [["1", ""], ["", "2"]]), (True, [["1", None], [None, "2"]])):
        (block,), _ = split(opened(tmp_path / "log.csv").blocks(empty_is_null=empty))
        assert [list(row.values()) for row in block.rows.to_pylist()] == expected


def test_a_column_without_a_name_is_named_by_its_number(tmp_path):
    """pandas writes an index so."""
    (tmp_path / "log.csv").write_text(",user,item,\n0,u1,i1,a\n")
    (block,), _ = split(opened(tmp_path / "log.csv").blocks())
    assert block.rows.to_pylist() == [
        {"column_1": "0", "user": "u1", "item": "i1", "column_4": "a"}
    ]


def test_the_ending_says_what_separates_fields():
    for name, delimiter in {"a.csv": ",", "a.tsv": "\t", "A.TSV.gz": "\t", "log": ","}.items():
        assert delimiter_of(f"gs://bucket/day.tsv/{name}") == delimiter


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("end", ["", "\n"])
def test_lines_come_as_they_are_written_so_many_at_a_time(tmp_path, zipped, end):
    text = ("\n".join(f'{{"n": {n}}}' if n % 3 else " " for n in range(1, 11)) + end).encode()
    (tmp_path / "log.jsonl").write_bytes(gzip.compress(text) if zipped else text)
    actual = list(opened(tmp_path / "log.jsonl").lines(3))
    assert [lines.numbers for lines in actual] == [[1, 2, 4], [5, 7, 8], [10]]
    assert actual[0].texts[2] == b'{"n": 4}'
    assert actual[-1].offset == (tmp_path / "log.jsonl").stat().st_size


def test_the_first_keys_are_read_after_lines_that_are_no_records(tmp_path):
    deep = '{"user": ' + "[" * 100_000 + "]" * 100_000 + "}"
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([deep, "no JSON", "[1]", '{"user": "u", "item": "i"}']))
    assert first_keys(str(path)) == ["user", "item"]


def test_objects_have_the_fields_of_all_lines_not_of_the_first(tmp_path):
    path = tmp_path / "log.jsonl"
    city = {"id": "x", "place": {"city": "Graz"}}
    lines = [{"u": {"id": 1}}, {"u": city}, {"u": None}, {"u": {}}]
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    path.write_text("".join(json.dumps({**line, "deep": deep}) + "\n" for line in lines))
    ((block,), _) = split(opened(path).blocks())
    empty = {"id": None, "place": None}
    assert block.rows["u"].to_pylist() == [empty | {"id": "1"}, city, None, empty]
    assert '{"a": {"a"' in str(block.rows["deep"][0])


@pytest.mark.parametrize(
    ("name", "text", "delimiter", "encoding"),
    [
        ("log.csv", "a,b\n1;2,3\n", None, "utf-8"),
        ("log.csv", "a;b;c\n1,5;2;3\n", ";", "utf-8"),
        ("log.csv", '"a|a|a";b\n1;2\n', ";", "utf-8"),
        ("log.csv.gz", "a|b\n1|2\n", "|", "utf-8"),
        ("log.tsv", "a\tb\n1\tMüller\n", None, "utf-8"),
        ("log.tsv", "a,b\n1,2\n", ",", "utf-8"),
        ("log.csv", "Größe\tb\n1\t2\n", "\t", "cp1252"),
        ("log.csv", "a,b\n" + "1,2\n" * 10 + "3,Müller\n", None, "cp1252"),
        ("log.csv", "a\n1\n", None, "utf-8"),
        ("log.jsonl", '{"a": "x;y;z"}\n', None, "utf-8"),
        ("log.csv", "a;b\n1;日本語のテスト\n", ";", "shift_jis"),
        ("log.csv", "a;b\n1;你好世界\n", ";", "gb18030"),
        ("log.csv", "a;b\n1;2\n", ";", "utf-16"),
    ],
)
def test_how_a_csv_is_written_is_sniffed(tmp_path, name, text, delimiter, encoding):
    data = text.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    options = CsvOptions(delimiter=delimiter, encoding=encoding)
    assert sniff(str(tmp_path / name)) == options


def test_what_is_known_of_a_csv_is_not_sniffed(tmp_path):
    (tmp_path / "log.csv").write_bytes("a;b;Größe\n".encode("cp1252"))
    options = sniff(str(tmp_path / "log.csv"), delimiter=",", encoding="latin-1")
    assert options == CsvOptions(delimiter=",", encoding="latin-1")
