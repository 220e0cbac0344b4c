"""The report of one or several runs: report.html, report.md and report.json."""

from pathlib import Path
from typing import Any

from jaxrec.errors import InputError
from jaxrec.files import whole_file, write_json
from jaxrec.report.contents import markdown
from jaxrec.report.device_plots import device_plots
from jaxrec.report.outcome import ranked
from jaxrec.report.page import page
from jaxrec.report.plots import plots
from jaxrec.report.results import Results, read_results
from jaxrec.report.summary import summary_of


def write_report(workdirs: list[Path], dataset: Path | None = None) -> dict[str, Any]:
    """Write the report into the first workdir and return its summary, which is report.json.

    Several workdirs are shown side by side; the summaries of the others then stand in report.json under "compared", by name.
    The dataset lies in each workdir's folder `dataset` unless one is given for all.

    Raises:
      InputError: a workdir holds nothing to report, or a file is not what its stage writes.
    """
    results = {name: read_results(workdir, dataset) for name, workdir in names(workdirs).items()}
    runs = {name: summary_of(one) for name, one in results.items()}
    first, *others = runs
    summary = runs[first] | ({"compared": {name: runs[name] for name in others}} if others else {})
    folder = workdirs[0]
    _write(folder / "report.html", page(runs, _plots(results, runs)))
    _write(folder / "report.md", markdown(runs))
    write_json(folder / "report.json", summary)
    return summary


def names(workdirs: list[Path]) -> dict[str, Path]:
    """A name for each workdir: its last part, or its whole path where others end in the same."""
    if not workdirs:
        raise InputError("--workdir: expected the workdir of a run; the flag was not given")
    resolved = [workdir.resolve() for workdir in workdirs]
    if len(set(resolved)) < len(resolved):
        raise InputError(f"--workdir: expected each workdir once; got {', '.join(map(str, workdirs))}")
    last = [workdir.name for workdir in resolved]
    return {one.name if last.count(one.name) == 1 else str(one): workdir for one, workdir in zip(resolved, workdirs, strict=True)}


def _plots(results: dict[str, Results], runs: dict[str, dict]) -> dict[str, str]:
    histories = {name: one.history for name, one in results.items() if one.history}
    users = {name: one.users for name, one in results.items() if one.users is not None}
    bins = {name: one["personal"]["gain_by_own_events"] for name, one in runs.items() if one["personal"] is not None}
    devices = {name: one["device"] for name, one in runs.items() if one["device"] is not None}
    evaluations = {name: ranked(one) for name, one in runs.items()}
    return plots(histories, users, bins, evaluations) | device_plots(devices)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
