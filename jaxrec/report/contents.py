"""The whole report in order, and as markdown."""

from collections.abc import Iterator

from jaxrec.report.account import data, dropped, environment, seconds, settings
from jaxrec.report.candidates import candidates
from jaxrec.report.headline import headline, notes
from jaxrec.report.outcome import device, test_period, training
from jaxrec.report.personal import cadence, chosen, groups, models, own_events, users
from jaxrec.report.section import Runs, Section
from jaxrec.report.tables import as_text


def sections(runs: Runs) -> list[Section]:
    """Every part that the runs have figures for, the most important first."""
    findings = (models, groups, users, own_events, cadence, chosen, test_period, candidates, training, device)
    builders = (*findings, data, dropped, environment, seconds, settings)
    return [section for builder in builders if (section := builder(runs)) is not None]


def markdown(runs: Runs) -> str:
    """The report as markdown that also reads well in a terminal."""
    return "\n\n".join(["# jaxrec report", *_opening(runs), *(part for one in sections(runs) for part in _section(one))]) + "\n"


def _opening(runs: Runs) -> Iterator[str]:
    for name, summary in runs.items():
        yield headline(summary) if len(runs) == 1 else f"**{name}**: {headline(summary)}"
        if notes(summary):
            yield "\n".join(f"* {note}" for note in notes(summary))


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    if section.text:
        yield section.text
    for one in section.tables:
        yield as_text(one)
    if section.code:
        yield f"```sh\n{section.code}\n```"
