"""Where each value of a document came from, and how to write the document down again with that beside it.

What crosses: YAML nodes and plain nested values, with dotted paths for names (`data.sources.0.path`). This file knows
no setting of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def lines_of(node: yaml.Node | None, name: str) -> list[tuple[str, int]]:
    """Dotted path and line of every value of a YAML document."""
    found = [(name, node.start_mark.line + 1)] if node is not None and name else []
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), value) for index, value in enumerate(node.value)]
    for key, value in children:
        found += lines_of(value, f"{name}.{key}" if name else key)
    return found


def origins_of(value: Any, given: Mapping[str, str], name: str = "", above: str = "default") -> dict[str, str]:
    """Origin of each leaf: its own, else that of the nearest value above it that was set as a whole, else `default`."""
    own = given.get(name, above)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not items:
        return {name: own}
    passed_on = own if own == "command line" else "default"
    found: dict[str, str] = {}
    for key, child in items:
        found |= origins_of(child, given, f"{name}.{key}" if name else str(key), passed_on)
    return found


def yaml_lines(value: Any, name: str = "", indent: int = 0) -> list[tuple[str, str]]:
    """Block YAML, one leaf a line, each with its dotted path."""
    pad, lines = " " * indent, []
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, child in pairs:
        path = f"{name}.{key}" if name else str(key)
        head = f"{pad}{key}:" if isinstance(value, dict) else f"{pad}-"
        if isinstance(child, dict | list) and child:
            lines += [(head, ""), *yaml_lines(child, path, indent + 2)]
        else:
            text = (
                yaml.safe_dump(child, default_flow_style=True, allow_unicode=True, width=10**6)
                .removesuffix("...\n")
                .strip()
            )
            lines.append((f"{head} {text}", path))
    return lines
