"""HTML as a tree of elements, so that every string in a page is escaped by construction."""

from xml.etree.ElementTree import Element, tostring


def tag(name: str, /, *children: Element | str, **attributes: str) -> Element:
    """An element; text among the children is escaped when the page is written."""
    element = Element(name, {key.rstrip("_"): value for key, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element


def document(page: Element) -> bytes:
    """The bytes of an HTML file."""
    html = "<!DOCTYPE html>\n" + tostring(page, encoding="unicode", method="html")
    return html.encode("utf-8", errors="replace")
