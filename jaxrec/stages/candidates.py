"""Candidates of every user, picked by what the cloud may know, and the ceiling that they set for any ranking on the device.

candidates/candidates.npy      items of every user index, best first, -1 behind the end, [users, N] int32
candidates/provenance.npy      number of the source that gave each, in the order of `sources`; 255 for none
candidates/places.npy          which place it had there, from 0, uint16
candidates/metrics.json        recall by number of candidates, group of users and source; `lists`: numbers of candidates, a device's first
candidates/bytes.json          what travels between cloud and device, see `jaxrec.device.delivery`

Dimensions: N candidates of a list, S sources, U users of a chunk.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.baselines.candidates import SOURCES, by_popularity, merged, proposed
from jaxrec.data.allowed import Askers, allowed_events, by_user
from jaxrec.data.blocks import session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import fingerprint
from jaxrec.device.delivery import MODES, delivery_bytes
from jaxrec.device.state import MANIFEST
from jaxrec.errors import InputError
from jaxrec.evaluation.ranks import Ranks, predictions_at_once
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.within import WithinCandidates, inside, missed_last, targets_of
from jaxrec.files import read_json, whole_folder, write_json
from jaxrec.options import Options, option
from jaxrec.stages.ceiling import Ceiling
from jaxrec.stages.once import once, settings_of
from jaxrec.stages.train import RESULT as TRAINED
from jaxrec.stages.train import rank

log = logging.getLogger("jaxrec")

RESULT = Path("candidates/metrics.json")
BYTES = Path("candidates/bytes.json")
ARRAYS = {"items": ("candidates.npy", np.int32), "sources": ("provenance.npy", np.uint8), "places": ("places.npy", np.uint16)}
FILLING = "filling"
"""Popular items where sources have no more."""
USERS_AT_ONCE = 1024
STEPS_AT_ONCE = 4096
"""Steps of a block that sources are asked with: not fewer for a large catalogue, which comes in slices where it has to come at all."""
LONGEST = 2**16
"""Candidates of a user, at most: places are kept in 16 bits."""


@dataclasses.dataclass(frozen=True)
class CandidateOptions(Options):
    """How candidates are picked and delivered."""

    allowed_behaviors: tuple[str, ...] = option((), "behaviours that candidates are picked by, such as buy,cart; empty: all")
    candidate_sources: tuple[str, ...] = option(
        ("item_knn",), f"models that propose candidates in turn, of {', '.join(SOURCES)}; popular items fill up", choices=tuple(SOURCES)
    )
    candidates_per_user: tuple[int, ...] = option(
        (100, 500, 1000), "numbers of candidates: a device gets the first, the ceiling is measured for all", minimum=1, maximum=LONGEST
    )
    delivery: str = option(
        "pull",
        "who ranks: the device, which downloads candidates (pull), or the cloud, to which user vectors go up (push)",
        choices=MODES,
        changes_result=False,
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("candidate_sources", "candidates_per_user"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"--{name}: expected at least one value, each once; got {','.join(map(str, values)) or 'none'}")


def run_candidates(dataset: Dataset, workdir: Path, options: CandidateOptions = CandidateOptions(), overwrite: bool = False) -> dict:
    """Pick candidates for every user, measure their recall on the test period, and write `workdir`/candidates.

    Returns:
      What metrics.json holds, with "bytes" where a model was trained whose rows can be weighed.

    Raises:
      InputError: the log has no users, no such behaviour, or none of its events before the test.
    """
    if not dataset.n_users:
        raise InputError(f"--dataset: expected a log with users, whose candidates these are; {dataset.folder} names none")
    settings, inputs = settings_of(options), {"dataset": fingerprint(dataset.manifest)}
    behaviors = options.allowed_behaviors if dataset.behaviors is not None else ()
    if behaviors:
        dataset.of_behaviors(behaviors, "allowed_behaviors")  # refused before anything is removed
    elif options.allowed_behaviors:
        log.info("--allowed_behaviors=%s: the log has no behaviours, all events are allowed", ",".join(options.allowed_behaviors))

    def work() -> dict:
        with whole_folder((workdir / RESULT).parent) as folder:
            return _pick(dataset, folder, options, behaviors)

    result = once(workdir / RESULT, settings, inputs, overwrite, work, write=dict)
    return result | _weigh(dataset, workdir, options)


def _pick(dataset: Dataset, folder: Path, options: CandidateOptions, behaviors: tuple[str, ...]) -> dict:
    """Write the lists, users in chunks, and measure them."""
    allowed, size = allowed_events(dataset, behaviors), max(options.candidates_per_user)
    if not len(allowed.items):
        raise InputError(f"--allowed_behaviors: expected events before the test period; {', '.join(behaviors)} has none there")
    log.info("candidates by %s events before the test (%s)", f"{len(allowed.items):,}", ", ".join(behaviors) or "all behaviours")
    learnt, popular = by_user(allowed), by_popularity(allowed.item_counts)
    sources = {name: SOURCES[name](learnt, range(learnt.n_sessions)) for name in options.candidate_sources}
    arrays = {name: _new(folder / file, (dataset.n_users, size), kind) for name, (file, kind) in ARRAYS.items()}
    popularity = np.argsort(popular)  # the place of each item is the inverse of their order
    ceiling = Ceiling(dataset, popularity, tuple(sources), size)
    for users, proposals in _proposals(allowed, list(sources.values()), popularity, size):
        found = merged(proposals, popular)
        for name, array in arrays.items():
            array[users.start : users.stop] = getattr(found, name)
        ceiling.add(users, found.items, proposals)
    return {
        "users": dataset.n_users,
        "users_with_history": len(np.unique(allowed.users[allowed.users >= 0])),
        "events": len(allowed.items),
        "sources": [*sources, FILLING],
        "lists": list(options.candidates_per_user),
        **ceiling.measured(options.candidates_per_user),
    }


def _new(path: Path, shape: tuple[int, ...], kind: type) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)


def _proposals(allowed: Dataset, sources: list[Scorer], popularity: np.ndarray, n: int) -> Iterator[tuple[range, np.ndarray]]:
    """(users of a chunk, what each source proposes to them [S, U, n]); nothing to who has no allowed events."""
    askers = Askers(allowed)
    for start in range(0, allowed.n_users, USERS_AT_ONCE):
        users = range(start, min(start + USERS_AT_ONCE, allowed.n_users))
        proposals = np.full((len(sources), len(users), n), -1, np.int32)
        for block in askers.blocks(np.asarray(users), STEPS_AT_ONCE):
            rows = block.users[np.nonzero(block.mask)[0]] - start
            for own, source in zip(proposals, sources, strict=True):
                own[rows] = proposed(source, block, popularity, n)
        yield users, proposals


def _weigh(dataset: Dataset, workdir: Path, options: CandidateOptions) -> dict[str, Any]:
    """{"bytes": what travels}, also written, where a model of the workdir says how long rows are."""
    if not (workdir / TRAINED).exists():
        log.info("candidates are not weighed: %s holds no trained model", workdir)
        return {}
    dim = read_json(workdir / TRAINED, "result of `train`")["settings"]["embedding_dim"]
    device = workdir / "device" / MANIFEST
    whole = {"model": read_json(device, "device manifest")["model_bytes"]} if device.exists() else {}
    found = {"delivery": options.delivery, **delivery_bytes(dataset.n_items, dim, options.candidates_per_user), **whole}
    write_json(workdir / BYTES, found)
    return {"bytes": found}


def load_candidates(workdir: Path, dataset: Dataset) -> np.ndarray:
    """The lists that devices get, [users, N] int32.

    Raises:
      InputError: there are none, or they are of another dataset.
    """
    result = read_json(workdir / RESULT, "result of `candidates`")
    if result["inputs"]["dataset"] != fingerprint(dataset.manifest):
        raise InputError(f"{workdir / RESULT}: expected candidates of {dataset.folder}; they are of another dataset")
    return np.load((workdir / RESULT).with_name(ARRAYS["items"][0]), mmap_mode="r")[:, : result["lists"][0]]


def candidates_of(workdir: Path, dataset: Dataset, user: int) -> np.ndarray | None:
    """Candidates that one user's device gets, by the user's index, best first, [at most N] int32; None where no candidates were picked.

    Raises:
      InputError: they are of another dataset.
    """
    if not (workdir / RESULT).exists():
        return None
    own = load_candidates(workdir, dataset)[user]
    return np.asarray(own[own >= 0])


class Ranking(NamedTuple):
    """How models rank the test period.

    Attributes:
      limited: a scorer -> the scorer of the items that compete.
      ranked: a limited scorer -> its ranks.
    """

    limited: Callable[[Scorer], Scorer]
    ranked: Callable[[Scorer], Ranks]


def ranking_of_all(dataset: Dataset) -> Ranking:
    """The whole catalogue competes."""
    return Ranking(lambda scorer: scorer, lambda scorer: rank(scorer, dataset, dataset.period("test")))


def ranking_within(workdir: Path, dataset: Dataset) -> Ranking:
    """Each user's candidates and own items compete; any other target is a miss."""
    lists, test = load_candidates(workdir, dataset), dataset.period("test")
    known = inside(lists, targets_of(session_blocks(dataset, test, predictions_at_once(dataset.n_items))))
    return Ranking(
        lambda scorer: WithinCandidates(scorer, lists), lambda scorer: missed_last(rank(scorer, dataset, test), known, dataset.n_items)
    )
