"""The page on networks: its examples run, and its table says what the cards say."""

import doctest
from pathlib import Path

from rramhil.nn.network import load_network, network_names

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"


def test_examples_of_the_page_give_what_it_says() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 4
    assert result.failed == 0


def test_the_table_says_what_the_cards_say() -> None:
    told = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    rows = []
    for name in network_names():
        network = load_network(name)
        count = sum(weight.numel() for weight in network.weights.values())
        teacher, ideal = (network.card.accuracy[f"{k}_test"] for k in ("teacher", "ideal_mapping"))
        rows.append(
            f"| `{name}` | {network.card.data} | {count:,} | {100 * teacher:.2f} "
            f"| {100 * ideal:.2f} |"
        )
    assert [" |".join(line.split(" |")[:5]) + " |" for line in told] == rows
