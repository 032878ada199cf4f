"""`rramhil prune`: small weights made zero, the ratio given or searched on validation images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramhil.cli import complete
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, Quiet
from rramhil.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.nn.data import DataSet
    from rramhil.nn.network import Network
    from rramhil.nn.prune import Pruning, Trial
    from rramhil.nn.splits import Splits

FIRST, LAST, STEP = 0.3, 0.9, 0.1


def prune(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A trained network, by name or file.",
            autocompletion=complete.networks,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The .safetensors file to write.")
    ],
    ratio: Annotated[
        float | None, typer.Option("--ratio", help="The share of weights that become zero.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Look for the largest ratio within the budget.")
    ] = False,
    budget: Annotated[
        float,
        typer.Option("--budget", min=0, help="Points that validation images may lose in a search."),
    ] = 0.5,
    first: Annotated[
        float, typer.Option("--first", help="The ratio a search begins with.")
    ] = FIRST,
    last: Annotated[float, typer.Option("--last", help="The largest ratio of a search.")] = LAST,
    method: Annotated[str, typer.Option("--method", help="magnitude or admm.")] = "magnitude",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs of each ratio (default: the data's).")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="Training images, evenly taken (default: all)."),
    ] = None,
    scale: Annotated[
        str,
        typer.Option("--scale", help="Of the mapping that the card measures: layer or column."),
    ] = "layer",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of order and images.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="The folder of all data sets.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make small weights zero and train the others on; write a network file."""
    _check(out, ratio, search, first, last, scale)
    from rramhil.nn.data import load_data
    from rramhil.nn.network import load_network
    from rramhil.nn.prune import SETTINGS, Pruning
    from rramhil.nn.splits import make_splits

    dense = load_network(network)
    settings = SETTINGS.get(dense.card.data, Pruning(0.5))
    settings = replace(settings, ratio=first if ratio is None else ratio, seed=seed)
    settings = replace(settings, epochs=settings.epochs if epochs is None else epochs)
    settings = replace(settings, method=method)  # type: ignore[arg-type]
    data = load_data(dense.card.data, folder)
    splits = make_splits(data, dense.card.split_seed)
    words = f"rramhil prune {network}"
    words += f" --search --budget {budget:g} --first {first:g} --last {last:g}" if search else ""
    words += "" if ratio is None else f" --ratio {ratio:g}"
    words += f" --images {images}" if images else ""
    words += f" --seed {seed}" if seed else ""
    words += f" --scale {scale}" if scale != "layer" else ""
    terminal = Terminal(json=json, quiet=quiet)
    work = _Work(dense, data, splits, settings, images, scale, words, out, terminal)
    work.search(budget, last) if search else work.once()
    work.finish()


def _check(
    out: Path, ratio: float | None, search: bool, first: float, last: float, scale: str
) -> None:
    if (ratio is None) != search:
        raise UsageError(
            "give either --ratio 0.6, the share of weights that become zero, or --search, which "
            "looks for the largest that validation images allow"
        )
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out} does not end with .safetensors, as a network file does")
    if out.exists():
        raise UsageError(f"{out} exists and is not overwritten; name another file")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} into; make it first")
    if scale not in ("layer", "column"):
        raise UsageError(f"--scale {scale!r} is neither layer nor column")
    if search and not 0 < first <= last:
        raise UsageError(f"a search cannot begin at {first:g} and end at {last:g}; raise --last")


@dataclass(slots=True)
class _Work:
    """One call of the command: what was tried, and the best network so far."""

    dense: Network
    data: DataSet
    splits: Splits
    settings: Pruning
    images: int | None
    scale: str
    words: str
    out: Path
    terminal: Terminal
    trials: list[Trial] = field(default_factory=list)
    best: Trial | None = None

    def once(self) -> None:
        """Prune to the ratio that was given."""
        from rramhil.nn.network import accuracy_of
        from rramhil.nn.prune import Trial
        from rramhil.nn.prune import prune as pruned

        with Bar(self.terminal, f"ratio {self.settings.ratio:g}") as bar:
            for epoch in pruned(self.dense, self._train(), self.settings, bar.report):
                self.terminal.say(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}")
        accuracy = accuracy_of(epoch.network, self._validation())
        lost = 100 * (self._dense_accuracy() - accuracy)
        self.best = Trial(self.settings.ratio, accuracy, lost, True, epoch.network)
        self.trials.append(self.best)

    def search(self, budget: float, last: float) -> None:
        """Try rising ratios; the best so far is written after each that holds."""
        from rramhil.nn.prune import search as searched
        from rramhil.nn.prune import whole_sparsity

        settings = self.settings
        done = whole_sparsity(self.dense)
        if "dense_validation" in self.dense.card.accuracy and done >= settings.ratio:
            following = round(done + STEP, 2)
            if following > last:
                raise UsageError(
                    f"{self.dense.card.name} has {done:.0%} zeros already, so that the next ratio "
                    f"is {following:g}, beyond --last {last:g}; raise --last"
                )
            settings = replace(settings, ratio=following)
        with Bar(self.terminal, "search") as bar:
            for trial in searched(
                self.dense,
                self._train(),
                self._validation(),
                settings,
                budget,
                STEP,
                last=last,
                dense_accuracy=self._dense_accuracy(),
                watch=bar.report,
            ):
                self.trials.append(trial)
                verdict = "within" if trial.within else "beyond"
                self.terminal.say(
                    f"ratio {trial.ratio:g}: {trial.loss_points:+.2f} points on validation images, "
                    f"{verdict} the budget of {budget:g}"
                )
                if trial.within:
                    self.best = trial
                    self._write({})
        if self.best is None:
            raise UsageError(
                f"no ratio from {settings.ratio:g} on stays within {budget:g} points of the "
                "validation images; lower --first, raise --budget or give more --epochs"
            )

    def finish(self) -> None:
        """Measure the network that is kept, once, write it, and answer."""
        from rramhil.nn.judged import judged
        from rramhil.nn.prune import sparsity, whole_sparsity

        assert self.best is not None
        network = self.best.network
        accuracy = judged(network, self.data, self.splits, self.scale)  # type: ignore[arg-type]
        self._write(accuracy)
        document = {
            "file": self.out,
            "sparsity": whole_sparsity(network),
            "layers": sparsity(network),
            "trials": [
                {"ratio": t.ratio, "validation": t.accuracy, "loss_points": t.loss_points,
                 "within": t.within} for t in self.trials
            ],
            "accuracy": accuracy,
        }  # fmt: skip
        self.terminal.answer(document, lambda out: self._show(out, document))
        self.terminal.say(f"to use it: [network] name = '{self.out}' in a job file")

    def _show(self, out: Console, document: dict[str, Any]) -> None:
        from rramhil.cli.terminal import table

        rows = [[name, f"{100 * share:.1f} %"] for name, share in document["layers"].items()]
        rows.append(["network", f"{100 * document['sparsity']:.1f} %"])
        out.print(table(("layer", "zeros"), rows, numbers=1))
        out.print(f"{self.out}  test {100 * document['accuracy']['teacher_test']:.2f} %",
                  markup=False, soft_wrap=True)  # fmt: skip

    def _write(self, accuracy: dict[str, float]) -> None:
        from rramhil.nn.network import Network, save_network

        assert self.best is not None
        network, card = self.best.network, self.dense.card
        held = {k: v for k, v in card.accuracy.items() if k.startswith("validation_at_")}
        held |= {f"validation_at_{t.ratio:g}": round(t.accuracy, 6) for t in self.trials}
        held["dense_validation"] = round(self._dense_accuracy(), 6)
        settings = self.settings
        text = (
            f"{card.recipe}; pruned: {settings.method} to {self.best.ratio:g}, "
            f"epochs {settings.epochs}, learning_rate {settings.learning_rate:g}, "
            f"seed {settings.seed}"
        )
        update = {
            "name": self.out.stem,
            "script": f"{self.words} --method {settings.method} --epochs {settings.epochs}",
            "recipe": text,
            "accuracy": held | accuracy,
        }
        part = self.out.with_suffix(".part")
        kept = Network(card.model_copy(update=update), network.weights, network.biases)
        save_network(kept, part)
        part.replace(self.out)

    def _dense_accuracy(self) -> float:
        from rramhil.nn.network import accuracy_of

        known = self.dense.card.accuracy.get("dense_validation")
        return accuracy_of(self.dense, self._validation()) if known is None else known

    def _train(self) -> Any:
        from rramhil.nn.network import images_of

        train = self.splits.train
        every = max(len(train) // self.images, 1) if self.images else 1
        return images_of(self.data, train[::every])

    def _validation(self) -> Any:
        from rramhil.nn.network import images_of

        return images_of(self.data, self.splits.validation)


class Bar:
    """A bar of training steps on a terminal; nothing elsewhere."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        import rich.progress as rich

        self._bars = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=28),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(compact=True),
            console=terminal.err,
            disable=terminal.quiet or not terminal.err.is_terminal,
            transient=True,
        )
        self._task = self._bars.add_task(title, total=None)

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def report(self, done: int, total: int) -> None:
        """Called after each training step."""
        self._bars.update(self._task, completed=done, total=total)
