"""A second Ctrl-C that comes while a run ends: the run is noted as stopped all the same."""

from __future__ import annotations

import pytest
from test_run import nothing, start

from rramhil.connected import Connected
from rramhil.job.folder import RunFolder
from rramhil.run import Run, _connect


def test_an_interrupt_while_the_device_closes_leaves_a_stopped_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect_to(run: Run) -> Connected:
        device = _connect(run)
        whole = device.close

        def close() -> None:
            whole()
            raise KeyboardInterrupt

        monkeypatch.setattr(device, "close", close)
        return device

    run = start()
    with pytest.raises(KeyboardInterrupt):
        run.execute(nothing, lambda: True, connect_to)
    assert RunFolder.find(run.run).load_result().outcome == "stopped"


def test_an_interrupt_while_the_result_is_saved_leaves_a_stopped_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = start()
    whole, raised = run.folder_of.save_result, []

    def save(result: object) -> None:
        if run.result.outcome == "stopped" and not raised:
            raised.append(True)
            raise KeyboardInterrupt
        whole(run.result)

    monkeypatch.setattr(run.folder_of, "save_result", save)
    with pytest.raises(KeyboardInterrupt):
        run.execute(nothing, lambda: True)
    assert RunFolder.find(run.run).load_result().outcome == "stopped"
