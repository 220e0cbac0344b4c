"""Users per second of fine-tuning, by backend and number of users per compiled call.

    python -m benchmarks.personalize_throughput                            # all cases
    python -m benchmarks.personalize_throughput --case=reference --quick   # the reference, in about a minute

`reference`: 48 interactions in 8 sessions of 6 as one block, 5 epochs = 5 updates, 64-dimension table, 100 units, dense head,
128 negatives, no hold-out. `default`: the default options, two learning rates to choose from, on 4 blocks of 4 x 8 steps, the last held
out. `curve`: `reference` for more and more users by the same program.

Every row says what bounds it: `gflops` are those of the matrix products alone, `products_gflops` the rate of just these products, as many
users at once, and `matmul_gflops` that of large ones; `floor_s` is the time that `users` would take if nothing but large products, or
nothing but moving personal parameters through memory once an update, took any.

Where PyTorch is installed, its loop over users and its `torch.func` train the reference in turn with ours.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recording import matmul_gflops, median_seconds, parser, record
from jaxrec.data.blocks import Block
from jaxrec.data.user_blocks import UserEvents
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions
from jaxrec.learning.personalize import Personal, no_advice, personal_sampler, personalize, resolve_backend
from jaxrec.models.recommender import Model, ModelOptions, bytes_of

ITEMS, DIM, UNITS = 37_000, 64, 100
MODEL = Model(ModelOptions(units=(UNITS,), embedding_dim=DIM), ITEMS)


class Case(NamedTuple):
    """What a user trains on: blocks of rows x steps, all of it predictions; with a hold-out the last block is held out."""

    training: PersonalOptions
    choice: ChoiceOptions
    blocks: int
    rows: int
    steps: int


REFERENCE = Case(
    PersonalOptions(personal_epochs=5, personal_n_sample=128, personal_learning_rates=(0.01,)), ChoiceOptions(holdout_fraction=0.0), 1, 8, 6
)
DEFAULT = Case(PersonalOptions(personal_learning_rates=(0.003, 0.01)), ChoiceOptions(), 4, 4, 8)
CASES = {"reference": REFERENCE, "default": DEFAULT, "curve": REFERENCE}

WIDTHS = {"cpu": (32, 256)}
"""Users per compiled call, by platform."""

LARGE = (256, 1024, 4096)
CURVE = (1_000, 10_000, 100_000)


class Machine(NamedTuple):
    """Rates of large work: matrix products in GFLOP/s, memory in GB/s."""

    matmul_gflops: float
    memory_gbs: float


def work_of(case: Case, backend: str, width: int, calls: int = 1) -> Callable[[], Personal]:
    """Fine-tuning of `width` users, so many times over; what the last call gave."""
    shared, start = MODEL.split(MODEL.init(jax.random.key(0)))
    source = personal_sampler(np.ones(ITEMS), case.training)
    events = events_of(case, width)
    fit = partial(personalize, MODEL, case.training, case.choice, shared, start, source, no_advice(case.training))
    return lambda: [fit(events._replace(user=events.user + call * width), backend)[1] for call in range(calls)][-1]


def events_of(case: Case, width: int) -> UserEvents:
    """Full blocks of random items; the hold-out, where one is asked for, is the last of them."""
    shape = (width, case.blocks, case.rows, case.steps)
    items = np.random.default_rng(0).integers(0, ITEMS, (*shape[:-1], case.steps + 1)).astype(np.int32)
    whole = Block(items, np.ones(shape, bool), np.zeros(shape, bool))
    whole.reset[..., 0] = True
    late = np.zeros(shape, bool)
    late[:, -1] = case.choice.holdout_fraction > 0
    return UserEvents(np.arange(width, dtype=np.int32), whole, late)


def products_of(case: Case) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Matrix products (m, k, n) of an update, forward and then what its backward pass adds: frozen rows need no gradient."""
    (_, _, _, rows, steps), negatives = case, case.training.personal_n_sample
    all_rows = rows * steps
    forward = [
        (all_rows, DIM, 3 * UNITS),
        *[(rows, UNITS, 3 * UNITS)] * steps,
        (all_rows, UNITS, DIM),
        (all_rows, DIM, negatives),
    ]
    backward = [
        (all_rows, negatives, DIM),
        (all_rows, DIM, UNITS),
        (UNITS, all_rows, DIM),
        *[(rows, 3 * UNITS, UNITS)] * steps,
        (UNITS, all_rows, 3 * UNITS),
        (DIM, all_rows, 3 * UNITS),
    ]
    return forward, backward


def operations_of(case: Case, epochs: float) -> float:
    """Floating-point operations of the products that fine-tune one user, who trains `epochs` after choosing."""
    forward, backward = (sum(2 * m * k * n for m, k, n in part) for part in products_of(case))
    tried = len(case.training.personal_learning_rates) * case.training.personal_epochs * bool(case.choice.holdout_fraction)
    held = bool(tried)
    return (forward + backward) * (tried * (case.blocks - held) + epochs * case.blocks) + forward * held * (1 + tried)


def products_gflops(case: Case, backend: str, width: int, repeats: int = 20) -> float:
    """Rate of the products of an update alone, one after another as an update has them, for `width` users as the backend runs them."""
    shapes = [shape for part in products_of(case) for shape in part]

    def of_user(scale: jax.Array) -> jax.Array:
        pairs = [(jnp.full((m, k), scale), jnp.full((k, n), scale)) for m, k, n in shapes]

        def once_more(_, pairs):
            # Each result changes a number of its operand, so that no product can be left out or done once for all.
            return [(a.at[0, 0].set((a @ b)[0, 0] * 1e-3), b) for a, b in pairs]

        return sum(a[0, 0] for a, _ in jax.lax.fori_loop(0, repeats, once_more, pairs))

    in_order = resolve_backend(backend) == "map"
    run, threads = jax.jit(partial(jax.lax.map, of_user) if in_order else jax.vmap(of_user)), os.cpu_count() if in_order else 1
    users = jnp.linspace(0.0, 1.0, width // threads)
    with ThreadPoolExecutor(threads) as cores:
        seconds = median_seconds(lambda: list(cores.map(lambda _: jax.block_until_ready(run(users)), range(threads))), 3)
    return sum(2 * m * k * n for m, k, n in shapes) * repeats * len(users) * threads / seconds / 1e9


def measure_machine() -> Machine:
    """How fast this machine is where nothing but products, or nothing but memory, matters."""
    large = jnp.ones(2**26)
    copy = jax.jit(lambda x: x + 1)
    return Machine(matmul_gflops(), 2 * large.nbytes / median_seconds(lambda: copy(large), 5) / 1e9)


def run_case(name: str, backends: list[tuple[str, int]], users: int, machine: Machine, runs: int) -> list[dict]:
    """Fine-tune `users` users by each (backend, width), and the reference by the peers too, in turn; rows of the results."""
    case = CASES[name]
    ours = {how: work_of(case, *how, -(-users // how[1])) for how in backends}
    peers = peers_of_reference() if name == "reference" else {}
    seconds = seconds_in_turn(ours | {peer: work for peer, (_, work) in peers.items()}, runs)
    rows = [_row(name, *how, users, seconds[how], float(work().epochs.mean()), machine) for how, work in ours.items()]
    rates = {peer: number / seconds[peer] for peer, (number, _) in peers.items()}
    best = max(row["users_per_s"] for row in rows)
    return rows + [
        {"case": name, "users": peers[peer][0], "users_per_s": rate, "peer": peer, "ours_to_peer": best / rate}
        for peer, rate in rates.items()
    ]


def seconds_in_turn(works: dict[Hashable, Callable[[], object]], runs: int) -> dict[Hashable, float]:
    """Median time of each, all of them in turn, so that other work on the machine is the same for all; a first run is not counted."""
    found = {name: [] for name in works}
    for run in range(runs + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            found[name] += [time.perf_counter() - began] * (run > 0)
    return {name: float(np.median(seconds)) for name, seconds in found.items()}


def _row(name: str, backend: str, width: int, users: int, seconds: float, epochs: float, machine: Machine) -> dict:
    case, users = CASES[name], -(-users // width) * width
    operations, products = operations_of(case, epochs), products_gflops(case, backend, width)
    gflops = users / seconds * operations / 1e9
    return {
        "case": name,
        "users": users,
        "users_per_s": users / seconds,
        "backend": resolve_backend(backend),
        "width": width,
        "gflops": gflops,
        "products_gflops": products,
        "matmul_gflops": machine.matmul_gflops,
        "gflops_of_products": gflops / products,
        "gflops_of_matmul": gflops / machine.matmul_gflops,
        "floor_s": users * max(operations / machine.matmul_gflops, _bytes_of(case, epochs) / machine.memory_gbs) / 1e9,
    }


def _bytes_of(case: Case, epochs: float) -> float:
    """Bytes that fine-tuning of one user moves at least: parameters and their accumulator, read and written once an update."""
    tried = len(case.training.personal_learning_rates) * case.training.personal_epochs * bool(case.choice.holdout_fraction)
    updates = tried * (case.blocks - bool(tried)) + epochs * case.blocks
    return 4 * updates * bytes_of(MODEL.split(jax.eval_shape(MODEL.init, jax.random.key(0)))[1])


def peers_of_reference() -> dict[str, tuple[int, Callable[[], object]]]:
    """By name of the peer how many users it trains like the reference, and what does it; none without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is left out: it is not installed (pip install jaxrec[bench])")
        return {}
    from benchmarks.torch_personal import peers

    return peers(ITEMS, DIM, UNITS, REFERENCE.rows, REFERENCE.steps, REFERENCE.training)


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    widths, machine = WIDTHS.get(jax.default_backend(), LARGE), measure_machine()
    backends = [("auto", max(widths))] if given.quick else [(backend, width) for backend in ("map", "vmap") for width in widths]
    rows = []
    for case in [given.case] if given.case else CASES:
        if case == "curve":
            numbers = CURVE[:1] if given.quick else CURVE
            rows += [row for users in numbers for row in run_case(case, [("auto", max(widths))], users, machine, 1)]
        else:
            rows += run_case(case, backends, max(widths), machine, 3 if given.quick else 5)
    record(given, "personalize_throughput", rows)


if __name__ == "__main__":
    main()
