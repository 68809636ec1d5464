"""HTML of a report: the page around it, tables, pictures, numbers. Every text is escaped here."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NONE = "\N{EN DASH}"
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: #fff; color: #1d1d1d;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; padding-top: .6rem; border-top: 1px solid #ccc; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 46rem; }
.lead { font-size: 1.1rem; }
.note { color: #555; font-size: .92rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.cards li { border: 1px solid #ccc; border-radius: .4rem; padding: .5rem .7rem; }
.cards b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.cards span { display: block; font-size: .85rem; color: #444; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .92rem; }
caption { text-align: left; color: #444; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
td.t { overflow-wrap: anywhere; min-width: 10rem; }
figure { margin: .5rem 0; }
figcaption { color: #444; font-size: .92rem; }
img { display: block; max-width: 100%; height: auto; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; }
nav ul { padding: 0; margin: .5rem 0; list-style: none; display: flex; flex-wrap: wrap;
  gap: .2rem 1rem; font-size: .92rem; }
a { color: #0b5394; }
@media (max-width: 40rem) { .wide img { max-width: none; width: 44rem; } }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """`html` is already escaped; `name` is its anchor."""

    name: str
    title: str
    html: str


def document(title: str, sections: Iterable[Section]) -> str:
    """The first section has no heading of its own: it stands under the title."""
    first, *rest = sections
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in rest)
    parts = [
        f'<section id="{one.name}"><h2>{escape(one.title)}</h2>\n{one.html}</section>'
        for one in rest
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{first.html}\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>\n"


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>\n"


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Value above, what it is beneath."""
    parts = [f"<li><b>{escape(value)}</b><span>{escape(text)}</span></li>" for value, text in items]
    return f'<ul class="cards">{"".join(parts)}</ul>\n'


def figure(svg: bytes, alt: str, caption: str = "", *, wide: bool = False) -> str:
    """A picture inline; `alt` says in words what it shows. A wide one scrolls on a phone."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="{source}" alt="{escape(alt)}">'
    if wide:
        image = f'<div class="wide" tabindex="0">{image}</div>'
    return f"<figure>{image}{below}</figure>\n"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The first column heads its row; numbers are aligned to the right."""
    rows = [list(row) for row in rows]
    numeric = [
        any(isinstance(row[place], int | float) for row in rows) for place in range(len(head))
    ]
    kinds = ["n" if right else "t" for right in numeric]
    top = "".join(
        f'<th scope="col" class="{kind}">{escape(text)}</th>'
        for text, kind in zip(head, kinds, strict=True)
    )
    body = ""
    for first, *others in rows:
        cells = "".join(
            f'<td class="{kind}">{escape(shown(cell))}</td>'
            for cell, kind in zip(others, kinds[1:], strict=True)
        )
        body += f'<tr><th scope="row">{escape(shown(first))}</th>{cells}</tr>\n'
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def shown(value: Any) -> str:
    """A number with as many digits as one reads; what is undefined is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 0.0005 <= abs(value) < 10:
        return f"{value:.3f}"
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"
