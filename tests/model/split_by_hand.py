"""A small split, written by hand: lists and what was taken."""

import json

RECS = [
    {"user": "u", "items": ["a", "b", "c"]},
    {"user": "v", "items": ["c", "x"]},
    {"user": "other", "items": ["a"]},
]
TRUTH = [
    {"user": "w", "items": ["a"]},
    {"user": "u", "items": ["c", "a", "c"]},
    {"user": "v", "items": ["x"]},
]


def jsonl(path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)
