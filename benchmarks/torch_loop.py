"""GRU4Rec's training as a plain PyTorch loop: the peer that ours is measured against.

    python -m benchmarks.torch_loop ITEMS UNITS LANES NEGATIVES STEPS [CASE]     # e.g. 2933 100 32 2048 500

The same synthetic sessions, the same semantics: one table for input and output, state carried and detached, one set of negatives for
each update, Adagrad with momentum that moves only the table rows in use. All that CASE leaves beside the sizes (loss, dropout, rate ...)
is read from its preset; `reference` by default. Uses the GPU where there is one.

Dimensions: lanes, dim of item rows = units, n negatives.
"""

import sys
import time
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from benchmarks.train_throughput import CASES, options_of, synthetic_sessions
from jaxrec.data.lanes import plan_lanes
from jaxrec.learning.recipe import Recipe
from jaxrec.learning.train import Sessions

LINES = 4
"""Rates that are printed; the first is of a cold start."""


class Popularity(NamedTuple):
    """What draws the negatives and takes their popularity out of the scores again.

    Attributes:
      edges: running sum of popularity^alpha, [items] float64.
      target_offset, drawn_offset: added to the score of an item as target and as negative, [items].
    """

    edges: torch.Tensor
    target_offset: torch.Tensor
    drawn_offset: torch.Tensor


class Adagrad:
    """Adagrad from an accumulator of zero, with classical momentum, for whole parameters or some of their rows."""

    def __init__(self, parameter: torch.Tensor, rate: float, momentum: float):
        self.parameter, self.rate, self.momentum = parameter, rate, momentum
        self.squares = torch.zeros_like(parameter)
        self.velocity = torch.zeros_like(parameter) if momentum else None

    def update(self, gradient: torch.Tensor) -> None:
        """Move the whole parameter."""
        self.squares.addcmul_(gradient, gradient)
        move = self.rate * gradient * torch.rsqrt(self.squares + 1e-6)
        if self.velocity is not None:
            move = self.velocity.mul_(self.momentum).add_(move)
        self.parameter.data.sub_(move)

    def update_rows(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Move the named rows only; they are distinct."""
        squares = self.squares[rows].addcmul_(gradient, gradient)
        self.squares[rows] = squares
        move = self.rate * gradient * torch.rsqrt(squares + 1e-6)
        if self.velocity is not None:
            move = self.velocity[rows].mul_(self.momentum).add_(move)
            self.velocity[rows] = move
        self.parameter.index_add_(0, rows, move, alpha=-1)


class Loop:
    """A model in training.

    Args:
      counts: clicks of each item, [items].
      lanes: what the summed loss is divided by.
    """

    def __init__(self, recipe: Recipe, counts: np.ndarray, units: int, lanes: int, negatives: int, device: str):
        self.recipe, self.lanes, self.negatives, self.device = recipe, lanes, negatives, device
        self.popularity = _popularity(recipe, counts, device)
        self.cell = torch.nn.GRUCell(units, units, device=device)
        for parameter in self.cell.parameters():
            bound = (3 / units) ** 0.5 if parameter.ndim == 2 else 0.0
            torch.nn.init.uniform_(parameter, -bound, bound)
        bound = (6 / (len(counts) + units)) ** 0.5
        self.table = torch.empty(len(counts), units, device=device).uniform_(-bound, bound)
        self.bias = torch.zeros(len(counts), device=device)
        rate, momentum = recipe.optimizer.learning_rate, recipe.optimizer.momentum
        self.table_adagrad, self.bias_adagrad = Adagrad(self.table, rate, momentum), Adagrad(self.bias, rate, momentum)
        self.dense = [Adagrad(parameter, rate, momentum) for parameter in self.cell.parameters()]
        self.hidden = torch.zeros(lanes, units, device=device)

    def draw(self) -> torch.Tensor:
        """Negatives of one update, [n]."""
        place = torch.rand(self.negatives, dtype=torch.float64, device=self.device) * self.popularity.edges[-1]
        return torch.searchsorted(self.popularity.edges, place, right=True).clamp_(max=len(self.table) - 1)

    def step(
        self, inputs: torch.Tensor, targets: torch.Tensor, reset: torch.Tensor, live: torch.Tensor, drawn: torch.Tensor
    ) -> torch.Tensor:
        """One update from a step of all lanes, [lanes] each, and negatives [n]; returns the loss."""
        columns, counts = torch.cat([targets, drawn]), torch.cat([live, torch.ones_like(drawn, dtype=torch.bool)])
        used, moves = torch.cat([inputs, columns]), torch.cat([live, counts])
        rows, bias = self.table[used].requires_grad_(), self.bias[columns].requires_grad_()
        offset = torch.cat([self.popularity.target_offset[targets], self.popularity.drawn_offset[drawn]])
        loss = self._loss(rows, bias + offset, reset, counts)
        loss.backward()
        with torch.no_grad():
            self.table_adagrad.update_rows(*merge(used[moves], rows.grad[moves]))
            self.bias_adagrad.update_rows(*merge(columns[counts], bias.grad[counts]))
            for dense in self.dense:
                dense.update(dense.parameter.grad)
                dense.parameter.grad = None
        return loss.detach()

    def _loss(self, rows: torch.Tensor, bias: torch.Tensor, reset: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Rows of the inputs, then of the columns: targets of all lanes, then negatives; `counts` says which columns count."""
        run, live = self.recipe.run, counts[: self.lanes]
        inputs = functional.dropout(rows[: self.lanes], run.dropout_p_embed)
        hidden = functional.dropout(self.cell(inputs, self.hidden * ~reset[:, None]), run.dropout_p_hidden)
        self.hidden = hidden.detach()
        scores = hidden @ rows[self.lanes :].T + bias
        losses = _cross_entropy(scores, counts) if self.recipe.loss.loss == "cross-entropy" else self._bpr_max(scores, counts)
        return torch.where(live, losses, 0.0).sum() / self.lanes

    def _bpr_max(self, scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        elu, bpreg = self.recipe.loss.elu_param, self.recipe.loss.bpreg
        scores = functional.elu(scores, elu) if elu else scores
        own = torch.eye(*scores.shape, dtype=torch.bool, device=self.device)
        shares = torch.softmax(scores.masked_fill(own | ~counts, -torch.inf), 1)
        likely = (shares * torch.sigmoid(scores.diagonal()[:, None] - scores)).sum(1)
        return -torch.log(likely + 1e-24) + bpreg * (shares * scores**2).sum(1)


def merge(items: torch.Tensor, gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct items and the sum of the gradients of each."""
    distinct, place = torch.unique(items, return_inverse=True)
    return distinct, gradients.new_zeros(len(distinct), *gradients.shape[1:]).index_add_(0, place, gradients)


def _cross_entropy(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Of each lane with its own target, [lanes], where the target of lane i is column i."""
    targets = torch.arange(len(scores), device=scores.device)
    own = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    return functional.cross_entropy(scores.masked_fill(~(counts | own), -torch.inf), targets, reduction="none")


def _popularity(recipe: Recipe, counts: np.ndarray, device: str) -> Popularity:
    alpha, logq = recipe.loss.sample_alpha, recipe.loss.logq
    counts = torch.from_numpy(counts).to(device, torch.float64)
    offset = (-logq * torch.log(counts)).float()
    return Popularity(torch.cumsum(counts**alpha, 0), offset, alpha * offset)


def train(loop: Loop, sessions: Sessions, steps: int) -> tuple[float, float]:
    """(seconds, mean loss of a step) of `steps` updates on sessions that fill at least so many."""
    plan = plan_lanes(sessions.items, sessions.offsets, loop.lanes)
    items, mask, reset = (torch.from_numpy(part).to(loop.device) for part in plan)
    began, total = time.perf_counter(), torch.zeros((), device=loop.device)
    for place in range(min(steps, len(items))):
        total += loop.step(items[place, :, 0].long(), items[place, :, 1].long(), reset[place, :, 0], mask[place, :, 0], loop.draw())
    loss = total.item() / min(steps, len(items))  # waits for the device, so that the time is whole
    return time.perf_counter() - began, loss


def fastest_threads(loop: Loop, sessions: Sessions, steps: int = 10) -> int:
    """One thread or all: small products, or other work on the machine, can make all the slower choice by far."""
    seconds = {}
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        train(loop, sessions, steps)
        seconds[threads] = min(train(loop, sessions, steps)[0] for _ in range(3))
    return min(seconds, key=seconds.get)


def main() -> None:
    items, units, lanes, negatives, steps = map(int, sys.argv[1:6])
    _, recipe = options_of(CASES[sys.argv[6] if len(sys.argv) > 6 else "reference"])
    sessions = synthetic_sessions(items, lanes, steps)
    loop = Loop(recipe, sessions.counts, units, lanes, negatives, "cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(fastest_threads(loop, sessions))
    print(f"{torch.get_num_threads()} threads")
    for _ in range(LINES):
        seconds, loss = train(loop, sessions, steps)
        events = sessions.items.size - len(sessions.offsets) + 1
        print(f"{steps / seconds:,.1f} updates/s, {events / seconds:,.0f} events/s, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
