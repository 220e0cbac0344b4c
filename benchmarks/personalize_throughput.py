"""Users per second of fine-tuning, by backend and number of users per compiled call.

    python -m benchmarks.personalize_throughput                            # all cases
    python -m benchmarks.personalize_throughput --case=reference --quick   # the reference, in about a minute

`reference`: 48 interactions in 8 sessions of 6 as one block, 5 epochs = 5 updates, 64-dimension table, 100 units, dense head,
128 negatives, no hold-out.
`default`: the default options on 4 blocks of 4 x 8 steps, hold-out included.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recording import matmul_gflops, median_seconds, parser, record
from jaxrec.data.blocks import Block
from jaxrec.learning.personalize import PersonalOptions, UserEvents, fit_users, personal_sampler
from jaxrec.models.recommender import Model, ModelOptions

ITEMS = 37_000
BLOCKS = {"reference": 1, "default": 4}
CASES = {
    "reference": PersonalOptions(personal_epochs=5, personal_n_sample=128, block_rows=8, block_steps=6, holdout_fraction=0.0),
    "default": PersonalOptions(),
}
WIDTHS = {"cpu": (32, 128, 512)}
LARGE = (256, 1024, 4096)


def run_case(case: str, backend: str, width: int, users: int, matmul: float) -> dict:
    """Fine-tune `users` users, `width` at a time; a row of the results."""
    options, model = CASES[case], Model(ModelOptions(units=(100,), embedding_dim=64), ITEMS)
    shared, start = model.split(model.init(jax.random.key(0)))
    source = personal_sampler(np.ones(ITEMS), options)
    events = _events(options, BLOCKS[case], width)

    def work():
        return [fit_users(model, options, shared, start, source, events, jnp.float32(0.01), backend) for _ in range(max(1, users // width))]

    rate = max(1, users // width) * width / median_seconds(work, 3)
    return {
        "case": case,
        "users": max(1, users // width) * width,
        "users_per_s": rate,
        "backend": backend,
        "width": width,
        "gflops": rate * _operations(options, BLOCKS[case]) / 1e9,
        "matmul_gflops": matmul,
    }


def _events(options: PersonalOptions, blocks: int, width: int) -> UserEvents:
    """Full blocks of random items; the hold-out, where one is asked for, is the last of them."""
    rows, steps = options.block_rows, options.block_steps
    items = np.random.default_rng(0).integers(0, ITEMS, (width, blocks, rows, steps + 1)).astype(np.int32)
    whole = Block(items, np.ones((width, blocks, rows, steps), bool), np.zeros((width, blocks, rows, steps), bool))
    whole.reset[..., 0] = True
    held = blocks - 1 if options.holdout_fraction else blocks
    first = whole._replace(mask=whole.mask & (np.arange(blocks) < held)[None, :, None, None])
    last = whole._replace(mask=whole.mask & (np.arange(blocks) >= held)[None, :, None, None])
    return UserEvents(np.arange(width, dtype=np.int32), first, last, whole)


def _operations(options: PersonalOptions, blocks: int) -> int:
    """Floating-point operations of the matrix products that fine-tune one user, forward and twice that backward; the hold-out trains
    once more."""
    positions = options.block_rows * options.block_steps
    update = 3 * 2 * positions * (64 * 300 + 100 * 300 + 100 * 64 + 64 * options.personal_n_sample)
    trained = blocks + (blocks - 1 if options.holdout_fraction else 0)
    return options.personal_epochs * trained * update


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    widths = WIDTHS.get(jax.default_backend(), LARGE)
    widths = widths[1:2] if given.quick else widths
    matmul = matmul_gflops()
    rows = []
    for case in [given.case] if given.case else CASES:
        for backend in ("vmap", "map"):
            rows += [run_case(case, backend, width, max(widths), matmul) for width in widths]
    record(given, "personalize_throughput", rows)


if __name__ == "__main__":
    main()
