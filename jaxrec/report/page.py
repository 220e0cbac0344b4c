"""The report as one page that needs no network: phone and desk, light, dark and print."""

import html
import re
from collections.abc import Iterator

from jaxrec.report.contents import sections
from jaxrec.report.headline import claim, headline, notes
from jaxrec.report.look import STYLE
from jaxrec.report.personal import SHIPPED, ships_networks
from jaxrec.report.section import Runs, Section
from jaxrec.report.tables import Table, metric, numeric_columns, share, signed, significant, size

# Rows that the headline is about.
STRONG = (SHIPPED,)
CAPTIONS = {
    "models_recall": "Recall@20 of every model",
    "models_mrr": "MRR@20 of every model",
    "training_loss": "Training loss by updates",
    "validation_recall": "Recall@20 on the validation part by updates",
    "gain_histogram": "Distribution of the users' own gain in Recall@20",
    "gain_by_own_events": "Gain in Recall@20 by number of own events",
    "device_times": "Milliseconds of every signature, median and 95th percentile",
    "device_bytes": "Bytes of the model file and of what belongs to one user",
}


def page(runs: Runs, plots: dict[str, str]) -> str:
    """The whole page; `plots` are SVG elements by the name under which a section asks for them."""
    body = [_header(runs), *(_section(section, plots) for section in sections(runs))]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>jaxrec: {_text(", ".join(runs))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _header(runs: Runs) -> str:
    parts = []
    for name, summary in runs.items():
        parts.append(f'<p class="name">jaxrec report: {_text(name)}</p>\n<h1>{_text(claim(summary))}</h1>')
        parts += [f'<p class="lede">{_text(headline(summary))}</p>', _tiles(summary)]
        parts += [f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in notes(summary))}</ul>"] if notes(summary) else []
    return f"<header>\n{chr(10).join(parts)}\n</header>"


def _tiles(summary: dict) -> str:
    tiles = "".join(
        f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd><dd>{_text(detail)}</dd></div>" for label, value, detail in _figures(summary)
    )
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _figures(summary: dict) -> Iterator[tuple[str, str, str]]:
    """(what, figure, detail) of the few numbers that the page opens with."""
    personal, device = summary["personal"], summary["device"] or {}
    if personal is not None:
        before, after = personal["before"]["recall@20"], personal["after"]["recall@20"]
        yield "Recall@20, as shipped", metric(after), f"{signed(after - before)} against the global model"
        yield "users better", share(personal["users_better"]), f"{share(personal['users_worse'])} worse"
        if ships_networks(personal):
            yield "on each device", size(personal["personal_bytes_per_user"]), "personal parameters"
    elif summary["global"] is not None:
        yield "Recall@20, global", metric(summary["global"]["recall@20"]), f"MRR@20 {metric(summary['global']['mrr@20'])}"
    threads = "one thread" if device.get("threads") == 1 else f"{device.get('threads')} threads"
    for what, key in (("to recommend", "recommend_p50_ms"), ("to train once", "train_p50_ms")):
        if device.get(key) is not None:
            yield what, f"{significant(device[key])} ms", f"median, {threads}"
    if device.get("peak_rss_mb") is not None:
        yield "peak memory", f"{device['peak_rss_mb']:,.1f} MB", "beyond a bare process"


def _section(section: Section, plots: dict[str, str]) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    tables = [_table(section.title, one) for one in section.tables]
    figures = [_figure(name, plots[name]) for name in section.figures if name in plots]
    # One plot stands beside its table where there is room; several stand beside each other, below the first table.
    rows = [tables + figures] if len(figures) < 2 else [tables[:1], figures, tables[1:]]
    parts += [f'<div class="body">{"".join(row)}</div>' for row in rows if row]
    if section.code:
        parts.append(f"<details><summary>Command lines</summary><pre>{_text(section.code)}</pre></details>")
    return f"<section>\n{chr(10).join(parts)}\n</section>"


def _figure(name: str, svg: str) -> str:
    return f'<figure role="img" aria-label="{_text(CAPTIONS[name])}">{svg}</figure>'


def _table(title: str, one: Table) -> str:
    right = numeric_columns(one.header, one.rows)
    head = "".join(f"<th{_class(flush)}>{_name(cell)}</th>" for cell, flush in zip(one.header, right, strict=True))
    rows = "".join(_row(row, right) for row in one.rows)
    # A part that scrolls must be reachable by keyboard and carry a name.
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(title)}">'
    return f"{frame}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _row(row: tuple[str, ...], right: list[bool]) -> str:
    cells = "".join(f"<td{_class(flush)}>{_interval_apart(_text(cell))}</td>" for cell, flush in zip(row[1:], right[1:], strict=True))
    strong = ' class="strong"' if row[0] in STRONG else ""
    return f'<tr{strong}><th scope="row">{_name(row[0])}</th>{cells}</tr>'


def _name(cell: str) -> str:
    """What a row or column is called; a long name may be broken where its parts meet."""
    return _text(cell).replace("_", "_<wbr>")


def _interval_apart(cell: str) -> str:
    """A figure with its interval in brackets, which stands below it where there is little room."""
    return re.sub(r"(?<=\d) (\[.+\])$", r' <span class="interval">\1</span>', cell)


def _class(flush: bool) -> str:
    return ' class="n"' if flush else ""


def _text(value: str) -> str:
    return re.sub(r"(?<=\d) (?=%|[kMG]?B\b|ms\b)", "\u00a0", html.escape(value, quote=True))
