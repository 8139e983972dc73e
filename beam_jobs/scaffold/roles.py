"""Proposes which column of a log is the user, the item, the time and the event's type.

Names and values of a sample count. What stays open is asked, or has to be named.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from beam_jobs.ingest.columns import holds_bytes
from beam_jobs.ingest.timestamps import TimeForm, forms_of, in_form, is_sure
from beam_jobs.partitioning.log_tables import flat
from beam_jobs.scaffold import column_names, event_types
from beam_jobs.scaffold.column_names import Role as Role
from beam_jobs.scaffold.relations import ENOUGH_ROWS, TOLD_APART, determines, is_finer, same
from twinspire_core.errors import UsageError, did_you_mean, with_full_stop


class Candidate(NamedTuple):
    """A column that may have a role.

    Attributes:
      example: some of its values, to show to people.
      strength: how much its name speaks for the role, from 0 to 3.
      score: how much its name and its values speak for the role.
      form: how its times are written, of a candidate for the time.
    """

    column: str
    example: str
    strength: int
    score: float
    form: TimeForm = TimeForm()


class Proposal(NamedTuple):
    """The columns that may have a role.

    Attributes:
      candidates: the likeliest first; empty if no column fits.
      sure: whether nobody needs to be asked. A log without candidates for the event type is sure to
        have none.
    """

    role: Role
    candidates: tuple[Candidate, ...]
    sure: bool

    @property
    def column(self) -> str | None:
        """The likeliest column; None if what is known speaks against all of them."""
        best = self.candidates[0] if self.candidates else None
        return best.column if best and best.score >= 0 else None


Ask = Callable[[Proposal], str | None]
"""Asks a person which column has a role. Only for an event type may the answer be None: no column."""

Forms = Mapping[str, list[TimeForm]]
"""How the times of each column are written; an empty list if it holds no times."""


_SHOWN = 4
_FEW = 5
_ROLES: tuple[Role, ...] = ("user", "item", "time", "event")


def propose(
    rows: pl.DataFrame, given: Mapping[Role, str | None] | None = None
) -> dict[Role, Proposal]:
    """The columns that look like each role, by name and by content.

    Args:
      rows: a sample of the events, of more than a day if possible.
      given: columns whose role is known: they are proposed for no other.
    """
    assigned = {column for column in (given or {}).values() if column is not None}
    all_rows = rows
    rows = rows.drop(assigned & set(rows.columns))
    forms = {column: forms_of(rows[column]) for column in rows.columns}
    time = _times(all_rows, forms)
    event = _events(all_rows, rows.columns)
    taken = {one.column for one in (event, time) if one.sure}
    user = _ids(rows, "user", taken)
    item = _ids(rows, "item", taken | ({user.column} if user.sure else set()))
    item = _finest(all_rows, item, (given or {}).get("user") or user.column)
    return {"user": user, "item": item, "time": time, "event": event}


def choose_columns(
    rows: pl.DataFrame, path: Path, given: Mapping[Role, str | None], ask: Ask | None
) -> dict[Role, str | None]:
    """The columns of the events by role: as given, as the sample suggests, or as a person answers.

    Args:
      rows: a sample of the events.
      path: file or folder of the sample, for messages.
      given: columns by role; None for an event type that the log lacks.
      ask: asks a person for the column of a role that the sample leaves open; None to raise an error.

    Raises:
      UsageError: a given column is missing or has two roles, a column is nested or empty, or the
        sample leaves a column open and `ask` is None.
    """
    _refuse_shared(given)
    flat_rows = pl.DataFrame(flat(rows.to_arrow()))
    for role, column in given.items():
        if column is not None and column not in flat_rows.columns:
            hint = did_you_mean(column, flat_rows.columns, "; ")
            columns = ", ".join(flat_rows.columns)
            raise UsageError(
                with_full_stop(
                    f"--{role} must name a column of the events; {path} has no {column!r}. Its columns"
                    f" are {columns}{hint}"
                )
            )
    chosen: dict[Role, str | None] = {}
    for role in _ROLES:
        # Each answer tells more about the other columns.
        proposal = propose(flat_rows, {**given, **chosen})[role]
        column = given[role] if role in given else _choose(proposal, flat_rows.columns, path, ask)
        if column is not None:
            _refuse_unfit(role, column, rows, path)
        chosen[role] = column
    return chosen


def _refuse_shared(given: Mapping[Role, str | None]) -> None:
    for column in given.values():
        roles = [f"--{role}" for role, name in given.items() if name == column]
        if column is not None and len(roles) > 1:
            raise UsageError(
                f"A column can have only one role; {' and '.join(roles)} name the same column,"
                f" {column!r}. Name another column for one of them."
            )


def _refuse_unfit(role: Role, column: str, rows: pl.DataFrame, path: Path) -> None:
    if column not in rows.columns:
        raise UsageError(
            f"The {role} must be a column of its own; in {path}, {column!r} is nested. `twinspire"
            " partition` makes a column of each nested field. Run it on the log, then make the"
            " draft from its output folder."
        )
    # A person may name any column, so what was named is checked like what was proposed.
    values = rows[column].drop_nulls()
    if values.is_empty() or values.dtype.is_nested():
        content = "is empty" if values.is_empty() else f"holds {values.head(1).to_list()}"
        none = ", or give --event none" if role == "event" else ""
        remedy = f"Name another column with --{role} COLUMN{none}."
        if isinstance(values.dtype, pl.List):
            remedy = f"Write a row for each value (`explode` of pandas and Polars). {remedy}"
        raise UsageError(
            f"The {role} must be one value in each row; in {path}, {column!r} {content}. {remedy}"
        )


def _choose(proposal: Proposal, columns: Sequence[str], path: Path, ask: Ask | None) -> str | None:
    if proposal.sure:
        return proposal.column
    role = proposal.role
    if not proposal.candidates:
        raise UsageError(
            f"No column of {path} looks like the {role}. Its columns are {', '.join(columns)}."
            f" Name one with --{role} COLUMN."
        )
    answer = ask(proposal) if ask else None
    if answer or (ask and role == "event"):
        return answer
    likely = " or ".join(f"{c.column} ({c.example})" for c in proposal.candidates[:_SHOWN])
    others = ", ".join(c.column for c in proposal.candidates[_SHOWN:])
    none = ", or give --event none" if role == "event" else ""
    raise UsageError(
        f"It is not clear which column of {path} is the {role}: {likely}{others and f', or {others}'}?"
        f" Name it with --{role} COLUMN{none}."
    )


def key_of(rows: pl.DataFrame, role: Role, ids: pl.Series) -> str | None:
    """The column of a snapshot that holds the ids of its rows, if one does.

    Args:
      rows: a sample of items or users.
      role: `item` for items, `user` for users.
      ids: values of the role's column in the events.
    """
    # As text: the events may have the ids as numbers, and the snapshot as strings.
    wanted = ids.drop_nulls().unique().cast(pl.String)
    best, best_score = None, 0.0
    for column in rows.columns:
        if _can_be_id(rows[column]):
            share = wanted.is_in(rows[column].cast(pl.String).unique().implode()).mean()
            score = 10 * float(share or 0) + column_names.strength(column, role)  # type: ignore[arg-type]
            if score > best_score:
                best, best_score = column, score
    return best if best_score >= column_names.NAMED else None


def _best_first(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -candidate.score)


def _example(values: pl.Series) -> str:
    shown = values.drop_nulls().unique(maintain_order=True).head(3)
    return ", ".join(str(value)[:30] for value in shown)


def _times(rows: pl.DataFrame, all_forms: Forms) -> Proposal:
    """Columns whose values parse as times; sure if one stands out by its name or is the only one."""
    scored = []
    for column, forms in all_forms.items():
        strength = column_names.strength(column, "time")
        is_number = forms and (forms[0].unit or forms[0].format == "%Y%m%d")
        # Ids may look like seconds since 1970.
        if not forms or (is_number and not strength and column_names.is_of_ids(column)):
            continue
        score = 2.0 * strength + 2 * (not is_number) + 2 * _has_clock(rows[column], forms[0])
        score -= 3 * column_names.is_other_time(column) + 5 * _is_attribute(rows, column)
        scored.append(Candidate(column, _example(rows[column]), strength, score, forms[0]))
    scored = _best_first(scored)
    if not scored:
        return Proposal("time", (), False)
    best = scored[0]
    # Others that may be meant; a birthday scores far less than a time of the event.
    margin = np.inf if column_names.is_other_time(best.column) else 1
    rivals = [candidate for candidate in scored[1:] if candidate.score > best.score - margin]
    clear = best.strength > 0 or best.form.unit is None
    sure_of_form = is_sure(rows[best.column], all_forms[best.column])
    sure = not rivals and clear and best.score > 0 and sure_of_form
    return Proposal("time", tuple(scored), sure)


def _is_attribute(rows: pl.DataFrame, column: str) -> bool:
    """Whether a time belongs to the user, the item or the file, such as the day when a user signed up."""
    return rows[column].n_unique() == 1 or any(
        column_names.strength_as_id(name) >= column_names.CLEAR and determines(rows, name, column)
        for name in rows.columns
    )


def _has_clock(values: pl.Series, form: TimeForm) -> bool:
    """Whether times say more than the day."""
    clock = in_form(values, form)
    return bool((clock.dt.truncate("1d") != clock).any())


def _events(rows: pl.DataFrame, columns: Sequence[str]) -> Proposal:
    """Columns that may say what an event is. People are asked if two may, or if only words speak for one."""
    scored = _best_first(
        [
            Candidate(column, _example(rows[column]), strength, score)
            for column, strength, score in event_types.candidates(rows, columns)
        ]
    )
    best, second = ([one.score for one in scored] + [0.0, 0.0])[:2]
    # A rating may be all that a log says of an event, or come with its type.
    unsure = (
        best < 0
        or (second == best and len(scored) > 1)
        or (best < column_names.CLEAR and second < 0)
    )
    return Proposal("event", tuple(scored), not unsure)


def _ids(rows: pl.DataFrame, role: Role, taken: Collection[str | None]) -> Proposal:
    """Columns that hold ids, those with a name of the role first."""
    other: Role = "item" if role == "user" else "user"
    scored = []
    for column in rows.columns:
        if column in taken or not _can_be_id(rows[column]):
            continue
        strength = column_names.strength(column, role)
        if not strength and column_names.strength(column, other) >= column_names.NAMED:
            continue
        if len(rows) >= ENOUGH_ROWS and strength < column_names.CLEAR:
            # Few values are kinds of something, such as devices
            strength *= rows[column].n_unique() > _FEW
        score = 3.0 * strength + _looks_like_ids(rows[column], column)
        scored.append(Candidate(column, _example(rows[column]), strength, score))
    scored = _best_first(scored)
    if not scored:
        return Proposal(role, (), False)
    best, *others = scored
    # Without a name that says what it is, it must be the only id that is left, as one of a rare kind of item.
    named = best.strength >= column_names.NAMED
    rivals = [
        candidate
        for candidate in others
        if (
            best.score - candidate.score < 2 and candidate.strength
            if named
            else candidate.score >= 0
        )
        and not same(rows, best.column, candidate.column)
    ]
    constant = len(rows) >= ENOUGH_ROWS and rows[best.column].n_unique() == 1
    return Proposal(role, tuple(scored), best.score > 0 and not rivals and not constant)


def _finest(rows: pl.DataFrame, proposal: Proposal, user: str | None) -> Proposal:
    """The columns that may be the item, with those first that determine the likeliest one, as an episode
    determines its show. Of columns that determine each other, the one that looks most like ids comes first.
    """
    if not proposal.candidates or len(rows) < ENOUGH_ROWS:
        return proposal
    best, *others = proposal.candidates
    if rows[best.column].n_unique() == 1:
        return proposal
    twins = [best, *(c for c in others if same(rows, best.column, c.column))]
    first = min(
        twins, key=lambda c: (c.strength < column_names.CLEAR, *_unlike_ids(rows[c.column]))
    )
    finer = [c for c in others if is_finer(rows, c.column, best.column, user)]
    finer = sorted(finer, key=lambda c: (-rows[c.column].n_unique(), *_unlike_ids(rows[c.column])))
    first = finer[0] if finer else first
    rest = [c for c in proposal.candidates if c not in (first, *finer)]
    rivals = [c for c in rest if c.strength and c.score > best.score - 2]
    of_first = all(
        same(rows, first.column, c.column) or is_finer(rows, first.column, c.column, user)
        for c in rivals
    )
    clear = first.strength == column_names.CLEAR and of_first
    ordered = (*(finer or [first]), *rest)
    return proposal._replace(candidates=ordered, sure=clear or (proposal.sure and not finer))


def _unlike_ids(values: pl.Series) -> tuple[bool, float]:
    """How little values look like ids: whether they have spaces, and how long they are."""
    text = values.drop_nulls().cast(pl.String)
    return bool(text.str.contains(" ").any()), float(text.str.len_chars().mean() or 0)  # type: ignore[arg-type]


def _can_be_id(values: pl.Series) -> bool:
    kind = values.dtype
    if kind.is_nested() or kind.is_temporal() or kind == pl.Boolean or holds_bytes(kind):
        return False
    if kind.is_float():
        present = values.drop_nulls().drop_nans()
        return bool(len(present)) and bool((present == present.round()).all())
    return values.null_count() < len(values)


def _looks_like_ids(values: pl.Series, column: str) -> float:
    """How much a column looks like ids of users or items, whose values repeat, but are not few."""
    present = values.drop_nulls()
    distinct = present.n_unique()
    score = column_names.likeness_to_id(column) - 3 * column_names.is_outcome(column)
    if len(present) >= ENOUGH_ROWS:
        # As many as rows, of which some come twice: numbers of the rows, or orders.
        is_row = distinct == 1 or distinct >= TOLD_APART * len(present)
        score -= 4 * is_row + 2 * (distinct <= _FEW)
    return score
