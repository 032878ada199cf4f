"""Planning of rewrites: which weights, which cells, and what their writes will make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import Levels, find_scheme, map_network
from rramhil.mapping.network import MappedNetwork
from rramhil.nn.written import Kept, WriteErrors, WrittenNetwork, measure_errors
from rramhil.recover.places import Computed
from rramhil.recover.rewriting import RewrittenCells, cells_of, worst_weights, worth_writing

LEVELS = Levels(5, 0.0, 40e-6, 1e-6)
EXACT = WriteErrors(LEVELS.siemens, LEVELS.siemens, np.full(5, 1e-6))
NAN = float("nan")


def mapped(
    weights: list[list[float]], scheme: str, rows: dict[str, list[int]] | None = None
) -> MappedNetwork:
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    spec = Spec("any", "any", 1, 16, 16, reading, pulses={})
    matrix = {"fc": np.array(weights)}
    return map_network(matrix, spec, LEVELS, find_scheme(scheme), percentile=100, rows=rows)


def test_errors_are_measured_level_by_level_and_stuck_cells_do_not_count() -> None:
    random = np.random.default_rng(0)
    aimed = np.repeat(LEVELS.siemens[[0, 2, 4]], 4000)
    siemens = (aimed * (1 + 0.25 * random.standard_normal(aimed.size)) + 1e-6).astype(np.float32)
    good = random.random(aimed.size) < 0.7
    siemens[~good] = 90e-6
    siemens[:3] = np.nan
    errors = measure_errors(LEVELS, aimed, siemens, good)
    assert errors.aimed.tolist() == LEVELS.siemens[[0, 2, 4]].tolist()
    assert errors.middle == pytest.approx(errors.aimed + 1e-6, abs=0.4e-6)
    assert errors.spread == pytest.approx(0.25 * errors.aimed, abs=0.4e-6)
    landed = errors.landed(np.full(4000, 30e-6), random)
    assert landed.mean() == pytest.approx(31e-6, abs=0.5e-6)
    assert landed.std() == pytest.approx(7.5e-6, abs=0.5e-6)
    with pytest.raises(ValueError, match=r"only 1 of 5 levels have 16 good cells.*fewer levels"):
        measure_errors(LEVELS, aimed[:4000], siemens[:4000], good[:4000])


def test_a_stuck_cell_is_made_up_for_by_its_partner() -> None:
    network = mapped([[1.0, -0.5], [0.0, 0.5]], "two_column")
    stuck = np.full(8, NAN)
    stuck[1] = 20e-6  # the negative cell of the first weight
    written = WrittenNetwork(network, EXACT, stuck)
    weights = {"fc": torch.tensor([[0.5, -0.5], [0.0, 0.5]])}
    held = written.weights_from(written.landed(written.aimed(weights), None))
    assert torch.allclose(held["fc"], weights["fc"], atol=1e-6)
    unknown = WrittenNetwork(network, EXACT, stuck, known=False)
    held = unknown.weights_from(unknown.landed(unknown.aimed(weights), None))
    assert held["fc"][0, 0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scheme", ["two_column", "one_column"])
def test_the_gradient_goes_straight_through_levels_and_errors(scheme: str) -> None:
    written = WrittenNetwork(mapped([[1.0, -0.5]], scheme), EXACT, np.full(2 * 1, NAN))
    if scheme == "two_column":
        written = WrittenNetwork(written.mapped, EXACT, np.full(4, NAN))
    weight = torch.tensor([[0.6, -0.3]], requires_grad=True)
    drawn = written.drawn({"fc": weight}, np.random.default_rng(0))["fc"]
    assert not torch.allclose(drawn, weight, atol=1e-3)
    (drawn * torch.tensor([[2.0, 3.0]])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[2.0, 3.0]]


def test_freed_weights_are_drawn_anew_each_step_and_alike_each_epoch() -> None:
    written = WrittenNetwork(mapped([[1.0, -0.5]], "one_column"), EXACT, np.full(2, NAN))
    freed = {"fc": torch.tensor([[True, False]])}
    array = Computed({"fc": torch.tensor([[0.1, 0.2]])}, {})
    far = Kept(np.full(2, 90e-6), 1.0)
    place = RewrittenCells(written, freed, {"fc": torch.tensor([[1.0, -0.5]])}, far, True, 3)
    parameters = place.start(array)

    def draws(epoch: int) -> list[list[list[float]]]:
        place.begin(epoch)
        return [place.correct(parameters, array).weights["fc"].tolist() for _ in range(2)]

    first = draws(1)
    assert first[0] != first[1]
    assert first == draws(1)
    assert first != draws(2)
    assert all(row[0][1] == pytest.approx(0.2) for row in first)


def test_cells_near_their_targets_are_left_alone() -> None:
    written = WrittenNetwork(mapped([[1.0, -1.0, 0.0]], "one_column"), EXACT, np.full(3, NAN))
    weights = {"fc": torch.tensor([[1.0, -1.0, 0.0]])}
    aimed = written.aimed(weights)
    kept = Kept(aimed + np.array([0.5e-6, 2e-6, -3e-6]), 1.0)
    freed = {"fc": torch.tensor([[True, True, False]])}
    assert worth_writing(written, freed, kept, aimed).tolist() == [False, True, False]
    landed = written.landed(aimed, None, kept)
    assert landed == pytest.approx([aimed[0] + 0.5e-6, aimed[1], aimed[2]])
    assert worth_writing(written, freed, Kept(aimed, 0.0), aimed).tolist() == [True, True, False]
    stuck = WrittenNetwork(written.mapped, EXACT, np.array([1e-6, NAN, NAN]))
    assert cells_of(stuck, freed).tolist() == [False, True, False]


def test_the_worst_weights_of_all_layers() -> None:
    scores = {"a": torch.tensor([[1.0, 9.0]]), "b": torch.tensor([[8.0], [2.0], [3.0]])}
    freed = worst_weights(scores, 0.5)
    assert freed["a"].tolist() == [[False, True]]
    assert freed["b"].tolist() == [[True], [False], [False]]


def test_rows_that_share_cells_are_trained_and_written_together() -> None:
    """Each row's gradient goes through; what is written is their mean, for all rows at once."""
    start = [[1.0, 0.5], [0.0, -0.5], [1.0, 0.5]]
    network = mapped(start, "two_column", {"fc": [1, 0, 1]})
    written = WrittenNetwork(network, EXACT, np.full(8, NAN))
    freed = {"fc": torch.tensor([[True, False], [False, False], [False, False]])}
    assert cells_of(written, freed).tolist() == [False] * 4 + [True] * 2 + [False] * 2
    trained = torch.tensor([[0.75, 0.5], [0.5, -0.5], [0.25, 0.5]], requires_grad=True)
    place = RewrittenCells(
        written, freed, {"fc": torch.tensor(start)}, Kept(np.zeros(8), 0.0), noisy=False, seed=0
    )
    array = Computed({"fc": torch.tensor(start)}, {})
    held = place.correct({"fc": trained}, array).weights["fc"]
    expected = [[0.5, 0.5], [0.0, -0.5], [0.5, 0.5]]
    np.testing.assert_allclose(held.detach(), expected, atol=1e-6)
    held.sum().backward()
    assert trained.grad is not None
    assert trained.grad.tolist() == [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
