"""`rramhil train`: what it writes, how it stops and goes on, what it refuses before it begins."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from cli_calls import Call, error_of, json_of

from rramhil.nn.network import load_network
from rramhil.nn.train_integer import IntegerTraining

SHORT = ("--network", "digits", "--data", "digits", "--epochs", "2", "--batch", "100")


def test_it_writes_a_network_that_says_what_it_is(rramhil: Call, tmp_path: Path) -> None:
    settings, out = tmp_path / "train.toml", tmp_path / "mine.safetensors"
    settings.write_text('network = "digits"\ndata = "digits"\nweights = 4\nepochs = 9\nseed = 5\n')
    words = ("train", str(settings), "--epochs", "1", "--batch", "100", "--out", str(out))
    told = json_of(rramhil(*words, "--json", "--quiet"))
    network = load_network(out)
    assert told["sha256"] == network.sha256
    assert told["accuracy"] == network.card.accuracy
    assert told["accuracy"]["ideal_mapping_test"] == told["accuracy"]["teacher_test"]
    assert (network.card.name, network.card.seed, network.is_integer) == ("mine", 5, True)
    assert "weights 4" in network.card.recipe
    assert "epochs 1," in network.card.recipe
    assert list(tmp_path.glob("*.checkpoint")) == []


def test_ctrl_c_leaves_a_checkpoint_from_which_the_same_file_comes(
    rramhil: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    assert rramhil("train", *SHORT, "--out", str(whole), "--quiet").exit_code == 0
    step = IntegerTraining._step

    def interrupted(own: IntegerTraining, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        if own.done == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return step(own, pixels, labels)

    monkeypatch.setattr(IntegerTraining, "_step", interrupted)
    stopped = rramhil("train", *SHORT, "--out", str(out), "--json")
    assert stopped.exit_code == 130
    assert json_of(stopped)["steps_done"] == 13
    assert "--resume" in stopped.stderr
    assert not out.exists()
    monkeypatch.undo()
    again = rramhil("train", *SHORT, "--out", str(out))
    assert "go on with --resume, or delete it" in error_of(again)
    other = rramhil("train", *SHORT, "--seed", "1", "--out", str(out), "--resume")
    assert "belongs to other settings" in error_of(other)
    assert rramhil("train", *SHORT, "--out", str(out), "--resume", "-q").exit_code == 0
    one, two = load_network(whole), load_network(out)
    assert one.card.layers == two.card.layers
    assert all(torch.equal(one.weights[n], two.weights[n]) for n in one.weights)
    assert one.card.accuracy == two.card.accuracy


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--out", "net.pt"), "let its name end with .safetensors"),
        (("--out", "nowhere/net.safetensors"), "there is no folder"),
        (("--resume",), "to go on from; leave --resume out"),
        (("--network", "lenet"), "no network 'lenet'; did you mean 'lenet5'?"),
        (("--weights", "3"), "weights"),
        (("--activation-bits", "9"), "activation_bits"),
        (("--epochs", "0"), "epochs"),
        (("--data", "digits"), "lenet5 do not fit the images of digits"),
        (("none.toml",), "there is no file none.toml"),
        (("--rename", "fc3:46"), "is not LAYER=ROWS"),
        (("--rename", "fc4=46"), "'fc4', which is no layer"),
        (("--data", "mnist"), "rramhil data fetch mnist"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    rramhil: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = rramhil("train", *words)
    assert refused.exit_code != 0
    assert sentence in error_of(refused)
    assert list(tmp_path.iterdir()) == []


def test_files_are_neither_lost_nor_taken_for_checkpoints(rramhil: Call, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"dear to somebody")
    assert "name another file with --out" in error_of(rramhil("train", *SHORT, "--out", str(out)))
    assert out.read_bytes() == b"dear to somebody"
    out.unlink()
    Path(f"{out}.checkpoint").write_bytes(b"no checkpoint")
    damaged = rramhil("train", *SHORT, "--out", str(out), "--resume")
    assert "is no checkpoint, or a damaged one" in error_of(damaged)
