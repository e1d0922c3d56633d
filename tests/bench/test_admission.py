from io import StringIO

import pytest
from rich.console import Console

from tests.bench import admission


@pytest.mark.parametrize(("rate", "is_met"), [(90.0, True), (89.0, False)])
def test_goal_is_the_median_of_the_ratios_within_a_turn(rate: float, is_met: bool) -> None:  # noqa: FBT001
    rates = {admission.ONE: [100.0, 10.0, 1.0], admission.TWO: [rate, rate / 10, 0.0]}
    output = StringIO()

    assert admission.show(Console(file=output, width=200), {16: rates}) == is_met
    assert f"{rate / 100:.2f}: {'met' if is_met else 'MISSED'}" in output.getvalue()
