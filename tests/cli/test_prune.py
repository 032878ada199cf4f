"""`rramhil prune`: a network file that says what was done to it, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.nn.network import load_network
from rramhil.nn.prune import whole_sparsity


def test_a_given_ratio_makes_a_network_file(rramhil: Call, tmp_path: Path) -> None:
    out = tmp_path / "half.safetensors"
    result = rramhil(
        "prune", "digits", "--ratio", "0.5", "--epochs", "4", "--out", str(out), "--json"
    )
    assert result.exit_code == 0, result.stderr
    answer = json_of(result)
    network = load_network(out)
    assert (
        answer["sparsity"] == pytest.approx(whole_sparsity(network)) == pytest.approx(0.5, abs=1e-3)
    )
    assert network.card.name == "half"
    assert "magnitude to 0.5" in network.card.recipe
    assert network.card.split_seed == load_network("digits").card.split_seed
    assert network.card.accuracy["teacher_test"] == answer["accuracy"]["teacher_test"] > 0.9


def test_a_search_tells_every_ratio_and_can_go_on_from_its_file(
    rramhil: Call, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    words = ("--search", "--budget", "20", "--epochs", "2", "--json")
    answer = json_of(
        rramhil("prune", "digits", *words, "--first", "0.3", "--last", "0.4", "--out", str(first))
    )
    assert [trial["ratio"] for trial in answer["trials"]] == [0.3, 0.4]
    further = json_of(rramhil("prune", str(first), *words, "--last", "0.5", "--out", str(second)))
    assert [trial["ratio"] for trial in further["trials"]] == [0.5]
    accuracy = load_network(second).card.accuracy
    assert {"validation_at_0.3", "validation_at_0.4", "validation_at_0.5"} <= set(accuracy)
    assert accuracy["dense_validation"] == load_network(first).card.accuracy["dense_validation"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give either --ratio"),
        (("--ratio", "0.5", "--search"), "give either --ratio"),
        (("--ratio", "1.5"), "outside 0 to"),
        (("--ratio", "0.5", "--method", "adm"), "did you mean 'admm'"),
        (("--ratio", "0.5", "--epochs", "1"), "two epochs"),
        (("--ratio", "0.5", "--scale", "row"), "neither layer nor column"),
        (("--search", "--first", "0.8", "--last", "0.5"), "cannot begin at 0.8"),
        (("--ratio", "0.5", "--epochs", "0"), "two epochs"),
        (
            (
                "--search",
                "--first",
                "0.95",
                "--last",
                "0.96",
                "--budget",
                "0",
                "--epochs",
                "2",
                "-q",
            ),
            "no ratio from",
        ),
    ],
)
def test_wrong_words_are_one_sentence_and_no_file(
    rramhil: Call, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    out = tmp_path / "x.safetensors"
    result = rramhil("prune", "digits", *words, "--out", str(out))
    assert result.exit_code == 2
    assert told in error_of(result)
    assert not out.exists()


def test_a_search_beyond_its_last_ratio_says_so(rramhil: Call, tmp_path: Path) -> None:
    out = str(tmp_path / "x.safetensors")
    words = ("--search", "--first", "0.3", "--last", "0.5", "--out", out)
    result = rramhil("prune", "digits-pruned", *words)
    assert result.exit_code == 2
    assert "has 50% zeros already" in error_of(result)
    assert "beyond --last 0.5; raise --last" in error_of(result)


def test_a_file_that_is_there_is_not_overwritten(rramhil: Call, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    out.write_text("mine")
    assert "not overwritten" in error_of(
        rramhil("prune", "digits", "--ratio", "0.5", "--out", str(out))
    )
    assert out.read_text() == "mine"
    other = str(tmp_path / "x.pt")
    assert ".safetensors" in error_of(rramhil("prune", "digits", "--ratio", "0.5", "--out", other))
