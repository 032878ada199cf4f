"""`rramhil train`: a network of integers alone, from a file or from the words of a command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramhil.cli import complete
from rramhil.cli.errors import STOPPED, UsageError
from rramhil.cli.options import Json, Quiet
from rramhil.cli.progress import view_for
from rramhil.cli.stop import Stop
from rramhil.cli.terminal import Terminal, print_facts, unbroken

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.nn.data import DataSet
    from rramhil.nn.train_integer import IntegerSettings, IntegerTraining, Tick
    from rramhil.session import Progress


def train(
    settings: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A TOML file of settings; options go before it."),
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Layers by name: lenet5 (default), digits.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The data set.", autocompletion=complete.data_sets),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="The folder of all data sets.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Bits of a weight: 1, 2, 4, 8; or ternary.")
    ] = None,
    activation_bits: Annotated[
        int | None, typer.Option("--activation-bits", help="Bits of an activation, 1 to 8.")
    ] = None,
    input_bits: Annotated[
        int | None, typer.Option("--input-bits", help="Bits of a pixel (default: as activations).")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the images.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At the start; it falls to 0.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Images a step.")] = None,
    shift: Annotated[
        int | None, typer.Option("--shift", help="Images are moved by up to so many pixels.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of all that is drawn.")] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="LAYER=ROWS", help="Merge a layer's rows half-way."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Where the network is written."),
    ] = Path("network.safetensors"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was stopped.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network of integers: weights of few bits, activations that are codes.

    Ctrl-C leaves FILE.checkpoint; the same command with --resume goes on from it.
    """
    given = {
        "network": network,
        "data": data,
        "weights": weights,
        "activation_bits": activation_bits,
        "input_bits": input_bits,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch": batch,
        "shift": shift,
        "seed": seed,
        "rename": dict(map(layer_rows, rename)) if rename else None,
    }
    kept = Path(f"{out}.checkpoint")
    check_paths(out, kept, resume)
    wanted = read_settings(settings, {k: v for k, v in given.items() if v is not None})
    terminal = Terminal(json=json, quiet=quiet)
    Session(wanted, folder, out, kept, terminal).carry_out(resume)


def layer_rows(text: str) -> tuple[str, int]:
    """A layer and its number of rows from LAYER=ROWS. Raises `UsageError`."""
    name, _, rows = text.partition("=")
    if not name or not rows.isdecimal():
        raise UsageError(f"--rename {text} is not LAYER=ROWS; write for example --rename fc3=46")
    return name, int(rows)


def check_paths(out: Path, kept: Path, resume: bool) -> None:
    """Raise `UsageError` where a file would be lost, or could not be written or read later."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out} is no network file; let its name end with .safetensors")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.absolute().parent}; make it, or change --out")
    if out.exists():
        raise UsageError(f"{out} exists; name another file with --out, or delete it")
    if kept.exists() and not resume:
        raise UsageError(
            f"{kept} is of a training that was stopped; go on with --resume, or delete it"
        )
    if resume and not kept.exists():
        raise UsageError(f"there is no {kept} to go on from; leave --resume out")


def read_settings(path: Path | None, given: dict[str, Any]) -> IntegerSettings:
    """What the file says, with the options in place of its values. Raises `FileError`."""
    from rramhil.nn.train_integer import IntegerSettings
    from rramhil.schema import check, read_toml

    table = {} if path is None else read_toml(path)
    return check(
        {**table, **given}, IntegerSettings, "rramhil train" if path is None else str(path)
    )


class Session:
    """One training: its data, its checkpoint, and what it writes in the end."""

    def __init__(
        self,
        settings: IntegerSettings,
        folder: Path | None,
        out: Path,
        kept: Path,
        terminal: Terminal,
    ) -> None:
        from rramhil.nn.data import load_data
        from rramhil.nn.splits import make_splits
        from rramhil.nn.train_integer import IntegerTraining, card_of

        self.out, self.kept, self.terminal = out, kept, terminal
        self.data: DataSet = load_data(settings.data, folder)
        self.splits = make_splits(self.data, settings.split_seed)
        try:
            card = card_of(settings, self.data, out.name.removesuffix(".safetensors"))
        except ValueError as error:
            raise UsageError(
                f"the layers of {settings.network} do not fit the images of {settings.data} "
                f"({error}); give another --network or --data"
            ) from None
        self.training: IntegerTraining = IntegerTraining(settings, card)

    def carry_out(self, resume: bool) -> None:
        """Train, then measure and write; or leave a checkpoint when asked to stop."""
        from rramhil.nn.repeatable import repeatable

        if resume:
            self._restore()
        with repeatable():
            stopped = self._train()
            document = self._so_far() if stopped else self._finish()
        self.terminal.answer(document, self._shown(document))
        if stopped:
            self.terminal.say(f"stopped; go on with the same command and --resume ({self.kept})")
            raise typer.Exit(STOPPED)

    def _train(self) -> bool:
        """Whether it was stopped before its end."""
        from rramhil.nn.network import images_of

        images, validation = (
            images_of(self.data, indices) for indices in (self.splits.train, self.splits.validation)
        )
        self._began, self._done_before = time.monotonic(), self.training.done
        stop = Stop()
        last: Tick | None = None
        with view_for(self.terminal) as view, stop.telling(view.tell):
            for tick in self.training.run(images, validation):
                last = tick
                view.watch(self._progress(tick))
                if tick.validation is not None:
                    self._keep()
                if stop.asked():
                    break
        if last is not None and last.done < last.steps:
            self._keep()
            return True
        return False

    def _progress(self, tick: Tick) -> Progress:
        from rramhil.session import Progress

        best = self.training.best
        text = f"loss {tick.loss:.3f}"
        text += f", validation {100 * best:.2f} % at best" if best else ""
        text += f", {self._time_left(tick)} left"
        epochs = self.training.settings.epochs
        a_epoch = tick.steps // epochs
        done = tick.done - (tick.epoch - 1) * a_epoch
        return Progress(tick.epoch - 1, epochs, f"epoch {tick.epoch}", done, a_epoch, text)

    def _time_left(self, tick: Tick) -> str:
        a_step = (time.monotonic() - self._began) / (tick.done - self._done_before)
        minutes, seconds = divmod(round(a_step * (tick.steps - tick.done)), 60)
        return f"{minutes} min" if minutes else f"{seconds} s"

    def _keep(self) -> None:
        import torch

        partial = Path(f"{self.kept}.part")
        torch.save(self.training.state(), partial)
        partial.replace(self.kept)

    def _restore(self) -> None:
        import pickle

        import torch

        try:
            state = torch.load(self.kept, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise UsageError(
                f"{self.kept} is no checkpoint, or a damaged one; delete it to train from scratch"
            ) from None
        self.training.restore(state)

    def _so_far(self) -> dict[str, Any]:
        training = self.training
        return {
            "checkpoint": self.kept,
            "steps_done": training.done,
            "best_epoch": training.best_epoch or None,
            "validation": training.best if training.best_epoch else None,
        }

    def _finish(self) -> dict[str, Any]:
        from rramhil.nn.network import Network, load_network, save_network
        from rramhil.nn.train_integer import measured

        self.training.choose_best()
        network = self.training.exported()
        accuracy = measured(network, self.data, self.splits)
        card = network.card.model_copy(update={"accuracy": accuracy})
        partial = self.out.with_suffix(".part.safetensors")
        save_network(Network(card, network.weights, network.biases), partial)
        partial.replace(self.out)
        self.kept.unlink(missing_ok=True)
        return {
            "network": self.out,
            "sha256": load_network(self.out).sha256,
            "best_epoch": self.training.best_epoch,
            "accuracy": accuracy,
            "cpu_seconds": round(time.process_time()),
        }

    def _shown(self, document: dict[str, Any]) -> Any:
        def show(out: Console) -> None:
            facts = dict(document)
            facts |= {f"{k} accuracy": v for k, v in facts.pop("accuracy", {}).items()}
            print_facts(out, {name.replace("_", " "): _told(v) for name, v in facts.items()})

        return show


def _told(value: Any) -> str:
    return unbroken(f"{100 * value:.2f} %") if isinstance(value, float) else str(value)
