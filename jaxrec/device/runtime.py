"""The device's side: recommend, follow clicks, learn, keep what was learnt. Needs NumPy and ai_edge_litert, nothing else.

    device = DeviceModel.load("runs/shop/device")
    past = past_of([[3, 9], [12, 3, 3]])
    best = device.recommend(context=[12, 7], candidates=[3, 4, 5], past=past)
    device.train_on([[3, 9], [12, 3, 3]], learning_rate=0.003)
    device.save("me.npz")

Items are indices of the vocabulary that was exported with the model, also where the device knows only some of them.
`jaxrec.device.learner` learns as the user clicks.

Dimensions: C events of context, N candidates, K own items, k results, R x T steps of a training block, n negatives, M items that the device
knows, dim of user vectors.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.data.own_history import Past, own_now, past_of
from jaxrec.device.state import (
    ITEMS,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    PERSONAL,
    STATE,
    check_inputs,
    check_model,
    read_arrays,
    read_manifest,
    read_state,
    write_arrays,
)
from jaxrec.errors import InputError

NOTHING = past_of([])
"""The past of a user who has no earlier sessions."""


class Recommendation(NamedTuple):
    """What the device shows, best first.

    Attributes:
      items: [k] int32; -1 where there were fewer than k items to rank.
      scores: [k] float32.
      user_vector: what was compared to item rows, [dim] float32.
    """

    items: np.ndarray
    scores: np.ndarray
    user_vector: np.ndarray


class DeviceModel:
    """One user's model on one device; use `DeviceModel.load`.

    Attributes:
      manifest: what was exported: names, shapes and types of every signature, precision, versions.
      state: personal parameters and the optimizer's state by name; empty where they are baked in.
      hidden: state of each layer after the clicks of the running session, by name.
      known: what the device knows of its items: `weights` to draw negatives by and their running sums, `drawn`, [M]; `items`, their
        numbers in ascending order, [M], where these are not all; `rows.*` where they are streamed. Empty until rows that are streamed are
        received.
    """

    def __init__(self, interpreter: Any, manifest: Mapping[str, Any], state: dict[str, np.ndarray], known: dict[str, np.ndarray]):
        self.manifest, self.state = manifest, state
        self._fresh = {name: part for name, part in state.items() if name.startswith(OPTIMIZER)}
        self._know(known)
        self.runners = {name: interpreter.get_signature_runner(name) for name in manifest["signatures"]}
        self.hidden: dict[str, np.ndarray] = {}
        self.new_session()

    @classmethod
    def load(cls, folder: str | Path, threads: int = 1) -> "DeviceModel":
        """The model in a folder that was exported, with the personal parameters that it came with.

        Raises:
          InputError: a file is missing, is not what the manifest says, or ai_edge_litert is not installed.
        """
        folder = Path(folder)
        manifest = read_manifest(folder / MANIFEST)
        check_model(folder / MODEL, manifest)
        state = read_state(folder / PERSONAL, manifest)
        known = {} if manifest["rows"] == "streamed" else read_arrays(folder / ITEMS, manifest, "known items")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError(f"expected the package ai-edge-litert; it cannot be imported ({error}); pip install jaxrec[device]") from None
        return cls(Interpreter(model_path=str(folder / MODEL), num_threads=threads), manifest, state, known)

    def receive(self, path: str | Path) -> None:
        """Know the item rows that the cloud sent, in place of those before; for models whose rows are streamed.

        Raises:
          InputError: the file is damaged or belongs to another model.
        """
        path, rows = Path(path), "rows."
        if self.manifest["rows"] != "streamed":
            raise InputError(f"{path}: expected a model whose item rows are streamed; those of this one are {self.manifest['rows']}")
        found = read_arrays(path, self.manifest, "item rows")
        check_inputs(path, {name: array for name, array in found.items() if name.startswith(rows)}, self.manifest, "recommend", rows)
        if "items" not in found or "weights" not in found or len(found["items"]) != len(found["weights"]):
            raise InputError(f"{path}: expected the numbers of the items and as many weights; got {', '.join(found)}")
        self._know(found)

    def recommend(
        self, context: Sequence[int], candidates: Sequence[int], past: Past = NOTHING, exclude_seen: bool = False
    ) -> Recommendation:
        """The best of some candidates; those that the device does not know, and -1, are left out.

        Args:
          context: items of the running session, oldest first; of them the network reads the last C.
          candidates: items to rank, at most N.
          past: the user's earlier sessions as `past_of` sums them up, for the history prior; once per session is enough.
          exclude_seen: leave out what the running session clicked.
        """
        return self._best("recommend", context, past, exclude_seen, {"candidates": (self._places("candidates", candidates), -1)})

    def recommend_all(self, context: Sequence[int], past: Past = NOTHING, exclude_seen: bool = False) -> Recommendation:
        """The best of all items that the device knows; as `recommend`."""
        return self._best("recommend_all", context, past, exclude_seen, {})

    def click(self, item: int) -> np.ndarray:
        """Follow one click of the running session; returns the user vector after it, [dim]."""
        (place,) = self._places("item", [item])
        if place < 0:
            raise InputError(f"item: expected one that the device knows; got {item}")
        after = self._call("step", {**self.hidden, "item": (place, 0)})
        vector = after.pop("user_vector")
        self.hidden = after
        return vector

    def user_vector(self, session: Sequence[int]) -> np.ndarray:
        """User vector after a session of any length, of which at least one item is known, [dim]; the running session goes on untouched."""
        places, state = self._places("session", session), self._zero_hidden("step")
        if not (places >= 0).any():
            raise InputError("session: expected at least one item that the device knows; got none")
        for place in places[places >= 0]:
            state = self._call("step", {name: leaf for name, leaf in state.items() if name != "user_vector"} | {"item": (place, 0)})
        return state["user_vector"]

    def score(self, user_vector: np.ndarray, candidates: Sequence[int]) -> np.ndarray:
        """Scores of at most N candidates by a user vector, without the history prior; very low for those that the device does not know."""
        vector, shape = np.asarray(user_vector, np.float32), self._shape("score", "user_vector")
        if vector.shape != shape or not np.isfinite(vector).all():
            raise InputError(f"user_vector: expected finite numbers of the shape {shape}; got {vector.shape}")
        given = {"user_vector": vector, "candidates": (self._places("candidates", candidates), -1)}
        return self._call("score", given)["scores"][: len(candidates)]

    def new_session(self) -> None:
        """Forget the clicks of the running session."""
        self.hidden = self._zero_hidden("step")

    def train_on(self, sessions: Sequence[Sequence[int]], learning_rate: float, epochs: int = 1, seed: int = 0) -> float:
        """Fine-tune on the user's sessions, oldest first, as users are fine-tuned in simulation: the optimizer starts afresh.

        Returns:
          mean loss of the last pass, each update's before it; 0 without a pair of clicks.

        Raises:
          InputError: an update is not finite; the parameters are those from before the call.
        """
        generator, before, blocks, found = np.random.default_rng(seed), self.state, self._blocks(sessions), 0.0
        self.state = self.state | self._fresh
        try:
            for _ in range(epochs):
                found = self._pass(blocks, lambda *block: self.update(*block, self.draw(generator), learning_rate))
        except InputError:
            self.state = before
            raise
        return found

    def loss_on(self, sessions: Sequence[Sequence[int]], seed: int = 0) -> float:
        """Mean loss of the sessions' predictions against negatives that depend on the seed alone; nothing is learnt.

        They are not those that `train_on` draws with the same seed: a judge must not have been trained on.
        """
        negatives = self.draw(np.random.default_rng([seed, 1]))

        def look(block: Block, hidden: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
            after = self._call("loss", {**block._asdict(), **hidden, "negatives": negatives})
            return float(after.pop("loss")), after

        return self._pass(self._blocks(sessions), look)

    def update(
        self, block: Block, hidden: Mapping[str, np.ndarray], negatives: np.ndarray, learning_rate: float
    ) -> tuple[float, dict[str, np.ndarray]]:
        """One update of the personal parameters: (the loss before it, states after the block).

        Args:
          block: [R, T]; items and negatives as the model numbers them.
          hidden: states before the block, by name.
          negatives: items to score against, [n] int32.

        Raises:
          InputError: the outcome is not finite; nothing was changed.
        """
        self._inputs("train")
        if not learning_rate >= 0:
            raise InputError(f"learning_rate: expected 0 or more; got {learning_rate}")
        given = {**block._asdict(), **hidden, "negatives": negatives, "learning_rate": np.float32(learning_rate)}
        after = self._call("train", given)
        loss = float(after.pop("loss"))
        if not math.isfinite(loss) or not all(np.isfinite(part).all() for part in after.values()):
            raise InputError(
                f"learning_rate: expected one that keeps the update finite; got {learning_rate} (loss {loss}); nothing was changed"
            )
        self.state = {name: part for name, part in after.items() if name.startswith(STATE)}
        return loss, {name: part for name, part in after.items() if not name.startswith(STATE)}

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Negatives of one update, as the model numbers items, [n] int32."""
        drawn = self._known("drawn")
        places = np.searchsorted(drawn, generator.random(self._shape("train", "negatives")[0]) * drawn[-1], side="right")
        return np.minimum(places, len(drawn) - 1).astype(np.int32)

    def save(self, path: str | Path) -> None:
        """Write the personal parameters and the optimizer's state, whole or not at all."""
        write_arrays(Path(path), self.state, self.manifest["fingerprint"])

    def restore(self, path: str | Path) -> None:
        """Go on with what `save` wrote.

        Raises:
          InputError: the file is damaged or belongs to another model; the parameters stay as they are.
        """
        self._inputs("train")
        self.state = read_state(Path(path), self.manifest)

    @property
    def learns(self) -> bool:
        """Whether the personal parameters can be trained; those of a baked model cannot."""
        return "train" in self.runners

    def knows(self, items: Sequence[int]) -> np.ndarray:
        """Whether the device knows each item of the vocabulary, [items] bool."""
        return self._places("items", items) >= 0

    def _best(self, signature: str, context: Sequence[int], past: Past, exclude_seen: bool, given: dict[str, Any]) -> Recommendation:
        places = self._places("context", context)
        shown = places[places >= 0][-self._shape(signature, "context")[0] :].astype(np.int32)
        given |= {"context": (shown, 0), "length": np.int32(len(shown)), "exclude_seen": np.bool_(exclude_seen)}
        found = self._call(signature, given | self._own(signature, past, context))
        items = found["items"]
        if "items" in self.known:
            items = np.where(items >= 0, self.known["items"][items], -1).astype(np.int32)
        return Recommendation(items, found["scores"], found["user_vector"])

    def _own(self, signature: str, past: Past, context: Sequence[int]) -> dict[str, Any]:
        """What is known of own items, as inputs by name; of more than fit those clicked last."""
        own = own_now(past, context)
        places = self._places("past", own.items)
        kept = np.flatnonzero(places >= 0)
        kept = kept[np.argsort(own.since[kept], kind="stable")][: self._shape(signature, "own.items")[0]]
        inputs = {f"own.{name}": (np.float32(values[kept]), 0) for name, values in own._asdict().items() if np.ndim(values)}
        totals = {"own.clicks": np.float32(own.clicks), "own.distinct": np.float32(own.distinct)}
        return {**inputs, **totals, "own.items": (places[kept].astype(np.int32), -1)}

    def _places(self, name: str, items: Sequence[int]) -> np.ndarray:
        """Rows of items in the model's tables, -1 for those it does not know and for -1.

        Raises:
          InputError: a number is that of no item of the vocabulary.
        """
        items = np.asarray(items)
        if items.ndim != 1:
            raise InputError(f"{name}: expected one number after another; got the shape {items.shape}")
        if items.size and not np.issubdtype(items.dtype, np.integer):
            raise InputError(f"{name}: expected whole numbers; got {items.dtype}")
        items, n_items = items.astype(np.int64), self.manifest["vocabulary_items"]
        if (wrong := items[(items < -1) | (items >= n_items)]).size:
            raise InputError(f"{name}: expected numbers of items, 0 to {n_items - 1:,}; got {wrong.flat[0]}")
        if self.known and "items" not in self.known:
            return items
        known = self._known("items")
        place = np.searchsorted(known, items).clip(max=len(known) - 1)
        return np.where(known[place] == items, place, -1)

    def _know(self, known: dict[str, np.ndarray]) -> None:
        sums = {"drawn": np.cumsum(known["weights"], dtype=np.float64)} if "weights" in known else {}
        self.known = known | sums

    def _known(self, name: str) -> np.ndarray:
        if name not in self.known:
            raise InputError("item rows: expected those that the cloud sends; call `receive` first")
        return self.known[name]

    def _blocks(self, sessions: Sequence[Sequence[int]]) -> Block:
        """Sessions as blocks of one update each, one after another; clicks on items that the device does not know are left out."""
        places = [self._places("sessions", session) for session in sessions]
        places = [place[place >= 0].astype(np.int32) for place in places]
        offsets = np.cumsum([0, *map(len, places)])
        return plan_lanes(np.concatenate([np.zeros(0, np.int32), *places]), offsets, *self._shape("train", "mask"))

    def _pass(self, blocks: Block, call: Any) -> float:
        """Call with every block and the states after the one before; mean of the losses over all predictions."""
        hidden, total = self._zero_hidden("train"), 0.0
        for items, mask, reset in zip(*blocks, strict=True):
            loss, hidden = call(Block(items, mask, reset), hidden)
            total += loss * int(mask.sum())
        return total / max(int(blocks.mask.sum()), 1)

    def _zero_hidden(self, signature: str) -> dict[str, np.ndarray]:
        inputs = self.manifest["signatures"].get(signature, {"inputs": {}})["inputs"]
        return {name: np.zeros(of["shape"], of["dtype"]) for name, of in inputs.items() if name.startswith("hidden.")}

    def _inputs(self, signature: str) -> Mapping[str, Any]:
        """What a signature takes, by name; refused where the model has none of that name."""
        if signature not in self.manifest["signatures"]:
            raise InputError(f"{signature}: expected a model whose personal parameters are inputs; they are baked into this one")
        return self.manifest["signatures"][signature]["inputs"]

    def _shape(self, signature: str, name: str) -> tuple[int, ...]:
        return tuple(self._inputs(signature)[name]["shape"])

    def _call(self, signature: str, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run a signature; `given` holds arrays as they are, or (values, what to fill up with)."""
        inputs = self._inputs(signature)
        feed = {name: self.state[name] for name in inputs if name.startswith(STATE)}
        feed |= {name: self._known(name) for name in inputs if name.startswith("rows.")}
        for name, value in given.items():
            feed[name] = filled(name, inputs[name], *value) if isinstance(value, tuple) else value
        return self.runners[signature](**feed)


def filled(name: str, of: Mapping[str, Any], values: Any, rest: Any) -> np.ndarray:
    """The values as an array of the type and static shape of an input, filled up at the ends.

    >>> filled("context", {"shape": [4], "dtype": "int32"}, [7, 8], -1)
    array([ 7,  8, -1, -1], dtype=int32)
    """
    values, shape = np.asarray(values), tuple(of["shape"])
    if values.ndim != len(shape) or any(got > most for got, most in zip(values.shape, shape, strict=True)):
        raise InputError(f"{name}: expected at most the shape {shape}; got {values.shape}")
    array = np.full(shape, rest, of["dtype"])
    array[tuple(slice(size) for size in values.shape)] = values
    return array
