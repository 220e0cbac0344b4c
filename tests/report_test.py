"""The report: its figures come from the stages' files under the right keys, and its page is whole, safe and readable."""

import html.parser
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import command
from matplotlib.image import imread

from jaxrec.data.own_history import FEATURES
from jaxrec.errors import InputError
from jaxrec.report.account import commands
from jaxrec.report.contents import markdown
from jaxrec.report.environment import environment, processor
from jaxrec.report.headline import claim, headline, notes, verdict
from jaxrec.report.plots import gain_histogram, plots
from jaxrec.report.summary import gain_by_own_events, summarise
from jaxrec.report.tables import Table, join, table
from jaxrec.stages.report import names, write_report

CUTOFFS = (1, 5, 10, 20)
DEVICE = {
    **{"recommend_p50_ms": 1.82, "recommend_p95_ms": 2.31, "recommend_call_p50_ms": 1.97, "step_p50_ms": 0.214, "train_p50_ms": 14.6},
    **{"recommend_max_abs_error": 3.1e-06, "train_max_abs_error": 8.4e-07, "peak_rss_mb": 21.4, "threads": 1},
}


def fake_run(workdir: Path, users: int = 400, seed: int = 0, **settings) -> Path:
    """Files such as every stage of a run leaves; the users' figures agree with the totals."""
    log = fake_users(users, seed)
    put(workdir / "dataset" / "manifest.json", fake_manifest(users))
    put(workdir / "train" / "metrics.json", {**curve(0.281), **fake_training(), "settings": {"train": {"epochs": 5, **settings}}})
    history = [json.dumps(line) for line in fake_history()]
    (workdir / "train" / "metrics.jsonl").write_text("\n".join(history) + "\n")
    models = {name: evaluated(top) for name, top in (("popularity", 0.02), ("markov", 0.243), ("item_knn", 0.251))}
    put(workdir / "evaluation" / "metrics.json", {**models, "seconds": 41.0, "settings": {"model": [*models]}})
    put(workdir / "candidates" / "metrics.json", fake_candidates())
    put(workdir / "personal" / "metrics.json", fake_personal(log))
    log.to_parquet(workdir / "personal" / "users.parquet")
    put(
        workdir / "device" / "manifest.json",
        {"model_bytes": 512_344, "seconds": 9.5, "settings": {"precision": "float32"}, "candidates": 500},
    )
    put(workdir / "device" / "measurement.json", {**DEVICE, "model_bytes": 512_344, "seconds": 21.0, "settings": {"runs": 200}})
    return workdir


def fake_users(users: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    own, predictions = random.negative_binomial(1, 0.03, users), random.integers(1, 30, users)
    hits = random.binomial(predictions, 0.28)
    trained = own > 0
    gained = np.minimum(predictions - hits, random.binomial(predictions, 0.12)) * (random.random(users) < 0.5) * trained
    lost = np.minimum(hits, random.binomial(predictions, 0.03)) * trained
    recall = {"before": hits / predictions, "fine_tuned": (hits + gained // 2) / predictions, "after": (hits + gained - lost) / predictions}
    columns = {f"{name}_{metric}": value * scale for name, value in recall.items() for metric, scale in (("recall@20", 1), ("mrr@20", 0.4))}
    names_ = [f"u{number}" for number in range(users)]
    fallback = trained & (random.random(users) < 0.2)
    return pd.DataFrame(
        {"user": names_, "own_events": own, "predictions": predictions, "trained": trained, "fallback": fallback, **columns}
    )


def fake_manifest(users: int) -> dict:
    return {
        **{"rows_read": 110_000, "rows_dropped": {"duplicate": 1_200, "item_not_in_global_period": 8_800}, "events": 100_000},
        **{"sessions": 21_000, "users": users, "items": 2_000, "straddling_events": 31, "warnings": [], "seconds": 3.2},
        "periods": {
            "global": {"events": 70_000, "sessions": 14_700, "users": users},
            "personal": {"events": 18_000, "sessions": 3_800, "users": users - 20},
            "test": {"events": 12_000, "sessions": 2_500, "users": users},
        },
        "options": {"session_gap_minutes": 30.0, "personal_from": "0.7", "behaviors": None, "min_item_support": 5},
    }


def fake_training() -> dict:
    return {
        "predictions": 9_500,
        "train_events_per_s": 812_345.6,
        "train_seconds": 61.5,
        "updates": 9_000,
        "epochs": 5,
        "loss": "full",
        "schedule": "linear",
        "seconds": 88.0,
    }


def fake_history() -> list[dict]:
    lines = []
    for phase in ("selection", "final"):
        for updates in range(100, 9_001, 100):
            line = {"phase": phase, "epoch": 1 + (updates - 1) // 1_800, "updates": updates, "loss": 3 + 4 * math.exp(-updates / 2_000)}
            lines.append(line | {"events_per_s": 8e5})
            if phase == "selection" and updates % 1_800 == 0:
                lines[-1] |= {"recall@20": 0.28 - 0.2 * math.exp(-updates / 2_500), "mrr@20": 0.1}
    return lines


def curve(recall: float) -> dict:
    """Metrics at every cutoff, rising to `recall` at 20."""
    values = {f"recall@{k}": recall * math.log1p(k) / math.log1p(20) for k in CUTOFFS}
    return values | {f"mrr@{k}": value * 0.45 for k, value in zip(CUTOFFS, values.values(), strict=True)} | {"predictions": 9_500}


def fake_candidates() -> dict:
    groups = ("all", "old", "new")
    lists = {"100": 0.311, "500": 0.472}
    return {
        **{"users": 400, "users_with_history": 377, "lists": [100, 500], "predictions": {"all": 5_600, "old": 5_600, "new": 0}},
        "recall": {n: {group: {"union": value, "item_knn": value / 2} for group in groups} for n, value in lists.items()},
        **{"own_beyond": {"100": 8.6, "500": 4.7}, "seconds": 1.5, "settings": {"candidates_per_user": [100, 500]}},
    }


def evaluated(recall: float) -> dict:
    """What is known of a model today: an interval of a tenth either way, and two parts of the test where it is twice and half as good."""
    found = curve(recall) | {"ndcg@20": recall / 2, "mean_rank": 30 / recall, "coverage@20": 0.4, "popularity@20": 0.9}
    limits = {key: [0.9 * found[key], 1.1 * found[key]] for key in ("recall@20", "mrr@20", "ndcg@20")}
    groups = {"hot_targets": curve(2 * recall) | {"predictions": 3_100}, "new_users": curve(recall / 2) | {"predictions": 6_400}}
    return found | {"ci95": limits, "groups": groups, "clusters": 400, "lists": 5_000}


def fake_personal(log: pd.DataFrame) -> dict:
    baselines = {"markov": 0.244, "user_history": 0.295, "markov_user_history": 0.301}
    return {
        **fake_gain(log),
        **{"users_trained": int(log["trained"].sum()), "users_per_s": 1_240.0, "users_fallback": float(log["fallback"].mean())},
        "personal_bytes_per_user": 283_904,
        "baselines": {name: {"recall@20": value, "mrr@20": value * 0.4} for name, value in baselines.items()},
        "old_users": fake_gain(log[log["own_events"] > 0]),
        "new_users": fake_gain(log[log["own_events"] == 0]),
        **{"learning_rate": 0.01, "epochs": 2, "fine_tuned_is_used": True, "history": [1.75, -0.29, 1.45, -0.04, 0.5, -0.08, -0.16, -0.3]},
        "trials": [{"learning_rate": 0.01, "epochs": epochs, "fall_of_loss": 0.02 * epochs, "error": 0.004} for epochs in (1, 2)],
        "planning": {"shapes": 6, "users": 390, "steps_read": 70_000, "steps": 100_000, "padding": 0.3},
        "seconds": 12.0,
        "settings": {"personal": {"personal_epochs": 3, "own_replay": True}},
        "attainable": {
            **{"best_without_user": {"recall@20": 0.31, "mrr@20": 0.13}, "best_with_user": {"recall@20": 0.42, "mrr@20": 0.2}},
            "recovered": 0.44,
        },
    }


def fake_gain(log: pd.DataFrame) -> dict:
    """What personalisation did for the users of a part of the log; for none of them it is zeros, as its stage writes it."""
    weight = log["predictions"] if len(log) else None
    mean = {
        name: {m: float(np.average(log[f"{name}_{m}"], weights=weight)) if len(log) else 0.0 for m in ("recall@20", "mrr@20")}
        for name in RESULTS
    }
    mean |= {"before_with_history": scaled(mean["before"], 1.1), "fine_tuned_with_history": scaled(mean["fine_tuned"], 1.1)}
    change = log["after_recall@20"] - log["before_recall@20"]
    gain = {name: {m: mean[name][m] - mean["before"][m] for m in mean[name]} for name in ("after", "fine_tuned")}
    counts = {name: float(part.mean()) if len(log) else 0.0 for name, part in (("better", change > 0), ("worse", change < 0))}
    return {
        **{"users": len(log), "predictions": int(log["predictions"].sum()), **mean},
        "gain_ci95": {metric: [value * 0.8, value * 1.2] for metric, value in gain["after"].items()},
        "fine_tuned_gain_ci95": {metric: [value * 0.8, value * 1.2] for metric, value in gain["fine_tuned"].items()},
        **{f"users_{name}": value for name, value in counts.items()},
        "users_same": 1 - sum(counts.values()),
    }


def scaled(figures: dict, factor: float) -> dict:
    return {name: value * factor for name, value in figures.items()}


RESULTS = ("before", "fine_tuned", "after")


def put(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change(path: Path, **values) -> None:
    put(path, json.loads(path.read_text()) | values)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "shop")


class Page(html.parser.HTMLParser):
    """What a browser would see: open tags, attributes, text."""

    VOID = ("meta", "link", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.attributes, self.tags, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)


# The figures


def test_every_figure_stands_under_its_key(run):
    found = summarise(run)
    assert found["dataset"]["events"] == 100_000 and found["dataset"]["items"] == 2_000
    assert found["global"]["recall@20"] == pytest.approx(0.281) and found["global"]["train_events_per_s"] == 812_345.6
    assert found["personal"]["personal_bytes_per_user"] == 283_904 and found["personal"]["users"] == 400
    assert found["device"] == {"model_bytes": 512_344, **DEVICE}
    assert found["environment"]["stage_seconds"] == {
        **{"prepare": 3.2, "train": 88.0, "candidates": 1.5, "evaluate": 41.0},
        **{"personalize": 12.0, "export": 9.5, "measure": 21.0},
    }
    json.dumps(found, allow_nan=False)


def test_report_json_has_at_least_the_promised_keys(run):
    promised = {
        "dataset": ("events", "sessions", "users", "items"),
        "global": ("recall@20", "mrr@20", "predictions", "train_events_per_s", "train_seconds"),
        "personal": (
            *("users", "users_trained", "users_per_s", "predictions", "personal_bytes_per_user", *RESULTS, "baselines", "gain_ci95"),
            *("users_better", "users_same", "users_worse", "users_fallback"),
        ),
        "device": ("model_bytes", *DEVICE),
        "environment": ("versions", "device", "cpu_count", "stage_seconds"),
    }
    found = write_report([run])
    assert found == json.loads((run / "report.json").read_text())
    assert {part: set(keys) - found[part].keys() for part, keys in promised.items()} == {part: set() for part in promised}


def test_bins_by_hand():
    users = pd.DataFrame({"own_events": [0, 3, 4, 500], "predictions": [10, 1, 3, 2], "fine_tuned_recall@20": [0.1, 0, 0, 0.5]})
    users = users.assign(**{"before_recall@20": [0.1, 0.0, 1.0, 0.0], "after_recall@20": [0.1, 1.0, 1.0, 0.5]})
    none, few, many = gain_by_own_events(users)
    assert [one["own_events"] for one in (none, few, many)] == ["0", "1-4", "200+"]
    assert (few["users"], few["predictions"]) == (2, 4)
    assert few["before"]["recall@20"] == 0.75 and few["after"]["recall@20"] == 1.0, (
        "three of four predictions, then all: predictions count the same"
    )
    assert many["gain_recall@20"] == 0.5 and many["gain_ci95_recall@20"] is None, "one user says nothing about the spread"


def test_bins_add_up_to_all_users(run):
    personal = summarise(run)["personal"]
    bins = personal["gain_by_own_events"]
    assert sum(one["users"] for one in bins) == personal["users"]
    assert sum(one["predictions"] for one in bins) == personal["predictions"]
    total = sum(one["predictions"] * one["after"]["recall@20"] for one in bins) / personal["predictions"]
    assert total == pytest.approx(personal["after"]["recall@20"])


def test_users_without_a_prediction_are_left_out(run):
    path = run / "personal" / "users.parquet"
    users = pd.read_parquet(path)
    silent = users.head(2).assign(predictions=0, **{f"{name}_recall@20": math.nan for name in RESULTS})
    pd.concat([users, silent]).to_parquet(path)
    assert sum(one["users"] for one in summarise(run)["personal"]["gain_by_own_events"]) == 400


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        *(("dataset", "dataset"), ("train", "global"), ("candidates", "candidates")),
        *(("evaluation", "evaluation"), ("personal", "personal"), ("device", "device")),
    ],
)
def test_a_stage_that_did_not_run_is_null_and_left_out(run, stage, part):
    shutil.rmtree(run / stage)
    found = write_report([run])
    assert found[part] is None and sum(value is None for value in found.values()) == 1
    Page((run / "report.html").read_text())


def test_sections_of_missing_stages_are_left_out(run):
    for stage in ("personal", "device"):
        shutil.rmtree(run / stage)
    text = write_report([run]) and (run / "report.md").read_text()
    assert "## On the device" not in text and "## Users" not in text and "## The whole test period" in text
    assert "personal models were not trained" in text


def test_what_auto_trained_with_is_named(run):
    assert write_report([run]) and re.search(r"\| loss +\| +full +\|\n\| schedule +\| +linear +\|", (run / "report.md").read_text())


def test_candidates_are_shown_with_their_bytes_where_rows_have_a_length(run, tmp_path):
    text = write_report([run]) and (run / "report.md").read_text()
    assert "## Candidates" in text and "source: item_knn" in text and "|   31.1 % |   31.1 % |        – |" in text and "| bytes" not in text
    weighed = fake_run(tmp_path / "weighed", embedding_dim=64)
    found = write_report([weighed])["candidates"]["bytes"]
    assert found["pull"]["float32"]["100"] == 100 * (64 * 4 + 8) and found["model"] == 512_344
    text = (weighed / "report.md").read_text()
    assert "26.4 kB (19.7x less)" in text and "| whole model file" in text
    shutil.rmtree(weighed / "candidates")
    assert write_report([weighed]) and "## Candidates" not in (weighed / "report.md").read_text()


def test_models_ranked_within_candidates_do_not_pass_for_others(run):
    change(run / "evaluation" / "metrics.json", settings={"rank_within": "candidates"}, **{"global": curve(0.5)})
    text = write_report([run]) and (run / "report.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.split("## The whole test period")[1].split("## ")[0].splitlines() if "|" in line]
    assert {"global", "global, within candidates", "markov, within candidates"} < set(rows) and "markov" not in rows


def test_a_log_without_users_has_no_personal_part(run):
    put(run / "personal" / "metrics.json", {"personal": None, "seconds": 0.1, "settings": {}})
    (run / "personal" / "users.parquet").unlink()
    change(run / "dataset" / "manifest.json", users=0)
    found = summarise(run)
    assert found["personal"] is None and "the log names no users" in headline(found)


def test_export_without_measurement(run):
    (run / "device" / "measurement.json").unlink()
    found = write_report([run])["device"]
    assert found["model_bytes"] == 512_344 and found["train_p50_ms"] is None


def test_dataset_elsewhere(run, tmp_path):
    shutil.move(run / "dataset", tmp_path / "data")
    assert summarise(run)["dataset"] is None
    assert summarise(run, tmp_path / "data")["dataset"]["sessions"] == 21_000
    with pytest.raises(InputError, match=r"nowhere/manifest\.json"):
        summarise(run, tmp_path / "nowhere")


# Files that are not what they should be


@pytest.mark.parametrize(
    "name",
    [
        *("dataset/manifest.json", "train/metrics.json", "train/metrics.jsonl", "evaluation/metrics.json", "personal/metrics.json"),
        "candidates/metrics.json",
        *("personal/users.parquet", "device/manifest.json", "device/measurement.json"),
    ],
)
def test_a_truncated_file_is_named(run, name):
    path = run / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=re.escape(str(path))):
        summarise(run)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("train/metrics.json", "recall@20", math.nan),
        ("evaluation/metrics.json", "markov", {"mrr@20": math.inf}),
        ("personal/metrics.json", "before", {"recall@20": math.nan}),
        ("device/measurement.json", "step_p50_ms", -math.inf),
    ],
)
def test_a_number_that_is_none_is_named(run, name, key, value):
    change(run / name, **{key: value})
    with pytest.raises(InputError, match=rf"{re.escape(str(run / name))}: expected finite numbers; got -?(nan|inf) at '{key}"):
        summarise(run)


def test_intervals_and_groups_of_an_evaluation_are_checked_too(run):
    path, more = run / "evaluation" / "metrics.json", {"ci95": {"recall@20": [0.2, 0.3]}, "groups": {"hot_targets": {"recall@20": 0.4}}}
    change(path, markov=curve(0.2) | more)
    assert summarise(run)["evaluation"]["markov"].items() >= more.items()
    for wrong, place in (({"ci95": {"recall@20": [0.2]}}, "recall@20"), ({"groups": {"hot_targets": 0.4}}, "hot_targets")):
        change(path, markov=curve(0.2) | more | wrong)
        with pytest.raises(InputError, match=rf"metrics\.json: expected (two numbers|an object) as '{place}'"):
            summarise(run)


def test_nan_in_training_log_names_the_line(run):
    path = run / "train" / "metrics.jsonl"
    path.write_text('{"updates": 1, "loss": 2.0}\n{"updates": 2, "loss": NaN}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: .* nan at 'loss'"):
        summarise(run)


def test_nan_in_users_is_named(run):
    path = run / "personal" / "users.parquet"
    users = pd.read_parquet(path)
    users.loc[3, "after_recall@20"] = math.nan
    users.to_parquet(path)
    with pytest.raises(InputError, match=r"users\.parquet: .*after_recall@20"):
        summarise(run)


def test_users_of_another_run_are_refused(run):
    fake_users(17, 0).to_parquet(run / "personal" / "users.parquet")
    with pytest.raises(InputError, match=r"users\.parquet: expected 400 users .* got 17"):
        summarise(run)


@pytest.mark.parametrize(
    ("name", "key"), [("train/metrics.json", "mrr@20"), ("personal/metrics.json", "gain_ci95"), ("dataset/manifest.json", "items")]
)
def test_a_missing_key_is_named(run, name, key):
    found = json.loads((run / name).read_text())
    del found[key]
    put(run / name, found)
    with pytest.raises(InputError, match=rf"{re.escape(str(run / name))}: expected the key '{re.escape(key)}'"):
        summarise(run)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("before", {"mrr@20": 0.1}),
        ("after", None),
        ("users", "many"),
        ("users_better", None),
        ("gain_ci95", [0.1]),
        ("baselines", []),
        ("fine_tuned_is_used", 1),
        ("history", [1.0, 2.0]),
        ("new_users", {}),
        ("trials", {}),
        ("trials", [{"epochs": 1}]),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(run, part, value):
    change(run / "personal" / "metrics.json", **{part: value})
    with pytest.raises(InputError, match=rf"personal/metrics\.json: .*{part}"):
        summarise(run)


def test_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        summarise(tmp_path / "typo")
    with pytest.raises(InputError, match="found none"):
        summarise(tmp_path)


def test_a_failed_report_leaves_the_old_one(run):
    write_report([run])
    old = {name: (run / name).read_bytes() for name in ("report.html", "report.md", "report.json")}
    change(run / "train" / "metrics.json", **{"recall@20": math.nan})
    with pytest.raises(InputError):
        write_report([run])
    assert {name: (run / name).read_bytes() for name in old} == old and not list(run.glob(".*"))


# Words


@pytest.mark.parametrize(
    ("limits", "found", "words"),
    [
        ([0.001, 0.02], "better", "beat the global"),
        ([-0.02, -0.001], "worse", "fall behind"),
        ([-0.01, 0.02], "undecided", "are not shown to differ"),
        ([0.0, 0.0], "undecided", "includes zero"),
    ],
)
def test_the_headline_says_no_more_than_the_interval(run, limits, found, words):
    change(run / "personal" / "metrics.json", gain_ci95={"recall@20": limits, "mrr@20": limits})
    sentence = headline(summarise(run))
    assert verdict(limits) == found and words in sentence
    assert ("includes zero" in sentence) == (found == "undecided")


def test_the_headline_has_bytes_and_milliseconds(run):
    sentence = headline(summarise(run))
    assert "283.9 kB per user, 1.82 ms to recommend and 14.6 ms for one training update" in sentence and "400 users" in sentence


def test_a_better_baseline_is_not_hidden(run):
    better = {"user_history": {"recall@20": 0.9, "mrr@20": 0.3}, "markov": {}}
    change(run / "personal" / "metrics.json", baselines=better)
    assert any("user_history, reaches Recall@20 0.9000: more than what is shipped" in note for note in notes(summarise(run)))


def test_a_better_model_over_the_whole_test_is_not_hidden(run):
    assert not any("whole test period" in note for note in notes(summarise(run))), "the global model is the best of them"
    change(run / "evaluation" / "metrics.json", item_knn=evaluated(0.3), markov=evaluated(0.4))
    assert not any("whole test period" in note for note in notes(summarise(run))), "markov stands among the baselines over the users"
    change(run / "evaluation" / "metrics.json", item_knn=evaluated(0.5))
    assert any("item_knn has the highest Recall@20, 0.5000" in note for note in notes(summarise(run)))


OFF = [0.0] * len(FEATURES)
CASES_OF_SHIPPING = {
    "without the prior": ({"history": OFF}, "personal models beat the global one"),
    "without networks": ({"fine_tuned_is_used": False}, "global models with the user's own history beat the global one"),
    "both": ({}, "personal models with the user's own history beat the global one"),
    "all fell back": ({"users_fallback": 1.0}, "global models with the user's own history beat the global one"),
    "nothing": ({"fine_tuned_is_used": False, "history": OFF}, "nothing personal is shipped"),
}


@pytest.mark.parametrize(("changed", "words"), CASES_OF_SHIPPING.values(), ids=CASES_OF_SHIPPING)
def test_the_headline_names_what_is_shipped(run, changed, words):
    limits = {"recall@20": [0.01, 0.02], "mrr@20": [0.01, 0.02]}
    change(run / "personal" / "metrics.json", gain_ci95=limits, **changed)
    found = summarise(run)
    networks = words.startswith("personal models")
    assert words in headline(found)
    assert ("per user" in headline(found), "training update" in headline(found)) == (networks, networks), "what is not there costs nothing"
    assert ("The history prior is off." in notes(found)) == (changed.get("history") == OFF)
    text = write_report([run]) and (run / "report.html").read_text()
    assert ("on each device" in text) == networks
    assert re.search(rf"\| history prior +\| {'off' if 'history' in changed else 'on'} +\|", (run / "report.md").read_text())


def test_without_predictions_nothing_is_claimed(run):
    change(run / "personal" / "metrics.json", predictions=0, users=0)
    users = run / "personal" / "users.parquet"
    pd.read_parquet(users).assign(predictions=0).to_parquet(users)
    found = summarise(run)
    assert re.fullmatch(r"The global model reaches .*; none is a user's, so nothing is known of personal models\.", headline(found))
    change(run / "train" / "metrics.json", predictions=0)
    found = summarise(run)
    assert (claim(found), headline(found)) == ("No model was evaluated", "Nothing was measured: the test period holds no prediction.")
    assert not any("Recall" in note for note in notes(found) if "whole test" not in note)


def test_updates_on_the_way_are_shown_where_they_were_asked_for(run):
    assert "Fine-tuning on the way" not in markdown({"shop": summarise(run)})
    names = ("before", "before_with_history", "fixed", "fixed_with_history", "updated", "updated_with_history")
    rows = [
        {"users": 9 - n, "predictions": 90, **{name: {"recall@20": 0.1 * i + 0.01 * n, "mrr@20": 0.1} for i, name in enumerate(names)}}
        for n in (0, 1)
    ]
    limits = {
        "network_gain_ci95": {"recall@20": [0.01, 0.02], "mrr@20": [-0.03, 0.04]},
        "gain_ci95": {"recall@20": [0, 0], "mrr@20": [0, 0]},
    }
    change(run / "personal" / "metrics.json", cadence=[{"updates": n, **row} for n, row in enumerate(rows)], cadence_total=rows[0] | limits)
    text = markdown({"shop": summarise(run)})
    assert re.search(r"\| 1 +\| +8 \| +90 \| +0\.0100 \| +0\.2100 \| +0\.4100 \| +0\.3100 \| +0\.5100 \|", text)
    assert re.search(r"\| network alone, MRR@20 +\| +-0\.0300 to \+0\.0400 \|", text)


def test_warnings_about_the_data_are_shown(run):
    change(run / "dataset" / "manifest.json", warnings=["every session has one event"])
    assert "every session has one event" in markdown({"shop": summarise(run)})


# The whole test period


def test_models_stand_by_recall_with_their_intervals(run):
    text = part(run, "The whole test period")
    assert re.findall(r"^\| (\w+) +\| +0", text, re.MULTILINE) == ["global", "item_knn", "markov", "popularity"]
    assert re.search(r"\| item_knn +\| 0\.2510 \[0\.2259, 0\.2761\] \|", text) and "bootstrap over 400 users" in text
    assert re.search(r"\| global +\| +0\.2810 \| .*– \|", text), "only trained, not evaluated: what is known of it and no more"


def test_parts_of_the_test_stand_by_model(run):
    text = part(run, "The whole test period")
    assert re.search(r"\| Recall@20 of +\| predictions \| global \| item_knn \| markov \| popularity \|", text)
    assert re.search(r"\| hot targets +\| +3,100 \| +– \| +0\.5020 \| 0\.4860 \|", text)
    assert re.search(r"\| new users +\| +6,400 \| +– \| +0\.1255 \|", text)


def test_what_was_evaluated_replaces_what_training_said(run):
    change(run / "evaluation" / "metrics.json", **{"global": evaluated(0.282)})
    text = part(run, "The whole test period")
    assert "| 0.2820 [0.2538, 0.3102] |" in text and "what devices ship" not in text
    change(run / "evaluation" / "metrics.json", personal=evaluated(0.3))
    assert "personal is what devices ship" in part(run, "The whole test period")


def test_an_evaluation_of_an_older_form_still_reports(run):
    put(run / "evaluation" / "metrics.json", {"markov": curve(0.243), "item_knn": curve(0.3), "seconds": 41.0})
    text = part(run, "The whole test period")
    assert re.search(r"\| model +\| Recall@20 \| MRR@20 \| predictions \|", text), "columns that no model fills are left out"
    assert "[" not in text and "Recall@20 of" not in text and "bootstrap" not in text
    assert re.search(r"\| Recall@5 +\| +0\.1766 \|", text), "0.3 ln(6) / ln(21)"


def test_models_of_several_runs_stand_by_recall_too(run, tmp_path):
    other = fake_run(tmp_path / "other")
    change(other / "evaluation" / "metrics.json", session_knn=evaluated(0.27))
    text = markdown({"shop": summarise(run), "other": summarise(other)}).partition("## The whole test period\n")[2]
    assert re.findall(r"^\| (\w+) +\| [^|]*\| [^|]*\| [^|]*\| [^|]*\|$", text, re.MULTILINE)[1:6] == [
        *("global", "session_knn", "item_knn", "markov", "popularity")
    ]
    assert "| other: session_knn |" in text and text.count("bootstrap over 400 users") == 1


def part(run: Path, title: str) -> str:
    """A section of the report."""
    return markdown({"shop": summarise(run)}).partition(f"## {title}\n")[2].partition("\n## ")[0]


# Tables


def test_a_table_is_aligned_and_valid_markdown():
    lines = table(("model", "n"), [("a|b", "1"), ("longer name", "1,000")]).splitlines()
    assert lines[0] == "| model       |     n |" and lines[2] == "| a\\|b        |     1 |"
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| :---------- | ----: |"


def test_runs_side_by_side(run, tmp_path):
    other = fake_run(tmp_path / "other", users=50, seed=1)
    shutil.rmtree(other / "device")
    found = write_report([run, other])
    assert found["personal"]["users"] == 400 and found["compared"]["other"]["personal"]["users"] == 50
    text = (run / "report.md").read_text()
    assert re.search(r"\| users with a test prediction +\| +400 \| +50 \|", text)
    assert "| model" in text and "shop: Recall@20" in text and "other: Recall@20" in text
    assert not (other / "report.md").exists()
    Page((run / "report.html").read_text())


def test_rankers_of_all_old_and_new_users(run):
    found = summarise(run)
    text = markdown({"shop": found})
    shown = [f"{found['personal'][part]['after']['recall@20']:.4f}" for part in ("old_users", "new_users")]
    assert re.search(rf"\| as shipped +\| +{found['personal']['after']['recall@20']:.4f} \| +{shown[0]} \| +{shown[1]} \|", text)
    assert text.count("| fine-tuned, with own history ") == 3, "beside the baselines, by Recall@20 and by MRR@20"


def test_without_new_users_they_have_no_metric(run):
    change(run / "personal" / "metrics.json", new_users=fake_gain(fake_users(0, 0)))
    text = markdown({"shop": summarise(run)})
    assert re.search(r"\| as shipped +\| +0\.\d{4} \| +0\.\d{4} \| +– \|", text)


def test_what_was_chosen_stands_with_its_weights(run):
    text = markdown({"shop": summarise(run)})
    assert re.search(r"\| learning rate +\| 0\.0100 +\|", text) and re.search(r"\| in session +\| -0\.080 \|", text)
    assert re.search(r"\| 0\.0100, 2 +\| +\+0\.0400 \| +0\.0040 \|", text) and re.search(r"\| padding +\| +30\.0 % \|", text)


def test_join_fills_what_a_run_lacks():
    joined = join({"a": Table(("m", "x", "y"), [("p", "1", "2")]), "b": Table(("m", "x"), [("q", "3")])})
    assert joined == Table(("m", "a: x", "a: y", "b: x"), [("p", "1", "2", "–"), ("q", "–", "–", "3")])


def test_settings_become_the_flags_of_each_command(run):
    change(run / "dataset" / "manifest.json", inputs=[{"name": "a b.csv", "bytes": 1}, {"name": "c.csv", "bytes": 1}])
    found = {line.split()[2]: line for line in commands(summarise(run))}
    assert [*found] == [f"launch.{name}" for name in ("prepare", "train", "candidates", "personalize", "evaluate", "export", "measure")]
    words = {name: shlex.split(line.replace("\\\n", "")) for name, line in found.items()}
    assert words["launch.prepare"][3:5] == ["--input=a b.csv,c.csv", f"--dataset={run / 'dataset'}"], "spaces are quoted"
    places = [f"--dataset={run / 'dataset'}", f"--workdir={run}"]
    assert words["launch.train"][3:5] == places and words["launch.measure"][3:4] == places[1:]
    assert "--epochs=5" in found["launch.train"] and "--own_replay" in found["launch.personalize"]
    assert "--model=popularity,markov,item_knn" in found["launch.evaluate"]
    assert "behaviors" not in found["launch.prepare"], "None is the absence of a flag"


def test_names_of_runs(tmp_path):
    assert list(names([tmp_path / "a" / "x", tmp_path / "y"])) == ["x", "y"]
    assert list(names([tmp_path / "a" / "x", tmp_path / "b" / "x"])) == [str(tmp_path / "a" / "x"), str(tmp_path / "b" / "x")]
    with pytest.raises(InputError, match="once"):
        names([tmp_path, tmp_path])


# The page


def test_the_page_is_whole_and_loads_nothing(run):
    write_report([run])
    text = (run / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.tags.count("svg") == 6 and page.tags.count("h1") == 1
    assert not re.search(r"https?://|@import|<script", text)
    loads = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert all(value.startswith(("#", "data:")) for value in loads)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)), "two plots share an id"
    links = [value[1:] for value in loads if value.startswith("#")] + re.findall(r"url\(#([^)]+)\)", text)
    assert set(links) <= set(ids), "a plot points to a part that is not there"


def test_the_page_says_what_report_json_says(run):
    change(run / "evaluation" / "metrics.json", **{"global": evaluated(0.2811)})
    found, shown = write_report([run]), Page((run / "report.html").read_text()).texts
    text = re.sub(r"\s+", " ", " ".join(shown))
    for one in found["evaluation"].values():
        for key, (low, high) in one["ci95"].items():
            assert f"{one[key]:.4f} [{low:.4f}, {high:.4f}]" in text
        assert f"{one['mean_rank']:,.0f}" in shown and all(f"{group['recall@20']:.4f}" in shown for group in one["groups"].values())
    personal = found["personal"]
    figures = [*(personal[of][key] for of in ("before", "fine_tuned", "after") for key in ("recall@20", "mrr@20"))]
    assert all(f"{value:.4f}" in shown for value in figures)


def test_the_page_escapes_what_the_data_says(tmp_path):
    run = fake_run(tmp_path / "<i>run</i>")
    change(run / "evaluation" / "metrics.json", **{"<b>": {"recall@20": 0.1}, "x&amp;<script>": {"recall@20": 0.2}})
    change(run / "dataset" / "manifest.json", warnings=["<b>bold</b>"], rows_dropped={'"<b>"': 3})
    users = pd.read_parquet(run / "personal" / "users.parquet")
    users.assign(user="<b>").to_parquet(run / "personal" / "users.parquet")
    write_report([run, fake_run(tmp_path / "<u>", users=9)])
    page = Page((run / "report.html").read_text())
    assert not {"b", "i", "u", "script"} & set(page.tags)
    assert "<b>" in page.texts and "x&amp;<script>" in page.texts


def test_plots_take_their_colours_from_the_page(run):
    text = write_report([run]) and (run / "report.html").read_text()
    assert "var(--ink)" in text and "var(--gain)" in text and not re.search("#0102[0-9a-f]{2}", text)


def test_histogram_of_users_who_all_stay_the_same():
    same = pd.DataFrame({"before_recall@20": [0.5, 0.0], "after_recall@20": [0.5, 0.0]})
    assert "no change: 100%" in gain_histogram({"run": same})
    assert plots({}, {}, {}, {}) == {}


def test_reports_of_the_same_files_are_the_same(run):
    write_report([run])
    first = (run / "report.html").read_bytes()
    write_report([run])
    assert (run / "report.html").read_bytes() == first


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on PATH")
def test_a_browser_shows_the_page(run, tmp_path):
    write_report([run])
    picture = screenshot(run / "report.html", tmp_path / "page.png", tmp_path / "profile")
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50, "the page is blank"
    assert np.any(np.ptp(picture[400:, :, 0], axis=1) > 0.5), "nothing below the headline"


def screenshot(page: Path, picture: Path, profile: Path, *more: str, size: str = "1100,1600") -> np.ndarray:
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = ["chromium", *quiet.split(), "--disable-sync", f"--user-data-dir={profile}", f"--window-size={size}", *more]
    subprocess.run([*command, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True, timeout=90)
    return imread(picture)


# The environment and the command


def test_environment_names_what_numbers_depend_on(tmp_path):
    found = environment()
    assert found["versions"]["jax"] and found["versions"]["python"] == sys.version.split()[0] and found["cpu_count"] >= 1
    assert found["device"].startswith("2 x cpu"), "the tests run on two CPU devices"
    assert processor(tmp_path / "none"), "the architecture where the kernel says nothing"


ELSEWHERE = {"versions": {"python": "3.11.7", "jax": None}, "device": "NVIDIA H100; Xeon", "cpu_count": 16}


def test_the_report_names_what_the_stages_ran_on(run):
    assert summarise(run)["environment"]["device"].startswith("2 x cpu") and "| this report |" in part(run, "Environment").replace("  ", "")
    for name in ("train", "personal"):
        change(run / name / "metrics.json", environment=ELSEWHERE)
    change(run / "device" / "measurement.json", environment=ELSEWHERE | {"device": "phone", "cpu_count": 4})
    found = summarise(run)
    assert found["environment"].items() >= ELSEWHERE.items() and found["environment"]["stages"]["measure"]["cpu_count"] == 4
    assert not any("environment" in found[name] for name in ("global", "personal", "device"))
    text = part(run, "Environment")
    assert re.search(r"\| part +\| train, personalize +\| measure +\|", text)
    assert re.search(r"\| device +\| NVIDIA H100; Xeon +\| phone +\|", text) and re.search(
        r"\| jax +\| not installed +\| not installed", text
    )


@pytest.mark.parametrize(
    "wrong", ["cpu", {"versions": {}, "device": None, "cpu_count": 2}, {"versions": [], "device": "cpu", "cpu_count": 2}]
)
def test_an_environment_that_is_none_is_named(run, wrong):
    change(run / "train" / "metrics.json", environment=wrong)
    with pytest.raises(InputError, match=r"train/metrics\.json: expected .* as '(environment|device|versions)'"):
        summarise(run)


def test_the_command(run, tmp_path):
    done = command("report", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# jaxrec report") and done.stdout.rstrip().endswith(str(run / "report.html"))
    wrong = command("report", f"--workdir={tmp_path / 'typo'}")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: ") and "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("personal", "model"),
        ("train", "dataset"),
        ("evaluation", "personal models"),
        ("evaluation", "candidates"),
        ("evaluation", "dataset"),
    ],
)
def test_results_of_stages_that_did_not_work_on_each_other_are_refused(run, stage, name):
    change(run / "dataset" / "manifest.json", checksums={"items.npy": "of today"})
    change(run / "train" / "metrics.json", fingerprint="of today")
    summarise(run)
    change(run / stage / "metrics.json", inputs={name: "of yesterday"})
    with pytest.raises(InputError, match=f"expected results of {stage} that belong to the {name} there; they are of an earlier one"):
        summarise(run)
