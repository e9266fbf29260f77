"""Muon: against PyTorch's own where it has one, Adam for the rest, runs that resume bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_loader import Blocks
from test_train_run import config, same, weights
from torch import nn

from apisr.networks import build
from apisr.train.muon import Muon, inner_matrices, orthogonalized
from apisr.train.trainer import train


def layers(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 2))


def give_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_values_become_about_one_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    left, _, right = np.linalg.svd(matrix[0].numpy().astype(np.float64), full_matrices=False)
    result = orthogonalized(matrix)[0].numpy().astype(np.float64)
    values = np.diag(left.T @ result @ right.T)
    assert 0.5 < values.min() <= values.max() < 1.3
    np.testing.assert_allclose(result, left @ np.diag(values) @ right, atol=1e-4)


def test_rows_without_gradient_do_not_move() -> None:
    matrix = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(2))
    matrix[0, 3] = 0
    assert orthogonalized(matrix)[0, 3].abs().max() == 0
    assert orthogonalized(torch.zeros(1, 4, 4)).abs().max() == 0


def test_inner_matrices_leave_out_the_first_and_the_last() -> None:
    network = build("compact", {"scale": 2, "features": 8, "depth": 2, "activation": "prelu"})
    convolutions = [weight for weight in network.parameters() if weight.ndim == 4]
    assert [id(weight) for weight in inner_matrices(network)] == [id(weight) for weight in convolutions[1:-1]]


def test_steps_are_those_of_pytorch() -> None:
    """PyTorch iterates in bfloat16, which moves the smallest singular values."""
    ours, theirs = layers(3), layers(3)
    optimizer = Muon(ours, 1e-2, betas=(0.9, 0.99))
    inner = inner_matrices(theirs)
    chosen = {id(weight) for weight in inner}
    rest = [weight for weight in theirs.parameters() if id(weight) not in chosen]
    before = [weight.detach().clone() for weight in theirs.parameters()]
    muon = torch.optim.Muon(inner, lr=1e-2, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(rest, lr=1e-2, betas=(0.9, 0.99))
    for number in range(3):
        give_gradients(ours, number)
        give_gradients(theirs, number)
        for each in (optimizer, muon, adam):
            each.step()
    for mine, other, start in zip(ours.parameters(), theirs.parameters(), before, strict=True):
        way, wanted = mine.detach() - start, other.detach() - start
        assert float((way - wanted).norm() / wanted.norm()) < 0.05


def test_weights_decay() -> None:
    module = layers(4)
    before = [weight.detach().clone() for weight in module.parameters()]
    optimizer = Muon(module, 0.5, weight_decay=0.1)
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for weight, start in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), start * 0.95)


def test_a_run_learns_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    sets = ["optimizer.kind=muon", "optimizer.lr=2e-3", "checkpoint.every=3"]
    whole = train(config(tmp_path, "run.name=whole", "run.steps=6", *sets), source=Blocks())
    train(config(tmp_path, "run.name=parts", "run.steps=3", *sets), source=Blocks())
    parts = train(config(tmp_path, "run.name=parts", "run.steps=6", *sets), source=Blocks(), resume=True)
    adam = train(config(tmp_path, "run.name=adam", "run.steps=6", "optimizer.lr=2e-3"), source=Blocks())
    assert same(weights(whole), weights(parts))
    assert not same(weights(whole), weights(adam))
