"""How the page looks: phone and desk, light, dark and print.

Runs differ by lightness in print, which may know no colours. A shade at the right edge of a table says that it goes on there.
"""

import re

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2430; --soft: #5a6675; --faint: #b9c1cc; --line: #e3e7ec; --paper: #ffffff; --card: #f5f7fa;
  --gain: #2470c8; --loss: #d2691e; --run0: #2470c8; --run1: #d2691e; --run2: #2a8f6a; --run3: #9250b8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9f0; --soft: #9da9b8; --faint: #5b6777; --line: #2b333e; --paper: #12161c; --card: #1b212a;
    --gain: #6aa9f0; --loss: #f0a060; --run0: #6aa9f0; --run1: #f0a060; --run2: #5cc79d; --run3: #c493e6;
  }
}
@media print {
  :root {
    --ink: #000000; --soft: #444444; --faint: #999999; --line: #cccccc; --paper: #ffffff; --card: #ffffff;
    --gain: #17335c; --loss: #d2691e; --run0: #17335c; --run1: #c9601a; --run2: #6fb598; --run3: #dcc3ea;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%;
}
p, li { max-width: 46rem; }
header p.name { color: var(--soft); font-size: .85rem; letter-spacing: .04em; margin: 0; overflow-wrap: anywhere; }
header * + p.name { margin-top: 2.2rem; }
header ul { padding-left: 1.1rem; color: var(--soft); }
h1 { font-size: clamp(1.5rem, 1.2rem + 1.6vw, 2.1rem); line-height: 1.25; font-weight: 700; margin: .3rem 0 .6rem; text-wrap: balance; }
.lede { font-size: 1.08rem; margin: 0 0 1.2rem; max-width: 52rem; text-wrap: pretty; }
h2 { font-size: 1.1rem; margin: 2.6rem 0 .4rem; padding-top: 1rem; border-top: 1px solid var(--line); }
section > p { color: var(--soft); margin: .2rem 0 .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .85rem; }
.tiles dt { color: var(--soft); font-size: .8rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles dd + dd { font-size: .8rem; font-weight: 400; color: var(--soft); }
.scroll {
  overflow-x: auto; max-width: 100%; margin: .6rem 0 1rem;
  background: linear-gradient(to left, var(--paper) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--faint), transparent) right / .6rem 100% no-repeat scroll;
}
.scroll:focus-visible { outline: 2px solid var(--gain); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .34rem .62rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line); }
th:first-child { padding-left: 0; position: sticky; left: 0; background: var(--paper); }
thead th { color: var(--soft); font-weight: 600; font-size: .82rem; border-bottom-color: var(--faint); }
tbody th { font-weight: 400; min-width: 8rem; }
.n { text-align: right; white-space: nowrap; }
thead .n { white-space: normal; }
.interval { display: block; font-size: .85em; color: var(--soft); }
tr.strong > * { font-weight: 650; }
.body { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
figure { margin: .6rem 0; flex: 1 1 min(100%, 22rem); max-width: 28rem; }
figure svg { width: 100%; height: auto; display: block; }
svg text { font-family: inherit !important; }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem;
  font-size: .8rem; line-height: 1.5; overflow-x: auto;
}
details summary { cursor: pointer; color: var(--soft); }
@media (max-width: 30rem) {
  table { font-size: .86rem; }
  th, td { padding: .34rem .42rem; }
  tbody th { min-width: 6rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, section > p { break-after: avoid; }
  section, figure, table, .tiles { break-inside: avoid; }
  h2 { margin-top: 1.4rem; }
  th, td { padding: .2rem .5rem; }
  th:first-child { position: static; background: none; }
  .scroll { overflow: visible; background: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  pre { white-space: pre-wrap; }
}
"""

LIGHT = dict(reversed(re.findall(r"(--\w+): (#\w+)", STYLE)))
"""Colours of the light page by the name of their variable."""
