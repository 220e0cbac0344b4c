"""What a run found, in one sentence and a few notes that keep the sentence honest."""

from typing import Any

from jaxrec.report.tables import count, metric, share, signed, significant, size

CLAIMS = {
    "better": "beat the global one",
    "worse": "fall behind the global one",
    "undecided": "are not shown to differ from the global one",
}


def claim(summary: dict[str, Any]) -> str:
    """The finding in a few words, no stronger than the interval allows."""
    if summary["personal"] is not None:
        return f"Personal models {CLAIMS[verdict(summary['personal']['gain_ci95']['recall@20'])]}"
    return "No model was evaluated" if summary["global"] is None else "The global model alone"


def headline(summary: dict[str, Any]) -> str:
    """One sentence: does the personal model beat the global one, for whom, at how many bytes and milliseconds."""
    if summary["personal"] is not None:
        return f"{_verdict(summary['personal'])}; {_price(summary)}." if _price(summary) else f"{_verdict(summary['personal'])}."
    if summary["global"] is not None:
        return f"{_global(summary['global'])}; {_why_not_personal(summary)}."
    return f"Neither a global nor a personal model was evaluated in this run; {_why_not_personal(summary)}."


def notes(summary: dict[str, Any]) -> list[str]:
    """Sentences that the headline leaves out: what fine-tuning does alone, what needs no network, who gains, what is odd about the data."""
    personal, dataset = summary["personal"], summary["dataset"]
    found = [] if personal is None else [_fine_tuning(personal), *_baseline(personal), *_bins(personal), *_attainable(personal)]
    return found + [f"Data: {warning}" for warning in (dataset or {}).get("warnings", [])]


def verdict(limits: list[float]) -> str:
    """What a 95 % interval of the gain allows to say.

    >>> verdict([0.01, 0.02]), verdict([-0.02, -0.01]), verdict([-0.01, 0.02])
    ('better', 'worse', 'undecided')
    """
    low, high = limits
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _verdict(personal: dict) -> str:
    before, after = personal["before"]["recall@20"], personal["after"]["recall@20"]
    limits = personal["gain_ci95"]["recall@20"]
    found = verdict(limits)
    zero = ", which includes zero" if found == "undecided" else ""
    return (
        f"Over {count(personal['users'])} users, personal models {CLAIMS[found]}: Recall@20 {metric(after)} against {metric(before)} "
        f"({signed(after - before)}, 95 % interval {signed(limits[0])} to {signed(limits[1])}{zero}), "
        f"better for {share(personal['users_better'])} of the users and worse for {share(personal['users_worse'])}"
    )


def _price(summary: dict) -> str:
    device = summary["device"] or {}
    parts = [f"they take {size(summary['personal']['personal_bytes_per_user'])} per user"]
    if device.get("recommend_p50_ms") is not None:
        parts.append(f"{significant(device['recommend_p50_ms'])} ms to recommend")
    if device.get("train_p50_ms") is not None:
        parts.append(f"{significant(device['train_p50_ms'])} ms for one training update on the device")
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def _global(figures: dict) -> str:
    return (
        f"The global model reaches Recall@20 {metric(figures['recall@20'])} and MRR@20 {metric(figures['mrr@20'])} "
        f"over {count(figures['predictions'])} predictions of the test period"
    )


def _why_not_personal(summary: dict) -> str:
    dataset = summary["dataset"]
    if dataset is not None and not dataset["users"]:
        return "the log names no users, so there are no personal models"
    return "personal models were not trained"


def _fine_tuning(personal: dict) -> str:
    before, tuned = personal["before"]["recall@20"], personal["fine_tuned"]["recall@20"]
    return (
        f"Fine-tuning alone, without the history prior, gives Recall@20 {metric(tuned)} ({signed(tuned - before)}); "
        f"{share(personal['users_fallback'])} of the users fall back to the global parameters."
    )


def _baseline(personal: dict) -> list[str]:
    known = {name: figures["recall@20"] for name, figures in personal["baselines"].items() if "recall@20" in figures}
    if not known:
        return []
    best, after = max(known, key=known.get), personal["after"]["recall@20"]
    text = f"The best baseline on the same predictions, {best}, reaches Recall@20 {metric(known[best])}"
    return [f"{text}: more than the personal models." if known[best] > after else f"{text}, no more than the personal models."]


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
    return [f"In this simulated shop the personal models recover {share(attainable['recovered'])} of what knowing the user could give."]
