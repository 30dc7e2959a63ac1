"""YAML text to plain data, with bounds: what would fill the memory, hang, or hide a key is an error that says where.

Refused are keys given twice, numbers that are not finite, nesting beyond DEEPEST, and aliases that stand for more than
LARGEST values all together or for themselves. All of it is seen before anything is constructed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import yaml

# libyaml, where PyYAML was built with it, takes a tenth of the time: every short run reads its study's file.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEEPEST = 50  # levels of lists and mappings
LARGEST = 100_000  # values, each counted as often as aliases repeat it
MERGE = "tag:yaml.org,2002:merge"
FLOAT = "tag:yaml.org,2002:float"


def plain(text: str) -> Any:
    """The value of a YAML document.

    Raises yaml.YAMLError, or ValueError for what is valid YAML and refused; both say the line.
    """
    _check_depth(text)
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Composing nodes is recursive and written in C, where too deep a nesting ends the process."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"{_line(event)}: nested deeper than {DEEPEST} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count(node: Any, sizes: dict[int, int]) -> int:
    """How many values a node stands for, itself included; `sizes` holds those of the nodes met before, 0 for unfinished."""
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise ValueError(f"{_line(node)}: an anchor that holds an alias of itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    elif isinstance(node, yaml.ScalarNode):
        _check_number(node)
    for inner in _parts(node):
        size += _count(inner, sizes)
        if size > LARGEST:
            raise ValueError(f"{_line(node)}: its aliases stand for more than {LARGEST:,} values")
    sizes[id(node)] = size
    return size


def _parts(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # constructing it is an error of its own
        if (key.tag, key.value) in seen:
            twice = "`<<` twice: merge a list, `<<: [*a, *b]`" if key.tag == MERGE else f"the key {key.value!r} twice"
            raise ValueError(f"{_line(key)}: {twice}")
        seen.add((key.tag, key.value))


def _check_number(node: yaml.ScalarNode) -> None:
    if node.tag != FLOAT:
        return
    plainly = node.value.replace("_", "").lower()
    if plainly.lstrip("+-") in (".inf", ".nan"):
        raise ValueError(f"{_line(node)}: {node.value} is not finite")
    if ":" not in plainly and not math.isfinite(float(plainly)):
        raise ValueError(f"{_line(node)}: {node.value} is beyond what a float holds")


def _line(marked: Any) -> str:
    return f"line {marked.start_mark.line + 1}"
