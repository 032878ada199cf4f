"""The loop recovers, chooses by validation, repeats itself and can be stopped anywhere."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from digits_network import accuracy, array_of, images, mapped, network

from rramhil.nn.network import Images
from rramhil.recover.loop import Epoch, adapt, best
from rramhil.recover.places import Computed, from_readback
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation

SHORT = RsaSettings(epochs=4)


def recover(array: Computed, settings: RsaSettings) -> tuple[Computed, list[Epoch]]:
    recovery = random_sparse_adaptation(settings, array)
    epochs = list(adapt(recovery, network(), array, images("train"), images("validation")))
    return best(recovery, array, epochs[-1].checkpoint), epochs


@pytest.mark.parametrize(
    ("sigma", "stuck_lrs", "stuck_hrs", "at_least_lost"),
    [(0.5, 0.0, 0.0, 0.05), (0.3, 0.002, 0.008, 0.02)],
    ids=["multiplicative 0.5", "with stuck cells"],
)
def test_rsa_comes_back_to_the_ideal_mapping(
    sigma: float, stuck_lrs: float, stuck_hrs: float, at_least_lost: float
) -> None:
    ideal = accuracy(from_readback(network(), mapped().ideal_weights()))
    assert abs(ideal - accuracy()) <= 0.01
    before, after = [], []
    for die in range(3):
        array = array_of(die, sigma, stuck_lrs, stuck_hrs)
        before.append(accuracy(array))
        after.append(accuracy(recover(array, RsaSettings(seed=die))[0]))
    assert ideal - np.mean(before) >= at_least_lost
    assert ideal - np.mean(after) <= 0.015


def test_only_masked_weights_and_biases_change_and_the_array_does_not() -> None:
    array = array_of(0, 0.5)
    copies = {name: weight.clone() for name, weight in array.weights.items()}
    repaired, _ = recover(array, SHORT)
    changed = total = 0
    for name, weight in array.weights.items():
        assert torch.equal(weight, copies[name])
        assert torch.equal(array.biases[name], network().biases[name])
        changed += int((repaired.weights[name] != weight).sum())
        total += weight.numel()
    assert 0.04 * total < changed <= 0.05 * total


def test_the_same_seed_gives_the_same_answer_whatever_torch_drew_before() -> None:
    array = array_of(1, 0.5)
    torch.manual_seed(1)
    _, first = recover(array, SHORT)
    torch.manual_seed(2)
    _, again = recover(array, SHORT)
    _, other = recover(array, SHORT.model_copy(update={"seed": 9}))
    assert [epoch.loss for epoch in first[1:]] == [epoch.loss for epoch in again[1:]]
    assert first[-1].loss != other[-1].loss


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_stopping_and_resuming_changes_nothing(stop_after: int) -> None:
    array = array_of(2, 0.5)
    recovery = random_sparse_adaptation(SHORT.model_copy(update={"gains": True}), array)
    learn = (recovery, network(), array, images("train"), images("validation"))
    whole = list(adapt(*learn))
    stopped = list(islice(adapt(*learn), stop_after + 1))[-1]
    rest = list(adapt(*learn, checkpoint=stopped.checkpoint))
    assert [epoch.number for epoch in rest] == list(range(stop_after + 1, 5))
    assert rest[-1].checkpoint.keys() == whole[-1].checkpoint.keys()
    for key, values in whole[-1].checkpoint.items():
        np.testing.assert_array_equal(rest[-1].checkpoint[key], values)
    assert list(adapt(*learn, checkpoint=whole[-1].checkpoint)) == []


def test_moved_images_are_learnt_from_and_come_back_after_a_stop() -> None:
    array = array_of(0, 0.5)
    still = random_sparse_adaptation(SHORT.model_copy(update={"label_share": 0.0}), array)
    moved = replace(still, schedule=replace(still.schedule, shift=1, mirror=True))
    rest_of = (network(), array, images("train", 200), images("validation"))
    plain, whole = list(adapt(still, *rest_of)), list(adapt(moved, *rest_of))
    rest = list(adapt(moved, *rest_of, checkpoint=whole[2].checkpoint))
    assert [epoch.loss for epoch in rest] == [epoch.loss for epoch in whole[3:]]
    assert all(a.loss != b.loss for a, b in zip(plain[1:], whole[1:], strict=True))
    assert whole[-1].loss < 0.8 * whole[1].loss


def test_the_teacher_answers_the_images_as_they_were_moved() -> None:
    """An array without error gives what the teacher gives, on any image."""
    exact = from_readback(network(), network().matrices())
    still = random_sparse_adaptation(SHORT.model_copy(update={"label_share": 0.0}), exact)
    schedule = replace(still.schedule, epochs=1, learning_rate=1e-9, shift=2, mirror=True)
    moved = replace(still, schedule=schedule)
    *_, last = adapt(moved, network(), exact, images("train", 100), images("validation", 50))
    assert last.loss < 1e-5
    with pytest.raises(ValueError, match="moved by 0 pixels or more, not by -1"):
        replace(schedule, shift=-1)


def test_the_epoch_that_counts_is_the_best_on_validation() -> None:
    array = array_of(0, 0.5)
    _, epochs = recover(array, RsaSettings(epochs=6))
    accuracies = [epoch.validation_accuracy for epoch in epochs]
    assert epochs[-1].best_accuracy == max(accuracies) == accuracies[epochs[-1].best]
    repaired, epochs = recover(array, RsaSettings(epochs=2, learning_rate=1e4))
    assert epochs[-1].best == 0
    for name, weight in array.weights.items():
        assert torch.equal(repaired.weights[name], weight)


def test_labels_alone_and_no_labels_at_all_both_recover() -> None:
    array = array_of(0, 0.5)
    before = accuracy(array)
    for share in (0.0, 1.0):
        repaired, _ = recover(array, RsaSettings(epochs=10, label_share=share))
        assert accuracy(repaired) > before + 0.03


def test_what_does_not_fit_is_refused() -> None:
    array = array_of(0, 0.5)
    recovery = random_sparse_adaptation(SHORT, array)
    none = Images(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one of each"):
        next(adapt(recovery, network(), array, none, images("validation")))
    mnist = Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="takes images of shape"):
        next(adapt(recovery, network(), array, mnist, images("validation")))
    first = next(adapt(recovery, network(), array, images("train"), images("validation")))
    other = random_sparse_adaptation(RsaSettings(fraction=0.01), array)
    learn = (network(), array, images("train"), images("validation"))
    with pytest.raises(ValueError, match="checkpoint is of another recovery"):
        next(adapt(other, *learn, checkpoint=first.checkpoint))
    with pytest.raises(ValueError, match="at least one epoch"):
        type(recovery.schedule)(0, 1e-3, 50, 0)
