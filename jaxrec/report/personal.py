"""The parts of the report about personal models: accuracy, for whom, what was chosen, what fine-tuning cost."""

from typing import Any

from jaxrec.data.own_history import FEATURES
from jaxrec.report.section import Runs, Section, joined
from jaxrec.report.tables import Table, count, interval, metric, share, signed, significant, size

GLOBAL, SHIPPED = "global model alone", "as shipped"
RANKERS = {
    GLOBAL: "before",
    "global, with own history": "before_with_history",
    "fine-tuned": "fine_tuned",
    "fine-tuned, with own history": "fine_tuned_with_history",
    SHIPPED: "after",
}
GROUPS = ("all users", "old", "new")
UPDATED = {
    "global": "before",
    "fixed": "fixed",
    "updated": "updated",
    "fixed, with own history": "fixed_with_history",
    "updated, with own history": "updated_with_history",
}
METRICS = {"Recall@20": "recall@20", "MRR@20": "mrr@20"}


def ships_networks(personal: dict[str, Any]) -> bool:
    """Whether any device uses personal parameters."""
    return personal["fine_tuned_is_used"] and personal["users_fallback"] < 1


def ships_history(personal: dict[str, Any]) -> bool:
    """Whether devices use the history prior."""
    return any(personal["history"])


def models(runs: Runs) -> Section | None:
    """Global, fine-tuned and shipped model beside the baselines, over the same predictions."""
    found = joined(runs, _models_table)
    if found is None:
        return None
    text = (
        "Every row answers the same predictions: all of the test period of every user who has one. What ships is chosen without "
        "a look at them: validation says whether fine-tuned networks and own history (the history prior) are used, and each device "
        "falls back to the global parameters where its own hold-out says so. Intervals are a bootstrap over users."
    )
    tables = (found, *filter(None, [joined(runs, _interval_table)]))
    return Section("Personal models against the global one", text, tables)


def _models_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    models = {name: personal[key] for name, key in RANKERS.items()}
    models |= {f"baseline: {name}": figures for name, figures in personal["baselines"].items()}
    attainable = personal.get("attainable") or {}
    models |= {f"attainable: {key[5:].replace('_', ' ')}": one for key, one in attainable.items() if key.startswith("best_")}
    before = personal["before"]["recall@20"]
    return Table(("model", *METRICS, "Recall@20 gained"), [_model_row(name, one, before) for name, one in models.items()])


def _model_row(name: str, figures: dict, before: float) -> tuple[str, ...]:
    recall = figures.get("recall@20")
    gain = "" if name == GLOBAL else signed(None if recall is None else recall - before)
    return name, metric(recall), metric(figures.get("mrr@20")), gain


def _interval_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    kinds = {SHIPPED: ("after", "gain_ci95"), "fine-tuned": ("fine_tuned", "fine_tuned_gain_ci95")}
    rows = [
        (f"{name}, {label}", signed(personal[of][key] - personal["before"][key]), interval(personal[limits][key]))
        for name, (of, limits) in kinds.items()
        for label, key in METRICS.items()
    ]
    return Table(("gain over the global model", "mean", "95 % interval"), rows)


def groups(runs: Runs) -> Section | None:
    """The rankers for users with a past and without one."""
    found = [joined(runs, lambda summary, name=name: _groups_table(summary, name)) for name in METRICS]
    if found[0] is None:
        return None
    text = (
        "Old users have events of their own before the test period; new ones come with nothing, their history grows while they are tested."
    )
    return Section("Old and new users", text, (joined(runs, _sizes_table), *found))


def _groups(personal: dict) -> list[dict]:
    return [personal, personal["old_users"], personal["new_users"]]


def _sizes_table(summary: dict) -> Table | None:
    if summary["personal"] is None:
        return None
    found = _groups(summary["personal"])
    shares = {name: [one[f"users_{name}"] if one["users"] else None for one in found] for name in ("better", "same", "worse")}
    rows = [(name, *(count(one[name]) for one in found)) for name in ("users", "predictions")]
    return Table(("", *GROUPS), rows + [(name, *map(share, values)) for name, values in shares.items()])


def _groups_table(summary: dict, label: str) -> Table | None:
    if summary["personal"] is None:
        return None
    found, key = _groups(summary["personal"]), METRICS[label]
    rows = [(name, *(metric(one[of][key] if one["users"] else None) for one in found)) for name, of in RANKERS.items()]
    limits = (interval(one["gain_ci95"][key] if one["users"] else None) for one in found)
    return Table((label, *GROUPS), [*rows, ("gained as shipped, 95 % interval", *limits)])


def users(runs: Runs) -> Section | None:
    """How many users are better, the same or worse off."""
    found = joined(runs, _users_table)
    if found is None:
        return None
    text = "Better, same and worse by each user's own Recall@20, each user counted once."
    return Section("Users", text, (found,), figures=("gain_histogram",))


def _users_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    rows = [
        ("users with a test prediction", count(personal["users"])),
        ("their predictions", count(personal["predictions"])),
        ("fine-tuned", count(personal["users_trained"])),
        ("fine-tuned per second", significant(personal["users_per_s"])),
        ("personal bytes per user", size(personal["personal_bytes_per_user"])),
    ]
    shares = (
        ("users_better", "better"),
        ("users_same", "same"),
        ("users_worse", "worse"),
        ("users_fallback", "keep the global parameters"),
    )
    return Table(("users", ""), rows + [(name, share(personal[key])) for key, name in shares])


def chosen(runs: Runs) -> Section | None:
    """What validation chose, and how users were laid out to be fine-tuned."""
    found = joined(runs, _chosen_table)
    if found is None:
        return None
    text = (
        "Chosen inside the global period, by a model that has not seen its last part. Learning rate and epochs are those that helped most "
        "users; each device decides by its own hold-out. Weights of own history add to an item's score; padding is the share of steps "
        "that read no event."
    )
    tables = (joined(runs, build) for build in (_weights_table, _trials_table, _planning_table))
    return Section("What was chosen", text, (found, *(one for one in tables if one is not None)))


def _chosen_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None:
        return None
    rows = [
        ("learning rate", significant(personal["learning_rate"])),
        ("epochs", count(personal["epochs"])),
        ("fine-tuned networks", "used" if personal["fine_tuned_is_used"] else "not used"),
        ("history prior", "on" if ships_history(personal) else "off"),
    ]
    return Table(("best for most users", ""), rows)


def _weights_table(summary: dict) -> Table | None:
    personal = summary["personal"]
    if personal is None or not ships_history(personal):
        return None
    weights = zip(FEATURES, personal["history"], strict=True)
    return Table(("own history", "weight"), [(name.replace("_", " "), f"{weight:+.3f}") for name, weight in weights])


def _trials_table(summary: dict) -> Table | None:
    if summary["personal"] is None:
        return None
    rows = [
        (f"{significant(one['learning_rate'])}, {count(one['epochs'])}", signed(one["fall_of_loss"]), metric(one["error"]))
        for one in summary["personal"]["trials"]
    ]
    return Table(("learning rate, epochs", "fall of loss", "standard error"), rows)


def _planning_table(summary: dict) -> Table | None:
    if summary["personal"] is None:
        return None
    plan = summary["personal"]["planning"]
    rows = [(name.replace("_", " "), count(plan[name])) for name in ("shapes", "users", "steps_read", "steps")]
    return Table(("planning", ""), [*rows, ("padding", share(plan["padding"]))])


def own_events(runs: Runs) -> Section | None:
    """The gain by how much the device knows about its user."""
    found = joined(runs, _own_events_table)
    if found is None:
        return None
    text = "Recall@20 by how many events of their own the users' devices hold before the test; every prediction counts the same."
    return Section("Gain by number of own events", text, (found,), figures=("gain_by_own_events",))


def _own_events_table(summary: dict) -> Table | None:
    if summary["personal"] is None:
        return None
    header = ("own events", "users", "predictions", "global", "as shipped", "gain", "95 % interval")
    return Table(header, [_bin_row(one) for one in summary["personal"]["gain_by_own_events"]])


def _bin_row(one: dict) -> tuple[str, ...]:
    recalls = metric(one["before"]["recall@20"]), metric(one["after"]["recall@20"])
    limits = interval(one["gain_ci95_recall@20"])
    return one["own_events"], count(one["users"]), count(one["predictions"]), *recalls, signed(one["gain_recall@20"]), limits


def cadence(runs: Runs) -> Section | None:
    """What it is worth that devices go on fine-tuning, by how many updates they have done."""
    found = joined(runs, _cadence_table)
    if found is None:
        return None
    text = (
        "Recall@20 of test sessions in order of time: each is predicted, then, after every --update_every new events, learnt from. "
        "Fixed are the networks that devices chose by their own hold-out before the test, whether or not validation lets them ship."
    )
    return Section("Fine-tuning on the way", text, (found, joined(runs, _update_gains_table)))


def _cadence_table(summary: dict) -> Table | None:
    personal = summary["personal"] or {}
    if "cadence" not in personal:
        return None
    rows = [(count(one["updates"]), *_cadence_row(one)) for one in personal["cadence"]]
    return Table(("updates before", "users", "predictions", *UPDATED), [*rows, ("all", *_cadence_row(personal["cadence_total"]))])


def _cadence_row(one: dict) -> tuple[str, ...]:
    return count(one["users"]), count(one["predictions"]), *(metric(one[name]["recall@20"]) for name in UPDATED.values())


def _update_gains_table(summary: dict) -> Table | None:
    total = (summary["personal"] or {}).get("cadence_total")
    if total is None:
        return None
    limits = {"network alone": total["network_gain_ci95"], "with own history": total["gain_ci95"]}
    rows = [(f"{name}, {label}", interval(one[key])) for name, one in limits.items() for label, key in METRICS.items()]
    return Table(("gain of updated over fixed", "95 % interval"), rows)
