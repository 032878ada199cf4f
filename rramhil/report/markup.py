"""HTML as elements of the standard library's tree, so that every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote
from xml.etree import ElementTree

from rramhil.report.summary import NOTHING

Element = ElementTree.Element
Child = Element | str | None
_UNQUOTED = "/=;,+()!*' "


def element(tag: str, *children: Child, **attributes: str) -> Element:
    """An element; `None` children are left out, and `class_` stands for the word class."""
    made = Element(tag, {name.rstrip("_"): value for name, value in attributes.items()})
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            _append_text(made, child)
        else:
            made.append(child)
    return made


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def number(value: float | int | None, shown: str) -> Element:
    """A number as people read it, with the exact value for programs in `data value=`."""
    if value is None:
        return element("span", NOTHING)
    return element("data", shown, value=repr(value))


def table(
    head: Iterable[Child],
    rows: Iterable[Iterable[Child]],
    class_: str = "",
    groups: Iterable[tuple[str, int]] = (),
) -> Element:
    """A table that scrolls sideways where the screen is narrow; first column = row heading.

    `groups`: headings over the headings, each with the number of columns that it spans.
    """
    body = element("tbody")
    for row in rows:
        first, *rest = row
        cells = [element("td", cell) for cell in rest]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    headings = [element("th", text, scope="col") for text in head]
    over = [element("th", text, colspan=str(span), scope="colgroup") for text, span in groups]
    top = element("thead", element("tr", *over) if over else None, element("tr", *headings))
    return element("div", element("table", top, body, class_=class_), class_="scroll")


def picture(svg: str, alt: str, caption: str = "") -> Element:
    """A figure element with the SVG inside it."""
    # Percent signs, not base64: the bitmaps inside an SVG are in base64 already.
    data = quote(svg, safe=_UNQUOTED)
    image = element("img", src=f"data:image/svg+xml,{data}", alt=alt)
    text = element("figcaption", caption) if caption else None
    return element("figure", element("div", image, class_="scroll"), text)


def folded(title: str, *children: Child) -> Element:
    """Content that is shown on request (and in print)."""
    return element("details", element("summary", title), *children)


def to_html(root: Element) -> str:
    """The whole document as text."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html")
