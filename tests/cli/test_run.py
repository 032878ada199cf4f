"""`run` and its kin around a stand-in for a run: what is shown, the exit codes, how to go on."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import typer
from cli_calls import json_of, made_up_result
from typer.testing import CliRunner, Result

from rramhil import cli
from rramhil.cli.app import Commands
from rramhil.cli.errors import FAILED, STOPPED, WRONG_INPUT
from rramhil.cli.run import Executable, carry_out, finish, with_seed
from rramhil.cli.terminal import Terminal
from rramhil.cost import Cost
from rramhil.device import LinkLost, Refused
from rramhil.job.file import load_job
from rramhil.job.result import RunResult
from rramhil.schema import FileError
from rramhil.session import Progress

Work = Callable[[Callable[[Progress], None], Callable[[], bool]], RunResult]


class StandIn:
    """A run whose work is a function."""

    run = "20260101-120000-quickstart-ab12"

    def __init__(self, work: Work, ledger: str = "/nowhere/ledger.sqlite") -> None:
        self.work = work
        self.result = made_up_result(outcome="running", ledger=ledger)

    def execute(
        self, watch: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> RunResult:
        return self.work(watch, should_stop)


def command(work: Work, *words: str, ledger: str = "/nowhere/ledger.sqlite") -> Result:
    """What `rramhil run` does with a run that does `work`."""
    return command_of(StandIn(work, ledger), *words)


def command_of(run: Executable, *words: str) -> Result:
    """What `rramhil run` does with `run`."""
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.callback()
    def top() -> None:
        """A group."""

    @app.command("go")
    def go(json: bool = False, quiet: bool = False) -> None:
        terminal = Terminal(json=json, quiet=quiet)
        finish(carry_out(run, terminal), terminal)

    return CliRunner().invoke(app, ["go", *words])


def two_steps(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
    watch(Progress(0, 2, "scan", 1, 4, "tile 0"))
    watch(Progress(1, 2, "rsa", 0, 0, ""))
    return made_up_result()


def test_a_finished_run_ends_with_the_table_and_what_to_do_next() -> None:
    result = command(two_steps)
    assert result.exit_code == 0
    shown = result.stdout.replace("\N{NARROW NO-BREAK SPACE}", " ").replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for text in ("Teacher", "97.0 %", "R-V-W", "12 345", "warning: a remark with [brackets]"):
        assert text in shown
    for text in ("/nowhere/report.html", "--head " + "ab" * 32, "rramhil replay 2026"):
        assert text in result.stdout
    assert "[1/2] scan: 1 of 4 (tile 0)" in result.stderr
    assert "[2/2] rsa\n" in result.stderr


def test_with_json_stdout_is_the_result_and_nothing_else() -> None:
    result = command(two_steps, "--json")
    assert RunResult.model_validate(json_of(result)) == made_up_result()
    assert "[1/2] scan" in result.stderr


def test_quiet_is_quiet() -> None:
    assert command(two_steps, "--quiet").stderr == ""


def stopped_by(number: signal.Signals) -> Work:
    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        assert not should_stop()
        signal.raise_signal(number)
        return made_up_result(outcome="stopped" if should_stop() else "finished")

    return work


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_and_says_how_to_go_on(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    result = command(stopped_by(number))
    assert result.exit_code == STOPPED
    assert "press Ctrl-C again to stop at once" in capfd.readouterr().err
    assert f"go on with: rramhil resume {StandIn.run}" in result.stderr


def test_a_stopped_run_is_json_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    result = command(stopped_by(signal.SIGINT), "--json")
    assert result.exit_code == STOPPED
    assert json_of(result)["outcome"] == "stopped"


def test_a_second_ctrl_c_ends_at_once_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    safe: list[str] = []

    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        try:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)  # a third one must not stop the outputs going off
            safe.append("off")
        return made_up_result()

    result = command(work)
    assert result.exit_code == STOPPED
    assert safe == ["off"]
    assert (
        "error: stopped at once, outputs are off\n"
        f"go on with: rramhil resume {StandIn.run}\n" in result.stderr
    )
    assert "Traceback" not in result.stderr + capfd.readouterr().err


def test_signals_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    command(two_steps)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_run_that_breaks_says_how_to_go_on() -> None:
    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        raise LinkLost("the board fell silent", [1])

    result = command(work, "--json")
    assert result.exit_code == FAILED
    assert "error: the board fell silent (1 cell was" in result.stderr
    error = json_of(result)["error"]
    assert (error["kind"], error["doubtful_cells"]) == ("LinkLost", 1)
    assert error["remedy"] == f"rramhil resume {StandIn.run}"
    assert f"go on with: {error['remedy']}\n" in result.stderr


@pytest.mark.parametrize(
    "error", [Refused("5 V is outside 0 to 4 V"), FileError("the file is gone")]
)
@pytest.mark.parametrize(("pulses", "code"), [(0, WRONG_INPUT), (7, FAILED)])
def test_exit_code_2_means_that_nothing_was_sent(error: Exception, pulses: int, code: int) -> None:
    run = StandIn(two_steps)

    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        run.result.steps[0].cost = Cost(pulses=pulses)
        raise error

    run.work = work
    result = command_of(run, "--json")
    assert result.exit_code == code
    said = json_of(result)["error"]
    assert (said["kind"], said["exit_code"]) == (type(error).__name__, code)


def test_what_breaks_after_the_second_ctrl_c_is_still_a_stop(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise LinkLost("the outputs were switched off under this call") from None
        return made_up_result()

    result = command(work)
    assert result.exit_code == STOPPED
    assert "error: stopped at once, outputs are off\n" in result.stderr


def test_a_run_that_never_reached_a_device_is_not_to_be_resumed() -> None:
    def work(watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> RunResult:
        raise LinkLost("there is no /dev/ttyUSB0")

    result = command(work, ledger="")
    assert result.stderr == "error: there is no /dev/ttyUSB0\n"


def test_a_failed_result_fails() -> None:
    assert command(lambda watch, stop: made_up_result(outcome="failed")).exit_code == FAILED


@pytest.mark.parametrize("head", ['name = "x"\nseed = 3   # old\n', 'name = "x"\n'])
def test_another_seed_is_in_the_job_and_in_its_text(head: str) -> None:
    rest = 'network = { name = "digits" }\ndata = { name = "digits" }\n[[steps]]\ndo = "scan"\n'
    job, text = with_seed(head + rest, 41, "job.toml")
    assert job.seed == 41
    assert text.count("seed") == 1


def test_another_seed_of_the_shipped_job() -> None:
    job, text = load_job("quickstart")
    other, changed = with_seed(text, job.seed + 1, "quickstart")
    assert other == job.model_copy(update={"seed": job.seed + 1})
    assert len(changed.splitlines()) == len(text.splitlines())


def test_one_more_ctrl_c_when_all_is_over_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", late)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == STOPPED
