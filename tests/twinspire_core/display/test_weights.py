"""What people are told of the weights of a mix."""

from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.display.measured_lists import describe_weights


def test_what_weights_were_fitted_on():
    users = {"0": 20, "1+": 1_000}
    of_days = FittedOn(on="progressive", since="2024-05-01", day="2024-05-03", users=users)
    assert describe_weights(of_days) == "fitted on 1,020 users of 2024-05-01 to 2024-05-03"
    of_day = FittedOn(on="progressive", since="2024-05-03", day="2024-05-03", users=users)
    assert describe_weights(of_day) == "fitted on 1,020 users of 2024-05-03"
    older = FittedOn(on="held_out", day="2024-05-03", users=users)
    assert describe_weights(older) == "fitted on 1,020 users held out of 2024-05-03"
    prior = FittedOn(on="prior", day="2024-05-03", users={"0+": 40}, kind="repeats")
    assert describe_weights(prior) == (
        "prior weights, which serve logs whose users take what they had before: 40 users are too"
        " few to fit on"
    )
