"""SASRec and HSTU of the library RecTools. Runs in its own environment, without this project.

    python -m benchmarks.quality.rectools_peer FOLDER SETTINGS.json OUT.npz

FOLDER has the files of quality/arrays.py: the log and the histories of the queries, with numbers for users
and items. Users are split into sequences of at most `length` events, so that training uses all of a long
history. Training ends when the loss on the newest event of a thousand sequences has not decreased for
`patience` checks (at least one per pass), or after `cpu_seconds`. The best state counts. Queries are unknown
users with a history, so that the same model serves later days. HSTU also reads the time of the request.
"""

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # busy waiting would count as training time

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.utils import leave_one_out_mask

LENGTH = 600
DAY = 86_400_000_000
JUDGED = 1_000
"""Sequences whose newest events are held out, to stop training early."""
MOST_STEPS = 200
"""Most batches between two checks."""


class Best(Callback):
    """Keeps the best state by the loss on held-out events, and ends training."""

    def __init__(self, patience, cpu_seconds):
        self.patience = patience
        self.until = time.process_time() + cpu_seconds
        self.loss = float("inf")
        self.state = None
        self.worse = 0
        self.passes = 0
        self.steps = []

    def on_train_batch_end(self, trainer, module, *_):
        self.steps.append(time.process_time())
        if time.process_time() > self.until:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer, module):
        self.passes += 1

    def on_validation_epoch_end(self, trainer, module):
        loss = trainer.callback_metrics.get("val_loss")
        if trainer.sanity_checking or loss is None:
            return
        if float(loss) < self.loss:
            self.loss = float(loss)
            self.state = {k: v.clone() for k, v in module.state_dict().items()}
            self.worse = 0
        else:
            self.worse += 1
            trainer.should_stop |= self.worse >= self.patience


def model_of(settings, sequences):
    """An untrained model."""
    kind = {"sasrec": SASRecModel, "hstu": HSTUModel}[settings["model"]]
    # HSTU's vectors have length 1, so that its scores need a temperature.
    loss = {"lightning_module_kwargs": {"logits_t": 0.05}} if settings["model"] == "hstu" else {}
    model = kind(
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        n_factors=settings["factors"],
        session_max_len=settings["length"],
        dropout_rate=settings["dropout"],
        loss=settings["loss"],
        n_negatives=settings["negatives"],
        lr=settings["learning_rate"],
        batch_size=settings["batch_size"],
        get_val_mask_func=leave_one_out_mask,
        get_val_mask_func_kwargs={"val_users": min(JUDGED, sequences // 5)},
        **loss,
    )
    long_pass = sequences // settings["batch_size"] > MOST_STEPS
    model._trainer = Trainer(
        # Check several times in a long pass.
        val_check_interval=MOST_STEPS if long_pass else 1.0,
        max_epochs=settings["epochs"],
        min_epochs=0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[Best(settings["patience"], settings["cpu_seconds"])],
    )
    return model


def table(user, item, moment):
    """Arrays as a table of RecTools; `moment` is in microseconds."""
    moments = pd.to_datetime(moment, unit="us").astype("datetime64[ns]")
    return pd.DataFrame(
        {Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, Columns.Datetime: moments}
    )


def parted(user, moment, length):
    """The sequence of each event. The newest `length` events of a user are one sequence, and so on.

    Args:
      user: [N] numbers.
      moment: [N] microseconds.
    """
    order = np.lexsort((-moment, user))
    start = np.searchsorted(user[order], user[order])
    step = (np.arange(len(user)) - start) // length
    number = np.empty(len(user), np.int64)
    number[order] = np.cumsum(
        (np.diff(user[order], prepend=-1) != 0) | (np.diff(step, prepend=0) != 0)
    )
    return number


def train(log, settings):
    """Trains a model on the last `days` days; 0 is all."""
    seed_everything(settings["seed"])
    torch.set_num_threads(settings.get("threads", os.cpu_count()))
    recent = log["time"] > log["time"].max() - (settings["days"] or 10_000) * DAY
    user, item, moment = log["user"][recent], log["item"][recent], log["time"][recent]
    # One event more than the model reads: the last one is only a target.
    sequence = parted(user, moment, settings["length"] + 1)
    model = model_of(settings, len(np.unique(sequence)))
    model.fit(Dataset.construct(table(sequence, item, moment)))
    best = next(c for c in model.fit_trainer.callbacks if isinstance(c, Best))
    if best.state is not None:
        model.lightning_model.load_state_dict(best.state)
    print(
        f"{best.passes} whole passes, {model.fit_trainer.global_step} steps, loss {best.loss:.4f}"
    )
    return model, best.steps


def rank(model, settings, log, asked):
    """[Q, 600] positions in the catalogue, -1 after the end."""
    lengths = np.diff(asked["start"])
    ranked = np.full((len(lengths), LENGTH), -1, np.int64)
    # RecTools's ids are objects because of its padding; lookups of numbers are faster.
    known = model.data_preparator.get_known_item_ids().astype(np.int64)
    listed = known[log["place"][known] >= 0]
    query = np.repeat(np.arange(len(lengths)), lengths)
    kept = np.isin(asked["item"], known)
    # The newest known events, as many as the model reads.
    query, item, moment = query[kept], asked["item"][kept], asked["time"][kept]
    newer = np.searchsorted(query, query, "right") - 1 - np.arange(len(query))
    read = newer < settings["length"]
    users = np.unique(query[read])
    context = None
    if settings["model"] == "hstu":
        context = table(users, np.zeros(len(users), np.int64), asked["moment"][users])
    recommended = model.recommend(
        users=users,
        dataset=Dataset.construct(table(query[read], item[read], moment[read])),
        k=min(LENGTH, len(listed)),
        filter_viewed=False,
        items_to_recommend=listed,
        context=context,
    )
    row = recommended[Columns.User].to_numpy(np.int64)
    column = recommended[Columns.Rank].to_numpy(np.int64) - 1
    ranked[row, column] = log["place"][recommended[Columns.Item].to_numpy(np.int64)]
    return ranked


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    log = dict(np.load(folder / "log.npz"))
    model, steps = train(log, settings)
    if not settings["cases"]:
        np.savez(out, steps=steps)
        return
    ranked = {
        name: rank(model, settings, log, dict(np.load(folder / f"history-{name}.npz")))
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    main()
