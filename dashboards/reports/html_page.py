"""One HTML file that opens offline: its style, its figures as JSON, and one packed plotly.js.

plotly.js is 4.7 MB as text and 1.9 MB packed; the browser unpacks it. Figures in a closed section
are drawn when it is opened, or before the page is printed.
"""

from __future__ import annotations

import base64
import gzip
import html
from functools import cache

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards.analysis.leaderboard import PERCENT_COLUMNS

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #ffffff; --rule: #8884; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #15181c; } }
body { color: var(--ink); background: var(--ground); max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
.finding { font-size: 1.25rem; line-height: 1.4; border-left: 4px solid #0072B2;
  padding-left: 1rem; margin: 1rem 0; }
.facts, figcaption, .legend { font-size: 14px; opacity: .8; }
figure { margin: 1rem 0; }
.wide { overflow: auto; max-height: 32rem; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { position: sticky; top: 0; background: var(--ground); }
td:nth-child(-n+3), th:nth-child(-n+3) { text-align: left; }
summary { cursor: pointer; font-weight: 600; padding: .35rem 0; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--rule); }
@media print { .wide { max-height: none; } }
"""

# figures take the page's ink, and change with it
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
function draw(all) {
  document.querySelectorAll("figure > .plot").forEach(plot => {
    const closed = plot.closest("details:not([open])");
    if (plot.data || (closed && !all)) return;
    const {data, layout} = JSON.parse(plot.nextElementSibling.textContent);
    layout.font = {...layout.font, color: ink()};
    Plotly.newPlot(plot, data, layout, {responsive: true, displayModeBar: false});
  });
}
async function start() {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  draw();
}
document.querySelectorAll("details").forEach(part => part.addEventListener("toggle", () => draw()));
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(part => { part.open = true; });
  draw(true);
});
dark.addEventListener("change", () => document.querySelectorAll(".js-plotly-plot").forEach(
  plot => Plotly.relayout(plot, {"font.color": ink()})));
start();
"""

FORMATS = {"τ": "{:g}", "p": "{:.3g}", "p Holm": "{:.3f}", "seconds": "{:.1f}", "seeds": "{:d}"}
FORMATS |= dict.fromkeys(PERCENT_COLUMNS, "{:.0f} %")


def table_html(table: pd.DataFrame) -> str:
    """The leaderboard as an HTML table, numbers rounded, missing ones blank."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    rows = []
    for record in table.to_dict("records"):
        cells = "".join(f"<td>{cell(str(name), value)}</td>" for name, value in record.items())
        rows.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def cell(name: str, value: object) -> str:
    if isinstance(value, str):
        text = html.escape(value)
        return f'<a href="{text}">MLflow</a>' if name == "runs" else text
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    quantity = name.partition(" ")[2] if name[1:2].isdigit() else name
    return FORMATS.get(quantity, "{:.2f}").format(value)


def figure_html(figure: go.Figure, caption: str = "") -> str:
    """A figure's data, which the page's script draws, and its caption."""
    height = figure.layout.height
    # `</script>` in a label would end the element
    content = str(figure.to_json()).replace("</", r"<\/")
    return (
        f'<figure><div class="plot" style="height: {height}px"></div>'
        f'<script type="application/json">{content}</script>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def section(title: str, content: str) -> str:
    """A part of the page that is closed at first."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


@cache
def packed_plotly() -> str:
    # the same bytes each time: no time in the header
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def document(title: str, body: list[str]) -> str:
    """The page around its body, with the one copy of plotly.js that its figures share."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}"
        f'<script type="text/plain" id="plotly">{packed_plotly()}</script>'
        f"<script>{SCRIPT}</script></body></html>"
    )
