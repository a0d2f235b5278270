"""Content keys: what a node's result is a function of, as 16 bytes.

Every encoding is self-delimiting and starts with a tag, so two different recipes never give the same bytes. A key
holds the node type, its code, its inputs by name and the settings that change results; ids, titles, positions and
the order of the JSON are not in it. The key of an output is the node's key and the slot, side by side: hashing the
pair once more would add nothing. (After redun's tagged hashes and Merkle trees.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

KEY_BYTES = 16
FORMAT = "1"
"""Part of every key; raised when the engine itself would make other values of the same recipe."""


def digest(tag: str, *parts: bytes | str) -> bytes:
    """Digest of tagged parts; each is length-prefixed, so that their borders count."""
    state = blake2b(tag.encode() + b"\0", digest_size=KEY_BYTES)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "big") + raw)
    return state.digest()


def node_key(prefix: bytes, parts: Iterable[bytes]) -> bytes:
    """Key of a node from `node_prefix` and its input parts in the order of the spec."""
    return blake2b(prefix + b"".join(parts), digest_size=KEY_BYTES).digest()


def node_prefix(name: str, version: str, salt: bytes) -> bytes:
    """The part of a node's key that is the same for all its uses."""
    return digest("node", name, version, salt)


def input_tag(name: str) -> bytes:
    """Opens an input's part with its name."""
    raw = name.encode()
    return b"=" + len(raw).to_bytes(4, "big") + raw


def link_part(tag: bytes, key: bytes, slot: int) -> bytes:
    """An input fed by an upstream output."""
    return tag + b"r" + key + slot.to_bytes(4, "big")


def file_part(tag: bytes, content: str) -> bytes:
    """An input that names a file: its content counts, not its name."""
    raw = content.encode()
    return tag + b"@" + len(raw).to_bytes(4, "big") + raw


def literal_part(tag: bytes, value: Any) -> bytes:
    """An input written in the document, after validation."""
    return tag + canonical(value)


def canonical(value: object) -> bytes:
    """Canonical bytes of a JSON value; equal bytes mean equal values of equal type.

    Raises:
        TypeError: the value is not JSON.
    """
    encode = _ENCODERS.get(type(value))
    if encode is None:
        raise TypeError(f"a literal of type {type(value).__name__} has no canonical form; use JSON values")
    return encode(value)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"s" + len(raw).to_bytes(8, "big") + raw


def _items(value: Iterable[Any]) -> bytes:
    parts = [canonical(item) for item in value]
    return b"l" + len(parts).to_bytes(8, "big") + b"".join(parts)


def _mapping(value: Mapping[str, Any]) -> bytes:
    parts = [_text(name) + canonical(value[name]) for name in sorted(value)]
    return b"d" + len(parts).to_bytes(8, "big") + b"".join(parts)


_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%d;" % value,
    float: lambda value: b"f" + struct.pack(">d", value),
    str: _text,
    type(None): lambda _: b"n",
    list: _items,
    tuple: _items,
    dict: _mapping,
}
