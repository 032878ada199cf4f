"""The result of a run keeps what it is given, whatever the steps are called."""

from __future__ import annotations

import pytest

from rramhil.job.result import Accuracies


@pytest.mark.parametrize("name", ["json", "copy", "_x", "model_dump", "add", "open_loop", "rsa"])
def test_the_accuracy_of_a_step_is_kept_under_any_name(name: str) -> None:
    accuracy = Accuracies()
    accuracy.add(name, 0.9)
    again = Accuracies.model_validate_json(accuracy.model_dump_json())
    assert again.model_dump()[name] == 0.9
    assert again == accuracy
    assert Accuracies().model_dump().get(name) is None
