"""What people are told of the weights of a mix, and of a ranker."""

from twinspire_core.config.source_names import RANKED
from twinspire_core.contracts.fusion_file import HELD_OUT_USERS, PRIOR, FittedOn
from twinspire_core.contracts.ranker_file import RankerFit
from twinspire_core.display.figures import count

_KINDS = {
    "repeats": "logs whose users take what they had before",
    "steady": "logs whose users take what is new to them, of a catalogue that lasts",
    "no_repeats": "logs whose users take what is new to them",
}


def describe_weights(fitted: FittedOn) -> str:
    """What weights were fitted on, in words."""
    users = "users"
    if fitted.users:
        users = f"{count(sum(fitted.users.values()))} users"
    if fitted.on == PRIOR:
        kind = _KINDS.get(fitted.kind or "", "other logs")
        return f"prior weights, which serve {kind}: {users} are too few to fit on"
    if fitted.on == HELD_OUT_USERS:
        return f"fitted on {users} held out of {fitted.day}"
    if fitted.since is not None and fitted.since != fitted.day:
        return f"fitted on {users} of {fitted.since} to {fitted.day}"
    return f"fitted on {users} of {fitted.day}"


def describe_ranker(fitted: RankerFit, serves: str | None) -> str:
    """What a ranker was fitted on, and whether it serves, in words.

    Args:
      fitted: what its file says.
      serves: what the gate's verdict says, `ranked` or another answer.
    """
    days = f"{fitted.days[0]} to {fitted.days[-1]}" if len(fitted.days) > 1 else fitted.days[0]
    on = f"fitted on the lists of {count(fitted.queries)} users, {days}"
    if serves == RANKED:
        return f"serves; {on}"
    return f"does not serve, which the gate's notes explain; {on}"
