"""The initial settings of each peer's tuning, and the values that it may try."""

from typing import Any

# The widths of our pipeline files.
_ENCODER = {"dimension": 64, "layers": [128], "temperature": 0.1, "learning_rate": 0.1}
_BY_SPLIT = {
    "globo": {"batch_size": 1024, "epochs": 1, "order": "time", "layers": [], "temperature": 0.05},
    "groceries": {
        "dimension": 128,
        "layers": [],
        "temperature": 0.05,
        "learning_rate": 0.03,
        "batch_size": 256,
        "epochs": 6,
        "order": "shuffled",
    },
    "ml-100k/global-time": {"batch_size": 512, "epochs": 10, "order": "shuffled"},
    "ml-100k/last-item": {"batch_size": 512, "epochs": 10, "order": "shuffled"},
}
_BY_SPLIT["small-shop"] = _BY_SPLIT["groceries"]
_DAYS = {"globo": [0, 3, 1], "groceries": [0, 60, 28, 7], "small-shop": [0, 60, 28, 7]}
"""Numbers of last days to train on, for peers that ignore time; 0 is all days."""
_PAUSE = {"globo": 0.5, "ml-100k/global-time": 0.5, "ml-100k/last-item": 0.5}
"""Hours without events that end a session; half a day for other logs, which separates shopping trips."""
_TEMPERATURES = [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4]
_RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]


def start(name: str, split: str) -> dict[str, Any]:
    """Initial settings of a peer's tuning: published ones for the same or a similar log."""
    return {
        "tfrs": {**_ENCODER, **_BY_SPLIT[split], **({"days": 0} if split in _DAYS else {})},
        "ials": {
            "model": "ials",
            "factors": 128,
            "unobserved_weight": 0.1,
            "regularization": 0.003,
            "iterations": 16,
            "weights": "log",
            "days": 0,
        },
        "vstan": {
            "pause": _PAUSE.get(split, 12.0),
            "last": 1 if split == "globo" else 4,
            "sample": 500,
            "nearest": 500,
            "session_decay": 80.0,
            "item_decay": 2.69,
            "place_decay": 1.345,
            "match_decay": 0.336,
            "rarity": 0.0,
        },
        "sasrec": {"model": "sasrec", **_transformer(split), **_loss(split)},
        "hstu": {"model": "hstu", **_transformer(split), "loss": "sampled_softmax"},
        "tifu_knn": {
            "neighbours": 900,
            "groups": 3,
            "within_decay": 0.9,
            "group_decay": 0.6,
            "alpha": 0.2,
        },
        "popular_decayed": {"half_life": 24},
        "personal_decayed": {"half_life": 60, "fill_half_life": 28},
    }[name]


def _transformer(split: str) -> dict[str, Any]:
    """Initial settings of both transformers: small, because they are trained on a CPU."""
    return {
        "blocks": 2,
        "heads": 1,
        "factors": 64,
        "length": 20 if split == "globo" else 50,
        "dropout": 0.2,
        "negatives": 128,
        "learning_rate": 0.003,
        "batch_size": 128,
        "epochs": 100,
        # Their loss on newest events rises for some passes before they learn more than popularity.
        "patience": 10,
        # Half for films, so that more trials fit into the same time.
        "cpu_seconds": 150 if split.startswith("ml-") else 300,
        "days": 60 if split in ("groceries", "small-shop") else 0,
    }


def _loss(split: str) -> dict[str, Any]:
    """SASRec is best with the full softmax, which is cheap for few items; HSTU is published with sampling."""
    return {"loss": "softmax" if split.startswith("ml-") else "sampled_softmax"}


def ladders(name: str, split: str) -> dict[str, list[Any]]:
    """The values of each setting to try, in order (quality/tune.py); empty without settings."""
    shared = {"temperature": _TEMPERATURES, "learning_rate": _RATES}
    days = {"days": _DAYS[split]} if split in _DAYS else {}
    widths = {"dimension": [64, 128, 256]} if split in ("groceries", "small-shop") else {}
    passes = (
        {"epochs": [5, 10, 20, 40]} if split.startswith("ml-") else {"order": ["shuffled", "time"]}
    )
    return {
        "tfrs": {"layers": [[], [128]], **passes, **shared, **widths, **days},
        "ials": {
            **days,
            "unobserved_weight": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            "regularization": [0.0003, 0.001, 0.003, 0.01, 0.03],
            "weights": ["binary", "log", "count"],
            "factors": [64, 128, 256],
        },
        "vstan": {
            "session_decay": [1.0, 5.0, 20.0, 80.0, 320.0],
            "last": [1, 2, 4, 8, 16],
            "sample": [100, 500, 2_500],
            "match_decay": [0.336, 1.345, 0.0],
            "item_decay": [0.67, 2.69, 10.0],
            "rarity": [0.0, 1.0],
        },
        **{
            name: {
                "learning_rate": [0.0003, 0.001, 0.003, 0.01],
                "length": [20, 50, 100],
                "dropout": [0.1, 0.2, 0.5],
                "blocks": [1, 2],
                **days,
            }
            for name in ("sasrec", "hstu")
        },
        "tifu_knn": {
            "alpha": [0.2, 0.4, 0.6, 0.8],
            "groups": [3, 7, 15, 23],
            "neighbours": [100, 300, 900],
            "group_decay": [0.4, 0.6, 0.8, 0.9],
            "within_decay": [0.8, 0.9, 0.95],
        },
        "popular_decayed": {"half_life": [1, 3, 8, 24, 72, 168, 672, 1440, 0]},
        "personal_decayed": {
            "half_life": [7, 14, 28, 60, 120, 0],
            "fill_half_life": [1, 7, 28, 60, 0],
        },
    }.get(name, {})
