"""HALT: what the control document means, however it was edited."""

import pytest

from twinleg.domain.control import Halt, read_control


@pytest.mark.parametrize("state", list(Halt))
def test_every_state_is_read_as_written(state):
    assert read_control({"state": state.value, "why": "w", "by": "b"}).state is state


@pytest.mark.parametrize("data", [None, {}, {"state": "enabled"}, {"state": "ENABLE"}, {"state": None}, {"state": 1}])
def test_missing_or_misspelt_means_halted(data):
    control = read_control(data)
    assert control.state is Halt.HALTED
    assert control.why
