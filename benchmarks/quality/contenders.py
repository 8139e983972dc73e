"""Who takes part, and with which settings.

Settings of peers, and of `twinspire/mean`, were chosen on earlier days among those below by `python
-m benchmarks.quality --tune`, which writes settings.json. Those of what is served are those of the
pipeline files, without a trial.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality import lists, ours, peers, served
from benchmarks.quality.ours import VARIANTS, Fitted
from benchmarks.quality.prepare import Prepared, override
from benchmarks.quality.splits import Split

CHOSEN = Path(__file__).resolve().parent / "settings.json"
Settings = Mapping[str, Any]

LISTS = {"most_popular": lists.popular, "popular_lately": lists.popular_lately, "past": lists.past}
"""Contenders that need no training."""
DECAYED = {
    "popular_decayed": lists.popular_decayed,
    "personal_decayed": lists.personal_decayed,
}
"""Contenders that only count, each event the less the older it is; their half-lives are chosen."""
ENCODERS = ("tfrs", "twinspire/mean")
"""The same encoder twice: mean of the history, layers, the same widths, features, epochs and
batches.
"""
IMPLICIT = ("als", "bpr", "item_to_item")
TRANSFORMERS = ("sasrec", "hstu")
BASKETS = ("tifu_knn", "up_cf")
"""Peers that guess the next basket, where people take the same things again."""
OURS_TUNED = ("twinspire/none",)
"""Ours without a correction: what the loss's temperature does is another thing there."""
TUNED = (*ENCODERS, *OURS_TUNED, *IMPLICIT, *peers.ON_LOG, *DECAYED)
"""Contenders whose settings are chosen on an earlier day by `--tune`, in this order."""
SERVED = tuple(served.SOURCES)
"""What a user of ours gets, and the two-tower of the same versions alone."""
NAMES = (*SERVED, *ENCODERS, *IMPLICIT, *peers.ON_LOG, *LISTS, *DECAYED)
ABLATIONS = tuple(VARIANTS)
"""Ours with other losses, for who asks; they take no part in the table."""
PEERS = tuple(name for name in NAMES if not name.startswith("twinspire"))
WITHOUT_SEEDS = ("item_to_item", "ease", "vstan", *BASKETS, *LISTS, *DECAYED)
"""Those whose result involves no chance: one run is enough."""
COSTLY = (*ENCODERS, *VARIANTS, "bpr", *TRANSFORMERS)
"""Those that are trained once a week where a log's days are many, and asked with fresh histories."""
READ_THE_DAY = ("popular_decayed",)
"""Where queries are as of an event, these know what others did that day up to its moment; all others,
ours too, were made before the day.
"""
AS_OF_EVENTS = ("globo/last-click", "ml-100k/global-time")
"""Cases whose queries are as of an event."""
_CODE = {
    **dict.fromkeys(served.SOURCES, ("served.py",)),
    "tfrs": ("tfrs_peer.py", "arrays.py", "tower_inputs.py"),
    **dict.fromkeys(IMPLICIT, ("implicit_peer.py", "arrays.py")),
    **{name: (f"{script}_peer.py", "arrays.py") for name, (script, _) in peers.ON_LOG.items()},
    **dict.fromkeys(BASKETS, ("basket_peer.py", "session_peer.py", "arrays.py")),
}

# Where both encoders start from, as wide as in our own pipeline files. What is chosen for `tfrs`
# holds for `twinspire/mean` too, but for the temperature and the learning rate, which mean
# something else to each.
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
"""The last days that a peer without a notion of time is trained on; 0 is all."""
_PAUSE = {"globo": 0.5, "ml-100k/global-time": 0.5, "ml-100k/last-item": 0.5}
"""Hours between two events of a user that are in different sessions; half a day elsewhere: a trip."""
_TEMPERATURES = [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4]
_RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
_OWN_RATES = [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3]


def start(name: str, ready: Prepared) -> dict[str, Any]:
    """Settings that a contender's tuning starts from."""
    split = ready.split.name
    train = ready.pipeline.train
    if name in LISTS:
        return {}
    if name == "twinspire/mean":
        return dict(chosen("tfrs", split))
    if name in OURS_TUNED:
        own = {"train.temperature": train.temperature, "train.learning_rate": train.learning_rate}
        return {**VARIANTS[name], **own}
    return _start(name, split)


def _start(name: str, split: str) -> dict[str, Any]:
    factors = {"factors": 64, "regularization": 0.01, "days": 0}
    return {
        "tfrs": {**_ENCODER, **_BY_SPLIT[split]},
        "als": {"model": "als", **factors, "alpha": 1.0, "iterations": 15},
        "bpr": {"model": "bpr", **factors, "learning_rate": 0.01, "iterations": 100},
        "item_to_item": {
            "model": "item_to_item",
            "similarity": "cosine",
            "neighbours": 100,
            "decay": 1.0,
            "days": 0,
        },
        "ease": {
            "model": "ease",
            "items": 10_000,
            "regularization": 500.0,
            "weights": "log",
            "days": 0,
        },
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
        "sasrec": {"model": "sasrec", **_transformer(split)},
        "hstu": {"model": "hstu", **_transformer(split)},
        "tifu_knn": {
            "model": "tifu",
            "neighbours": 900,
            "groups": 3,
            "within_decay": 0.9,
            "group_decay": 0.6,
            "alpha": 0.2,
        },
        "up_cf": {
            "model": "upcf",
            "recency": 25,
            "asymmetry": 0.75,
            "locality": 10,
            "neighbours": 100,
        },
        "popular_decayed": {"half_life": 24},
        "personal_decayed": {"half_life": 60, "fill_half_life": 28},
    }[name]


def _transformer(split: str) -> dict[str, Any]:
    """Where both transformers start from: small, as they are trained on a processor. Few items need no
    sample of them.
    """
    few_items = split.startswith("ml-")
    return {
        "blocks": 2,
        "heads": 1,
        "factors": 64,
        "length": 20 if split == "globo" else 50,
        "dropout": 0.2,
        "loss": "softmax" if few_items else "sampled_softmax",
        "negatives": 128,
        "learning_rate": 0.001 if few_items else 0.003,
        "batch_size": 128,
        "epochs": 100,
        "patience": 3,
        "cpu_seconds": 300,
        "days": 60 if split in ("groceries", "small-shop") else 0,
    }


def ladders(name: str, split: str) -> dict[str, list[Any]]:
    """The values of each setting that may be tried, in order; see quality/tune.py."""
    if name in LISTS:
        return {}
    shared = {"temperature": _TEMPERATURES, "learning_rate": _RATES}
    days = {"days": _DAYS[split]} if split in _DAYS else {}
    widths = {"dimension": [64, 128, 256]} if split in ("groceries", "small-shop") else {}
    factors = {
        "regularization": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0],
        "factors": [16, 32, 64, 128, 256, 512],
    }
    passes = (
        {"epochs": [5, 10, 20, 40]} if split.startswith("ml-") else {"order": ["shuffled", "time"]}
    )
    return {
        "tfrs": {"layers": [[], [128]], **passes, **shared, **widths},
        "twinspire/mean": shared,
        "twinspire/none": {"train.temperature": _TEMPERATURES, "train.learning_rate": _OWN_RATES},
        "als": {**days, "alpha": [0.1, 1.0, 10.0, 40.0, 100.0], **factors},
        "bpr": {**days, "learning_rate": [0.003, 0.01, 0.03, 0.1], **factors},
        "item_to_item": {
            **days,
            "similarity": ["cosine", "bm25"],
            "neighbours": [5, 10, 20, 50, 100, 200, 500],
            "decay": [0.5, 0.7, 0.8, 0.9, 1.0],
        },
        "ease": {
            **days,
            "regularization": [100.0, 200.0, 500.0, 1000.0, 3000.0],
            "weights": ["binary", "log", "count"],
            "items": [5_000, 10_000, 20_000],
        },
        "ials": {
            **days,
            "unobserved_weight": [0.01, 0.03, 0.1, 0.3, 1.0],
            "regularization": [0.0003, 0.001, 0.003, 0.01, 0.03],
            "weights": ["binary", "log", "count"],
            "factors": [64, 128, 256],
        },
        "vstan": {
            "session_decay": [1.0, 5.0, 20.0, 80.0],
            "last": [1, 2, 4, 8],
            "sample": [100, 500, 2_500],
            "match_decay": [0.336, 1.345, 0.0],
            "item_decay": [0.67, 2.69, 10.0],
            "rarity": [0.0, 1.0],
        },
        **{
            name: {
                "length": [20, 50, 100],
                "learning_rate": [0.0003, 0.001, 0.003, 0.01],
                "dropout": [0.1, 0.2, 0.5],
                "blocks": [1, 2],
                **days,
            }
            for name in TRANSFORMERS
        },
        "tifu_knn": {
            "alpha": [0.2, 0.4, 0.6, 0.8],
            "groups": [3, 7, 15, 23],
            "neighbours": [100, 300, 900],
            "group_decay": [0.4, 0.6, 0.8, 0.9],
            "within_decay": [0.8, 0.9, 0.95],
        },
        "up_cf": {
            "recency": [10, 25, 44, 100],
            "locality": [1, 5, 10, 20, 50],
            "asymmetry": [0.25, 0.5, 0.75],
            "neighbours": [50, 100, 300],
        },
        "popular_decayed": {"half_life": [1, 3, 8, 24, 72, 168, 672, 1440, 0]},
        "personal_decayed": {
            "half_life": [7, 14, 28, 60, 120, 0],
            "fill_half_life": [1, 7, 28, 60, 0],
        },
    }[name]


def chosen(name: str, split: str) -> Settings:
    """The settings of a contender: from settings.json, else what tuning starts from."""
    if name in LISTS or name in SERVED:
        return {}
    if kept := all_chosen().get(split, {}).get(name, {}).get("settings"):
        return kept
    if name in VARIANTS:
        return VARIANTS[name]
    return _start("tfrs" if name == "twinspire/mean" else name, split)


def all_chosen() -> dict[str, Any]:
    """What settings.json says: by log and contender `settings`, what they `found` on the earlier
    days by case and kind of lists, and all `trials`; `chosen_before` holds the trials of settings
    that were chosen before these days were written down, and are not yet chosen anew.
    """
    return json.loads(CHOSEN.read_text()) if CHOSEN.exists() else {}


def fit(name: str, prepared: Prepared, settings: Settings, seed: int, work: Path) -> Fitted:
    """Trains a contender and has it make its lists for all cases of the split.

    Args:
      name: one of `NAMES`.
      prepared: the split.
      settings: from `chosen`; of our own contenders keys of the pipeline file.
      seed: of all chance.
      work: holds the peers' environments.
    """
    if name in LISTS:
        return Fitted(
            {case.name: LISTS[name](prepared, case) for case in prepared.split.cases}, 0.0
        )
    if name in DECAYED:
        counted = DECAYED[name]
        ranked = {case.name: counted(prepared, case, settings) for case in prepared.split.cases}
        return Fitted(ranked, 0.0)
    if name in peers.ON_LOG:
        return peers.fit_on_log(name, prepared, settings, seed, work)
    if name in SERVED:
        return served.fit(name, prepared, seed, work)
    if name in IMPLICIT:
        return peers.fit_implicit(prepared, settings, seed, work)
    if name == "tfrs":
        return peers.fit_tfrs(prepared, settings, seed, work)
    return ours.fit(prepared, of_pipeline(settings) if name in ENCODERS else settings, seed)


def is_trained_by_us(name: str) -> bool:
    """Whether it is a two-tower of ours that is trained for the benchmark alone."""
    return name in VARIANTS or name == "twinspire/mean"


def code_of(name: str) -> list[str]:
    """Files whose change makes a contender's runs stale, below the repository."""
    return [f"benchmarks/quality/{file}" for file in _CODE.get(name, ("lists.py",))]


def resolved(name: str, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """All that a pipeline file says of training, with the settings of one of our contenders put
    over it.
    """
    p = override(prepared.pipeline, of_pipeline(settings) if name in ENCODERS else settings)
    return p.model_dump(mode="json", by_alias=True, include={"train", "features"})


def differs(name: str, prepared: Prepared) -> bool:
    """Whether a contender is one of its own here: `twinspire/pooled` is what attention is held
    against, news are not read again, basket after basket, and not every pipeline has a ranker.
    """
    if name in BASKETS:
        return prepared.split.name != "globo"
    if name == "twinspire/ranked":
        return prepared.pipeline.ranking.enabled
    return name != "twinspire/pooled" or prepared.pipeline.train.history.pooling == "attention"


def of_pipeline(settings: Settings) -> dict[str, Any]:
    """An encoder's settings as keys of the pipeline file."""
    return {
        "train.query_layers": tuple(settings["layers"]),
        "train.item_layers": tuple(settings["layers"]),
        "train.skip": False,
        "train.history": {"pooling": "mean"},
        "train.negatives": {},
        "train.auxiliary": {},
        "train.correction": "batch",
        "train.id_dropout": 0.0,  # the peer has none
        **{f"train.{key}": value for key, value in settings.items() if key != "layers"},
    }


def less(name: str, settings: Settings, split: Split) -> dict[str, Any]:
    """The settings of a quick run."""
    if name in VARIANTS or name in SERVED:
        return {**settings, **split.less}
    fewer = {key.removeprefix("train."): value for key, value in split.less.items()} | {
        "iterations": 5
    }
    return {key: fewer.get(key, value) for key, value in settings.items()}
