"""A small split, written by hand: lists and what was taken, and items and vectors of a version."""

import json

import numpy as np
import pyarrow as pa

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
ITEMS = pa.table({"_item": list("abcd"), "_popular": [4, 3, 2, 1], "_lately": [0, 0, 0, 9]})
EYE = np.eye(4, dtype=np.float32)[[3, 1, 2, 0]].tolist()
SHUFFLED = pa.table({"_item": list("dbca"), "vector": pa.array(EYE, pa.list_(pa.float32(), 4))})


def jsonl(path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)
