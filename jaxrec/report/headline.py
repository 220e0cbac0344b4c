"""What a run found, in one sentence and a few notes that keep the sentence honest."""

from typing import Any

from jaxrec.report.outcome import ranked
from jaxrec.report.personal import ships_history, ships_networks
from jaxrec.report.tables import count, interval, metric, share, signed, significant, size

CLAIMS = {
    "better": "beat the global one",
    "worse": "fall behind the global one",
    "undecided": "are not shown to differ from the global one",
}
PERSONAL_MODELS, GLOBAL_MODELS, OWN_HISTORY = "personal models", "global models", " with the user's own history"


def claim(summary: dict[str, Any]) -> str:
    """The finding in a few words, no stronger than the interval allows."""
    personal = _judged(summary)
    if personal is not None:
        subject, limits = _subject(personal), personal["gain_ci95"]["recall@20"]
        return f"{subject[0].upper()}{subject[1:]} {CLAIMS[verdict(limits)]}" if subject else "The global model alone is shipped"
    return "The global model alone" if (summary["global"] or {}).get("predictions") else "No model was evaluated"


def headline(summary: dict[str, Any]) -> str:
    """One sentence: does what devices ship beat the global model, for whom, at how many bytes and milliseconds."""
    if (personal := _judged(summary)) is not None:
        return f"{'; '.join(filter(None, (_verdict(personal), _price(summary))))}."
    if summary["global"] is not None and not summary["global"]["predictions"]:
        return "Nothing was measured: the test period holds no prediction."
    if summary["global"] is not None:
        return f"{_global(summary['global'])}; {_why_not_personal(summary)}."
    return f"Neither a global nor a personal model was evaluated in this run; {_why_not_personal(summary)}."


def notes(summary: dict[str, Any]) -> list[str]:
    """Sentences that the headline leaves out: what fine-tuning and own history do alone, who gains, what is odd about the data."""
    personal, dataset = _judged(summary), summary["dataset"]
    found = (
        []
        if personal is None
        else [_fine_tuning(personal), _history(personal), *_baseline(personal), *_bins(personal), *_attainable(personal)]
    )
    return found + _best_ranked(summary) + [f"Data: {warning}" for warning in (dataset or {}).get("warnings", [])]


def verdict(limits: list[float]) -> str:
    """What a 95 % interval of the gain allows to say.

    >>> verdict([0.01, 0.02]), verdict([-0.02, -0.01]), verdict([-0.01, 0.02])
    ('better', 'worse', 'undecided')
    """
    low, high = limits
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _judged(summary: dict) -> dict | None:
    """The figures of personal models, where there is a prediction that tells anything of them."""
    personal = summary["personal"]
    return personal if personal is not None and personal["predictions"] else None


def _subject(personal: dict) -> str:
    """What is shipped beyond the bare global model; nothing: empty."""
    networks, history = ships_networks(personal), ships_history(personal)
    if not networks and not history:
        return ""
    return (PERSONAL_MODELS if networks else GLOBAL_MODELS) + (OWN_HISTORY if history else "")


def _verdict(personal: dict) -> str:
    before, after = personal["before"]["recall@20"], personal["after"]["recall@20"]
    if not _subject(personal):
        return f"Over {count(personal['users'])} users, nothing personal is shipped: Recall@20 stays the global model's, {metric(before)}"
    limits = personal["gain_ci95"]["recall@20"]
    found = verdict(limits)
    zero = ", which includes zero" if found == "undecided" else ""
    return (
        f"Over {count(personal['users'])} users, {_subject(personal)} {CLAIMS[found]}: Recall@20 {metric(after)} against {metric(before)} "
        f"({signed(after - before)}, 95 % interval {signed(limits[0])} to {signed(limits[1])}{zero}), "
        f"better for {share(personal['users_better'])} of the users and worse for {share(personal['users_worse'])}"
    )


def _price(summary: dict) -> str:
    """Bytes and milliseconds of what is shipped; a device whose network is not its own neither keeps nor trains one."""
    device, networks = summary["device"] or {}, ships_networks(summary["personal"])
    parts = [f"{size(summary['personal']['personal_bytes_per_user'])} per user"] if networks else []
    if device.get("recommend_p50_ms") is not None:
        parts.append(f"{significant(device['recommend_p50_ms'])} ms to recommend")
    if networks and device.get("train_p50_ms") is not None:
        parts.append(f"{significant(device['train_p50_ms'])} ms for one training update on the device")
    listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] if parts else ""
    return listed and f"{'they take' if networks else 'a device takes'} {listed}"


def _global(figures: dict) -> str:
    return (
        f"The global model reaches Recall@20 {metric(figures['recall@20'])} and MRR@20 {metric(figures['mrr@20'])} "
        f"over {count(figures['predictions'])} predictions of the test period"
    )


def _why_not_personal(summary: dict) -> str:
    dataset = summary["dataset"]
    if dataset is not None and not dataset["users"]:
        return "the log names no users, so there are no personal models"
    if summary["personal"] is not None:
        return "none is a user's, so nothing is known of personal models"
    return "personal models were not trained"


def _fine_tuning(personal: dict) -> str:
    before, tuned = personal["before"]["recall@20"], personal["fine_tuned"]["recall@20"]
    limits = interval(personal["fine_tuned_gain_ci95"]["recall@20"])
    alone = f"Fine-tuning alone, without own history, gives Recall@20 {metric(tuned)} ({signed(tuned - before)}, 95 % interval {limits})"
    if not personal["fine_tuned_is_used"]:
        return f"{alone}; validation chose to ship no fine-tuned networks."
    return f"{alone}; {share(personal['users_fallback'])} of the users keep the global parameters."


def _history(personal: dict) -> str:
    before, with_history = personal["before"]["recall@20"], personal["before_with_history"]["recall@20"]
    if not ships_history(personal):
        return "The history prior is off."
    alone = (
        f"The global model with own history, without fine-tuning, gives Recall@20 {metric(with_history)} ({signed(with_history - before)})"
    )
    more = (
        f"; what is shipped differs from that by {signed(personal['after']['recall@20'] - with_history)}"
        if ships_networks(personal)
        else ""
    )
    return f"{alone}{more}."


def _baseline(personal: dict) -> list[str]:
    known = {name: figures["recall@20"] for name, figures in personal["baselines"].items() if "recall@20" in figures}
    if not known:
        return []
    best, shipped = max(known, key=known.get), personal["after"]["recall@20"]
    text = f"The best baseline on the same predictions, {best}, reaches Recall@20 {metric(known[best])}"
    return [f"{text}: more than what is shipped." if known[best] > shipped else f"{text}, no more than what is shipped."]


def _best_ranked(summary: dict) -> list[str]:
    """The best of the models over the whole test, where the sentences above do not name it."""
    models = ranked(summary)
    best = next(iter(models), "global")
    if best in ("global", "personal", *(summary["personal"] or {}).get("baselines", ())):
        return []
    return [f"Of the models over the whole test period, {best} has the highest Recall@20, {metric(models[best].get('recall@20'))}."]


def _bins(personal: dict) -> list[str]:
    sure = [one for one in personal["gain_by_own_events"] if one["gain_ci95_recall@20"] and one["gain_ci95_recall@20"][0] > 0]
    if not sure:
        return []
    best = max(sure, key=lambda one: one["gain_recall@20"])
    return [f"The gain is largest for users with {best['own_events']} events of their own: {signed(best['gain_recall@20'])} Recall@20."]


def _attainable(personal: dict) -> list[str]:
    attainable = personal.get("attainable")
    if not attainable or attainable.get("recovered") is None:
        return []
    return [f"In this simulated shop what is shipped recovers {share(attainable['recovered'])} of what the users' clicks could give."]
