from datetime import date

import pytest

from twinspire_core.contracts import attempts

DAY = date(2024, 3, 9)


@pytest.mark.parametrize(
    "stray",
    ["README", "dt=2024-03-10", "dt=2024-99-10/a", "dt=20240310/b", "2024-03-10/c", "d/e/f"],
)
def test_what_somebody_else_put_there_is_of_no_day(tmp_path, stray):
    attempts.write_partial(
        attempts.partial_uri(attempts.partial_stem(str(tmp_path), DAY, "events", "key"), 0, 1),
        b"four",
    )
    (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / stray).touch()
    assert attempts.partials_by_day(str(tmp_path)) == {DAY: 4 + 32}
