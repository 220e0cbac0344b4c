"""Known faults of reimplementations of GRU4Rec, each with the tests that would catch it (Hidasi and Czapp 2023).

Most of these tests stand with the module they belong to; those that need several modules stand here.
"""

import ast
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from world import N_ITEMS, random_sessions, small_model

from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.learning.losses import LOSSES
from jaxrec.learning.negatives import Negatives, sampler
from jaxrec.learning.optimizers import rate_at
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.learning.step import Rule, block_loss, init_state, rows_of, step, used_rows
from jaxrec.learning.train import Sessions, fit
from jaxrec.learning.updates import Carry, Span, draw_dropout, run_updates
from jaxrec.models.recommender import Model, ModelOptions

CAUGHT_BY = {
    1: ["losses_test.test_cross_entropy_is_numpy_softmax_over_target_and_columns"],
    2: ["losses_test.test_adding_a_constant_to_all_scores_changes_nothing", "losses_test.test_gradient_is_probability_minus_one_hot"],
    3: ["faults_test.test_states_in_lanes_are_those_of_each_session_by_itself"],
    4: ["ranks_test.test_blocks_of_any_size_are_one_session_at_a_time"],
    5: ["losses_test.test_every_loss_is_its_published_formula", "losses_test.test_the_target_is_no_share_of_the_softmax_of_bpr_max"],
    6: ["losses_test.test_bpr_max_is_affine_in_bpreg_with_the_shared_squares_as_slope"],
    7: ["losses_test.test_large_scores_stay_finite"],
    8: ["faults_test.test_each_place_has_its_own_dropout_with_its_own_share"],
    9: ["faults_test.test_each_place_has_its_own_dropout_with_its_own_share"],
    10: ["faults_test.test_no_dropout_is_the_identity"],
    11: ["faults_test.test_the_memory_of_a_step_does_not_grow_with_the_catalogue"],
    12: [
        "faults_test.test_extra_negatives_and_the_shared_table_change_the_loss",
        "step_test.test_input_modes_share_the_step_and_differ_in_what_they_train",
    ],
    13: ["negatives_test.test_frequencies_follow_popularity_to_the_power_alpha"],
    14: ["lanes_test.test_every_pair_is_used_exactly_once"],
    15: ["step_test.test_the_first_adagrad_step_is_as_long_as_the_rate"],
    16: ["faults_test.test_the_learning_rate_of_published_losses_is_constant_unless_asked"],
    17: ["step_test.test_adagrad_by_rows_is_numpy_adagrad_with_duplicates_summed_first"],
    18: ["faults_test.test_every_option_reaches_the_update"],
    19: ["gru_test.test_matrices_start_uniform_by_the_shape_of_each_gate_and_biases_zero"],
    20: ["metrics_test.test_the_rank_k_counts_and_the_next_does_not"],
    21: ["filters_test.test_later_periods_keep_what_the_global_period_knows"],
    22: ["metrics_test.test_merged_sums_of_unequal_parts_are_the_metrics_of_the_whole"],
    23: ["faults_test.test_epochs_are_passes_over_every_pair"],
    24: ["lanes_test.test_every_pair_is_used_exactly_once"],
    25: ["faults_test.test_a_thin_step_has_the_rate_of_a_full_one"],
    26: ["step_test.test_nothing_flows_back_into_the_state_before_the_block"],
}


def test_every_fault_has_its_test():
    assert list(CAUGHT_BY) == list(range(1, 27))
    for name in {name for names in CAUGHT_BY.values() for name in names}:
        file, test = name.split(".")
        tree = ast.parse((Path(__file__).parent / f"{file}.py").read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize("steps", [1, 3])
def test_states_in_lanes_are_those_of_each_session_by_itself(steps):
    model, params = small_model(units=(5, 6))
    items, offsets = random_sessions(sessions=23, longest=9)
    plan = plan_lanes(items, offsets, 4, steps)
    together, alone = {}, {}

    @jax.jit
    def encode(items, hidden, reset):
        return jax.vmap(lambda *row: model.encode(params, *row))(params["item_table"][items], hidden, reset)

    hidden, now = model.zero_hidden(4), [[] for _ in range(4)]
    for block in (Block(*part) for part in zip(*plan, strict=True)):
        vectors, hidden = encode(block.items[:, :-1], hidden, block.reset)
        for lane, step_ in zip(*np.nonzero(block.mask), strict=True):
            if block.reset[lane, step_]:
                now[lane] = []
            now[lane].append((int(block.items[lane, step_]), np.asarray(vectors[lane, step_])))
            together[tuple(item for item, _ in now[lane])] = now[lane][-1][1]
    for start, end in itertools.pairwise(offsets):
        session = np.zeros(9, np.int32)
        session[: end - start] = items[start:end]
        vectors, _ = encode(session[None], model.zero_hidden(1), (np.arange(9) == 0)[None])
        alone |= {tuple(session[: n + 1].tolist()): np.asarray(vectors[0, n]) for n in range(end - start - 1)}
    assert together.keys() == alone.keys()
    for context, vector in alone.items():
        np.testing.assert_allclose(together[context], vector, rtol=1e-4, atol=1e-6, err_msg=str(context))


def test_each_place_has_its_own_dropout_with_its_own_share():
    model = Model(ModelOptions(units=(200, 300), embedding_dim=100), N_ITEMS)
    embed, hidden = draw_dropout(jax.random.key(0), 0.9, 0.25, model, (64, 2))
    assert [part.shape for part in (embed, *hidden)] == [(64, 2, 100), (64, 2, 200), (64, 2, 300)]
    for part, p in zip((embed, *hidden), (0.9, 0.25, 0.25), strict=True):
        zeros = np.asarray(part == 0)
        assert zeros.mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / zeros.size))
        np.testing.assert_allclose(np.asarray(part)[~zeros], 1 / (1 - p), rtol=1e-5)
    first, second = (np.asarray(part == 0)[..., :100] for part in hidden)
    assert (first != second).mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.03), "the layers drop independently"


def test_no_dropout_is_the_identity():
    model = Model(ModelOptions(units=(4,), embedding_dim=4, dense=False), N_ITEMS)
    assert draw_dropout(jax.random.key(0), 0.0, 0.0, model, (3, 1)) == (None, None)


def test_the_memory_of_a_step_does_not_grow_with_the_catalogue():
    def temporary(n_items):
        model, rule = Model(ModelOptions(units=(8,), embedding_dim=8), n_items), Rule(scale=4)
        params = jax.eval_shape(model.init, jax.random.key(0))
        state = jax.eval_shape(lambda params: init_state(rule, params), params)
        block = Block(jnp.zeros((4, 2), jnp.int32), jnp.ones((4, 1), bool), jnp.ones((4, 1), bool))
        negatives = Negatives(jnp.zeros(64, jnp.int32), jnp.zeros(64), jnp.zeros((4, 1)))
        run = jax.jit(step, static_argnums=(0, 1), donate_argnums=3)
        return run.lower(model, rule, {}, state, block, model.zero_hidden(4), negatives, 0.1).compile().memory_analysis().temp_size_in_bytes

    assert temporary(1_000_000) <= temporary(10_000) + 100_000


def loss_with(model, params, n_sample):
    items, offsets = random_sessions(sessions=8)
    block = jax.tree.map(lambda part: part[0], plan_lanes(items, offsets, 8))
    drawn = np.arange(n_sample) % N_ITEMS
    negatives = Negatives(drawn, jnp.zeros(n_sample), jnp.zeros((8, 1)))
    rows = rows_of(params, used_rows(model, block, negatives))
    return float(block_loss(model, Rule(scale=8), params, rows, block, model.zero_hidden(8), negatives)[0])


def test_extra_negatives_and_the_shared_table_change_the_loss():
    shared, params = small_model(dense=False)
    losses = [loss_with(shared, params, n) for n in (0, 8, 64)]
    assert losses == sorted(set(losses)), "more columns, more to confuse the target with"
    separate, other = small_model(dense=False, table="separate")
    assert loss_with(separate, other, 8) != losses[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_learning_rate_of_published_losses_is_constant_unless_asked(loss):
    assert Recipe(LossOptions(loss=loss)).schedule == "constant" and OptimizerOptions().warmup_updates == 0
    assert Recipe(LossOptions(loss=loss), OptimizerOptions(schedule="cosine")).schedule == "cosine"


def test_the_learning_rate_falls_over_all_epochs_asked_for(tmp_path):
    """However many of them are trained, as where validation chooses fewer."""
    model, _ = small_model()
    items, offsets = random_sessions(sessions=12)
    sessions = Sessions(items, offsets, np.bincount(items, minlength=N_ITEMS))

    def after_one(epochs, schedule):
        recipe = Recipe(LossOptions(n_sample=4), OptimizerOptions(schedule=schedule), RunOptions(lanes=4, epochs=epochs))
        return np.asarray(fit(model, recipe, sessions, tmp_path / f"{schedule}-{epochs}", epochs=1).params["item_table"])

    assert (after_one(1, "constant") == after_one(20, "constant")).all()
    assert (after_one(1, "auto") != after_one(20, "auto")).any()
    np.testing.assert_allclose(after_one(10_000, "auto"), after_one(1, "constant"), atol=1e-4)


def test_the_learning_rate_falls_as_asked():
    at = np.arange(100)
    np.testing.assert_array_equal(rate_at("constant", 0, jnp.asarray(at), jnp.int32(100)), 1.0)
    for name in ("linear", "cosine"):
        rates = np.asarray(rate_at(name, 10, jnp.asarray(at), jnp.int32(99)))
        assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all() and rates[-1] == pytest.approx(0, abs=1e-6)


CHANGED = {
    "units": (7,),
    "embedding_dim": 9,
    "table": "separate",
    "dense": False,
    "loss": "bpr-max",
    "bpreg": 2.0,
    "elu_param": 0.0,
    "n_sample": 9,
    "sample_alpha": 1.0,
    "logq": 0.5,
    "optimizer": "adam",
    "learning_rate": 0.05,
    "momentum": 0.3,
    "weight_decay": 0.1,
    "clip_norm": 0.01,
    "schedule": "constant",
    "warmup_updates": 5,
    "lanes": 3,
    "bptt_steps": 2,
    "dropout_p_embed": 0.2,
    "dropout_p_hidden": 0.5,
    "seed": 1,
}
STOPS_OR_REPORTS = {
    "epochs",
    "train_behaviors",
    "validation_fraction",
    "patience",
    "report_updates",
    "checkpoint_updates",
    "keep_checkpoints",
    "tensorboard",
}


def update_with(**changed):
    """What is compiled for the updates, and all that it is given."""
    kinds = {
        kind: {name: changed[name] for name in kind.__dataclass_fields__ if name in changed}
        for kind in (ModelOptions, LossOptions, OptimizerOptions, RunOptions)
    }
    options = [kind(**({"units": (6,), "embedding_dim": 6} | given if kind is ModelOptions else given)) for kind, given in kinds.items()]
    model, recipe = Model(options[0], N_ITEMS), Recipe(*options[1:])
    items, offsets = random_sessions(sessions=12)
    plan = plan_lanes(items, offsets, min(recipe.run.lanes, 4), recipe.run.bptt_steps)
    rule, key = recipe.rule(plan.mask.shape[1], model.n_items), jax.random.key(recipe.run.seed)
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: init_state(rule, params), params)
    carry = Carry(state, model.zero_hidden(plan.mask.shape[1]))
    source = sampler(np.bincount(items, minlength=N_ITEMS), recipe.loss.sample_alpha, recipe.loss.logq)
    program = run_updates.lower(None, model, recipe, rule, source, carry, plan, key, Span(0, 3, 0, 100)).as_text()
    given = [*source, *plan, jax.random.key_data(key)]
    return program, b"".join(np.asarray(array).tobytes() for array in given)


def test_every_option_reaches_the_update():
    kinds = (ModelOptions, LossOptions, OptimizerOptions, RunOptions)
    assert {name for kind in kinds for name in kind.__dataclass_fields__} == CHANGED.keys() | STOPS_OR_REPORTS
    small = {"n_sample": 8}
    base = update_with(**small)
    of_bpr_max = update_with(**small, loss="bpr-max")
    for name, value in CHANGED.items():
        with_loss = {"loss": "bpr-max"} if name in ("bpreg", "elu_param") else {}
        found = update_with(**(small | with_loss | {name: value}))
        assert found != (of_bpr_max if with_loss else base), f"--{name}={value} changes nothing"


def test_epochs_are_passes_over_every_pair(tmp_path):
    model, _ = small_model()
    items, offsets = random_sessions(sessions=12)
    sessions = Sessions(items, offsets, np.bincount(items, minlength=N_ITEMS))
    recipe = Recipe(LossOptions(n_sample=4), run=RunOptions(lanes=4))
    done = fit(model, recipe, sessions, tmp_path, epochs=3)
    pairs = len(items) - len(offsets) + 1
    assert done.events == 3 * pairs
    assert [entry["epoch"] for entry in done.history] == [1, 2, 3]
    assert done.updates == 3 * len(plan_lanes(items, offsets, 4).mask)


def test_a_thin_step_has_the_rate_of_a_full_one():
    """The loss of a prediction is divided by the lanes there are, not by those that are alive."""
    model, params = small_model()
    items = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    negatives = Negatives(jnp.array([9, 10]), jnp.zeros(2), jnp.zeros((4, 1)))

    def loss(mask):
        rows = {
            "inputs": params["item_table"][items[:, :1]],
            "targets": params["item_table"][items[:, 1:]],
            "negatives": params["item_table"][negatives.items],
        }
        rows |= {"target_bias": params["item_bias"][items[:, 1:]], "negative_bias": params["item_bias"][negatives.items]}
        block = Block(items, np.array(mask)[:, None], np.ones((4, 1), bool))
        return float(block_loss(model, Rule(scale=4, in_batch=False), params, rows, block, model.zero_hidden(4), negatives)[0])

    each = [loss(np.arange(4) == lane) for lane in range(4)]
    assert loss([True] * 4) == pytest.approx(sum(each), rel=1e-5)
