"""Fine-tuning of users in plain PyTorch: the peers that ours is measured against.

`fit_one` is the loop over users that anyone would write first; `fit_together` runs the same mathematics for many users at once, as
`torch.func` does it. Both train the last GRU layer and the dense head against a frozen table, by Adagrad from an accumulator of zero.

Dimensions: U users, E updates of a user, rows x T of its block, n negatives of an update.
"""

import time
from collections.abc import Callable, Mapping

import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from jaxrec.learning.personal_recipe import PersonalOptions

Parameters = Mapping[str, torch.Tensor]

TOGETHER = {"cpu": 32, "cuda": 4096}
"""Users that `torch.func` trains at once; on CPUs more of them leave the cache."""


class Recommender(torch.nn.Module):
    """One GRU layer and a dense head, with the scores of targets and negatives.

    Args:
      cell: whether the layer is written out in products, as `torch.func` needs; otherwise it is torch's own.
    """

    def __init__(self, dim: int, units: int, cell: bool = False):
        super().__init__()
        self.gru = torch.nn.GRU(dim, units, batch_first=True)
        self.dense = torch.nn.Linear(units, dim)
        self.cell = cell

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor, negatives: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Mean loss of rows of inputs and targets [rows, T, dim] against negatives [n, dim], whose scores get an offset [n]."""
        hidden = self._run(inputs) if self.cell else self.gru(inputs)[0]
        vectors = self.dense(hidden).flatten(0, 1)
        scores = torch.cat([(vectors * targets.flatten(0, 1)).sum(1, keepdim=True), vectors @ negatives.T + offset], 1)
        return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))

    def _run(self, inputs: torch.Tensor) -> torch.Tensor:
        gru, hidden, outputs = self.gru, inputs.new_zeros(len(inputs), self.gru.hidden_size), []
        projected = inputs @ gru.weight_ih_l0.T + gru.bias_ih_l0
        for step in projected.unbind(1):
            reset, update, candidate = step.chunk(3, 1)
            from_reset, from_update, from_candidate = (hidden @ gru.weight_hh_l0.T + gru.bias_hh_l0).chunk(3, 1)
            update = torch.sigmoid(update + from_update)
            candidate = torch.tanh(candidate + torch.sigmoid(reset + from_reset) * from_candidate)
            hidden = (1 - update) * candidate + update * hidden
            outputs.append(hidden)
        return torch.stack(outputs, 1)


def adagrad(parameter: torch.Tensor, squares: torch.Tensor, gradient: torch.Tensor, rate: float) -> None:
    """Move a parameter in place."""
    squares.addcmul_(gradient, gradient)
    parameter.sub_(gradient * torch.rsqrt(squares + 1e-6), alpha=rate)


def fit_one(
    start: Parameters, table: torch.Tensor, items: torch.Tensor, negatives: torch.Tensor, offset: torch.Tensor, rate: float
) -> Parameters:
    """Fine-tune one user, an update for each set of negatives.

    Args:
      table: [items, dim].
      items: events of the user's sessions, [rows, T + 1].
      negatives: [E, n].
      offset: added to the score of an item as negative, [items].
    """
    units = start["dense.weight"].shape[1]
    model = Recommender(table.shape[1], units).to(table.device)
    model.load_state_dict(start)
    squares = [torch.zeros_like(parameter) for parameter in model.parameters()]
    inputs, targets = table[items[:, :-1]], table[items[:, 1:]]
    for drawn in negatives:
        model.zero_grad()
        model(inputs, targets, table[drawn], offset[drawn]).backward()
        with torch.no_grad():
            for parameter, square in zip(model.parameters(), squares, strict=True):
                adagrad(parameter, square, parameter.grad, rate)
    return model.state_dict()


def fit_together(
    start: Parameters, table: torch.Tensor, items: torch.Tensor, negatives: torch.Tensor, offset: torch.Tensor, rate: float
) -> Parameters:
    """`fit_one` for users side by side: items [U, rows, T + 1], negatives [U, E, n] -> parameters [U, ...]."""
    model = Recommender(table.shape[1], start["dense.weight"].shape[1], cell=True).to(table.device)
    own = {name: part.expand(len(items), *part.shape).clone() for name, part in start.items()}
    squares = {name: torch.zeros_like(part) for name, part in own.items()}

    def loss(own: Parameters, *block: torch.Tensor) -> torch.Tensor:
        return functional_call(model, own, block)

    gradients = vmap(grad_and_value(loss))
    inputs, targets = table[items[..., :-1]], table[items[..., 1:]]
    for drawn in negatives.unbind(1):
        found, _ = gradients(own, inputs, targets, table[drawn], offset[drawn])
        for name, part in own.items():
            adagrad(part, squares[name], found[name], rate)
    return own


def peers(items: int, dim: int, units: int, rows: int, steps: int, options: PersonalOptions) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name how many users on random items are fine-tuned, and what does it, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = {name: part.detach() for name, part in Recommender(dim, units).to(device).named_parameters()}
    table, offset = torch.rand(items, dim, device=device) - 0.5, torch.zeros(items, device=device)
    events = torch.randint(items, (64 if device == "cpu" else 4096, rows, steps + 1), device=device)
    (rate,) = options.personal_learning_rates

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(items, (*shape, options.personal_epochs, options.personal_n_sample), device=device)

    def loop():
        return [fit_one(start, table, own, draw(), offset, rate) for own in events[:64]]

    def together():
        return [fit_together(start, table, own, draw(len(own)), offset, rate) for own in events.split(TOGETHER[device])]

    torch.set_num_threads(fastest_threads(loop))
    return {"torch loop": (64, loop), "torch.func vmap": (len(events), together)}


def fastest_threads(work: Callable[[], object]) -> int:
    """One thread or all: small products, or other work on the machine, can make all the slower choice by far."""
    seconds = {}
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        work()
        began = time.perf_counter()
        work()
        seconds[threads] = time.perf_counter() - began
    return min(seconds, key=seconds.get)
