"""Updates and events per second of global training, everything included: dropout, momentum, drawing negatives.

    python -m benchmarks.train_throughput                            # all cases
    python -m benchmarks.train_throughput --case=reference --quick   # the reference, in about a minute
    python -m benchmarks.train_throughput --case=reference --peer_program=sparse_rows.py

Options are those of the published GRU4Rec parameter files in `configs/`, indices are synthetic and as skewed as clicks are. `items10k` and
`items4m` are `reference` with more items, which an update computes no more for: only its memory is further apart. `full...` are
`reference` with a softmax over all of so many items instead of over samples: up to about 4,000 that costs no more.

A peer trains the same shapes in turn with ours: `benchmarks.torch_loop` where PyTorch is installed, and for the reference any program
that is given. It is run as PROGRAM ITEMS UNITS LANES NEGATIVES STEPS and must print lines with "N events/s"; the first is left out.
"""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.presets import preset_lines, read_options
from benchmarks.recording import matmul_gflops, median_seconds, parser, record
from jaxrec.learning.losses import FULL
from jaxrec.learning.negatives import Sampler, draw_items, sampler
from jaxrec.learning.recipe import Recipe
from jaxrec.learning.train import Sessions, fit
from jaxrec.models.recommender import Model, ModelOptions

SESSION = 5
"""Events of a session."""


class Case(NamedTuple):
    """What is trained.

    Attributes:
      preset: a file of `configs/`.
      items: how many there are.
      changes: flags that replace those of the preset.
    """

    preset: str
    items: int
    changes: tuple[str, ...] = ()


CASES = {
    "reference": Case("gru4rec_rsc15", 2_933),  # the items of the 100k sample
    "units512": Case("gru4rec_diginetica", 33_646, ("--loss=cross-entropy", "--sample_alpha=0.5", "--logq=1")),
    "items10k": Case("gru4rec_rsc15", 10_000),
    "items4m": Case("gru4rec_rsc15", 4_000_000),
    "full1k": Case("gru4rec_rsc15", 1_000, ("--loss=full",)),
    "full4k": Case("gru4rec_rsc15", 4_096, ("--loss=full",)),
    "full8k": Case("gru4rec_rsc15", 8_192, ("--loss=full",)),
    # Items of the training parts, as known from the literature and not counted here; Coveo's are rounded, for want of a source.
    "rsc15": Case("gru4rec_rsc15", 37_483),
    "yoochoose": Case("gru4rec_yoochoose", 37_483),
    "rees46": Case("gru4rec_rees46", 172_756),
    "coveo": Case("gru4rec_coveo", 11_000),
    "retailrocket": Case("gru4rec_retailrocket", 36_968),
    "diginetica": Case("gru4rec_diginetica", 43_097),
}


TURNS = (*["reference"] * 5, "units512", *["items10k", "items4m"] * 3, *list(CASES)[4:])
"""Cases in the order in which they are run: those that a bound is about several times, and in turn where two are compared."""


def options_of(case: Case) -> tuple[ModelOptions, Recipe]:
    """The options that a case trains with: its preset's, then its own."""
    return read_options([*preset_lines(case.preset), *case.changes])


def synthetic_sessions(items: int, lanes: int, updates: int) -> Sessions:
    """Sessions that fill an epoch of so many updates; the n-th most popular item is clicked about 1 / n as often as the first."""
    generator = np.random.default_rng(0)
    sessions = updates * lanes // (SESSION - 1)
    rank = (items + 1.0) ** generator.random(sessions * SESSION) - 1
    clicked = generator.permutation(items).astype(np.int32)[np.minimum(rank.astype(np.int64), items - 1)]
    return Sessions(clicked, np.arange(sessions + 1) * SESSION, np.bincount(clicked, minlength=items) + 1)


def run_case(name: str, updates: int) -> dict:
    """Train on synthetic sessions; a row of the results."""
    case = CASES[name]
    model_options, recipe = options_of(case)
    data = synthetic_sessions(case.items, recipe.run.lanes, updates)
    recipe = Recipe(recipe.loss, recipe.optimizer, dataclasses.replace(recipe.run, report_updates=updates // 8))
    with tempfile.TemporaryDirectory() as folder:
        # One epoch: in the next the checkpoint of this one would be written beside it, gigabytes where items are many.
        fit(Model(model_options, case.items), recipe, data, Path(folder), epochs=1, name=name)
        events = _events_per_second(Path(folder))
    rate, product = events / recipe.run.lanes, matmul_gflops()
    gflops = rate * _operations(model_options, recipe, case.items) / 1e9
    source = sampler(data.counts, recipe.loss.sample_alpha, recipe.loss.logq)
    drawing = drawing_seconds(source, recipe.loss.n_sample) if _drawn(case) else 0.0
    return _shape(name) | {
        "updates_per_s": rate,
        "events_per_s": events,
        "gflops": gflops,
        "matmul_gflops": product,
        "gflops_of_matmul": gflops / product,
        "drawing_of_update": drawing * rate,
    }


def _events_per_second(folder: Path) -> float:
    """Median over the parts of the run, as for peers: the first touches memory that was never used."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return float(np.median([line["events_per_s"] for line in lines if "events_per_s" in line]))


def _shape(name: str) -> dict:
    model, recipe = options_of(CASES[name])
    sizes = {"items": CASES[name].items, "units": model.units[-1], "lanes": recipe.run.lanes, "n_sample": _drawn(CASES[name])}
    return {"case": name} | sizes


def _drawn(case: Case) -> int:
    """Negatives of an update; none where the loss is over all items."""
    loss = options_of(case)[1].loss
    return 0 if loss.for_items(case.items) == FULL else loss.n_sample


def _operations(model: ModelOptions, recipe: Recipe, items: int) -> int:
    """Floating-point operations of the matrix products of an update: forward, and twice that backward.

    Backward, the softmax over all items computes its scores once more.
    """
    lanes, units = recipe.run.lanes, model.units[-1]
    if recipe.loss.for_items(items) == FULL:
        return 2 * lanes * units * (3 * 6 * units + 4 * items)
    return 3 * 2 * lanes * units * (6 * units + lanes + recipe.loss.n_sample)


def drawing_seconds(source: Sampler, n: int, draws: int = 200) -> float:
    """Seconds that drawing the negatives of one update takes by itself."""

    @jax.jit
    def draw(source, key):
        def once_more(number, seen):
            return seen ^ draw_items(source, jax.random.fold_in(key, number), n)

        return jax.lax.fori_loop(0, draws, once_more, jnp.zeros(n, jnp.int32))

    return median_seconds(lambda: draw(source, jax.random.key(0)), 5) / draws


def run_peer(command: list[str], name: str, updates: int, options: tuple[str, ...] = ()) -> dict:
    """The same shapes by another program, with `options` after the sizes; a row of the results."""
    shape = _shape(name)
    sizes = [str(shape[size]) for size in ("items", "units", "lanes", "n_sample")]
    done = subprocess.run([sys.executable, *command, *sizes, str(updates), *options], stdout=subprocess.PIPE, text=True, check=True)
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,.]+) events/s", done.stdout)][1:]
    events = float(np.median(rates))
    return shape | {"peer": Path(command[-1]).name, "updates_per_s": events / shape["lanes"], "events_per_s": events}


def in_turn(name: str, updates: int, torch: bool, program: str | None) -> list[dict]:
    """A row of ours, then one of each peer, with what ours does for each event of the peer's."""
    ours = run_case(name, updates)
    peers = [run_peer(["-m", "benchmarks.torch_loop"], name, updates // 8, (name,))] if torch and _drawn(CASES[name]) else []
    if program and name == "reference":
        peers.append(run_peer([program], name, updates // 8))
    return [ours, *(peer | {"ours_to_peer": ours["events_per_s"] / peer["events_per_s"]} for peer in peers)]


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--peer_program", help="one more program to compare the reference with")
    given = flags.parse_args()
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        print("benchmarks.torch_loop is left out: PyTorch is not installed (pip install jaxrec[bench])")
    updates, turns = (1000, tuple(CASES)) if given.quick else (4000, TURNS)
    turns = [name for name in turns if given.case in (None, name)]
    rows = [row for name in turns for row in in_turn(name, updates, torch, given.peer_program)]
    record(given, "train_throughput", rows)


if __name__ == "__main__":
    main()
