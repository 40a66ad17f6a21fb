"""What may change within v1: things are added, nothing else.

Both ways have to hold: a consumer written for the baseline understands today's events, and events that already lie in
the log fit today's schema. So there may be new optional properties, new values of an enumeration and new types of
events; everything else stays: no property goes or becomes required or optional, no type or limit narrows or widens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {"$schema", "$defs", "$comment", "title", "description", "examples", "deprecated"}
_OWN = {"$ref", "properties", "required", "enum", "items", "additionalProperties", "anyOf", "allOf"} | _WORDS


def breakages(baseline: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """How ``current`` breaks what ``baseline`` (a JSON Schema) promised: one line each, beginning with the place."""
    return list(_Comparison(baseline, current).schema("$", baseline, current, 0))


def document_breakages(baseline: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The same of two AsyncAPI documents: channels, their addresses, messages, their headers and keys."""
    found: list[str] = []
    for name, channel in baseline["channels"].items():
        now = current["channels"].get(name)
        if now is None:
            found.append(f"channels.{name}: is gone")
            continue
        if now["address"] != channel["address"]:
            found.append(f"channels.{name}: the address was {channel['address']}, is {now['address']}")
        found += [f"channels.{name}.messages.{m}: is gone" for m in channel["messages"] if m not in now["messages"]]
    for name, message in baseline["components"]["messages"].items():
        now = current["components"]["messages"].get(name)
        if now is None:
            found.append(f"messages.{name}: is gone")
            continue
        place = f"messages.{name}"
        if now["contentType"] != message["contentType"]:
            found.append(f"{place}: contentType was {message['contentType']}, is {now['contentType']}")
        found += [f"{place}.headers{line[1:]}" for line in breakages(message["headers"], now["headers"])]
        keys = (m["bindings"]["kafka"]["key"] for m in (message, now))
        found += [f"{place}.key{line[1:]}" for line in breakages(*keys)]
        if now["payload"].get("schemaFormat") is None or message["payload"].get("schemaFormat") is None:
            found += [f"{place}.payload{line[1:]}" for line in breakages(message["payload"], now["payload"])]
        elif now["payload"] != message["payload"]:
            found.append(f"{place}.payload: was {message['payload']['schema']}, is {now['payload']['schema']}")
    return found


class _Comparison:
    def __init__(self, baseline: Mapping[str, Any], current: Mapping[str, Any]) -> None:
        self._roots = baseline, current

    def schema(self, place: str, was: Any, now: Any, depth: int) -> Iterator[str]:
        if depth > 50:
            return
        was, now = self._resolved(self._roots[0], was), self._resolved(self._roots[1], now)
        if isinstance(was, bool) or isinstance(now, bool):
            if was is not now:
                yield f"{place}: was {was}, is {now}"
            return
        yield from self._limits(place, was, now)
        yield from self._properties(place, was, now, depth)
        for key in ("items", "additionalProperties"):
            if (key in was) != (key in now):
                yield f"{place}: {key} was {'there' if key in was else 'not there'}"
            elif key in was:
                yield from self.schema(f"{place}[]" if key == "items" else f"{place}.*", was[key], now[key], depth + 1)
        yield from self._alternatives(place, was, now, depth)

    @staticmethod
    def _resolved(root: Mapping[str, Any], schema: Any) -> Any:
        while isinstance(schema, Mapping) and str(schema.get("$ref", "")).startswith("#/$defs/"):
            target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema

    @staticmethod
    def _limits(place: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
        lost = [value for value in was.get("enum", ()) if value not in now.get("enum", was.get("enum"))]
        if lost:
            yield f"{place}: the enumeration lost {', '.join(map(repr, lost))}"
        if ("enum" in was) != ("enum" in now):
            yield f"{place}: was {'an' if 'enum' in was else 'no'} enumeration"
        if was.get("$ref") != now.get("$ref"):
            yield f"{place}: was as {was.get('$ref')}, is as {now.get('$ref')}"
        for key in sorted((was.keys() | now.keys()) - _OWN):
            if was.get(key) != now.get(key):
                told = [repr(side[key]) if key in side else "not said" for side in (was, now)]
                yield f"{place}: {key} was {told[0]}, is {told[1]}"

    def _properties(self, place: str, was: Mapping[str, Any], now: Mapping[str, Any], depth: int) -> Iterator[str]:
        before, after = was.get("properties", {}), now.get("properties", {})
        required, still = was.get("required", ()), now.get("required", ())
        for name, schema in before.items():
            if name not in after:
                yield f"{place}.{name}: is gone"
                continue
            if (name in required) != (name in still):
                yield f"{place}.{name}: was {'required, is optional' if name in required else 'optional, is required'}"
            yield from self.schema(f"{place}.{name}", schema, after[name], depth + 1)
        for name in after:
            if name not in before and name in still:
                yield f"{place}.{name}: is new and required; older events do not have it (make it NotRequired)"

    def _alternatives(self, place: str, was: Mapping[str, Any], now: Mapping[str, Any], depth: int) -> Iterator[str]:
        before, after = was.get("anyOf", []), now.get("anyOf", [])
        if len(before) != len(after):
            yield f"{place}: had {len(before)} alternatives, has {len(after)}"
        else:
            for old, new in zip(before, after, strict=True):
                yield from self.schema(place, old, new, depth + 1)
        before, after = was.get("allOf", []), now.get("allOf", [])
        for rule in before:
            if rule not in after:
                yield f"{place}: the rule {rule} is gone"
        for rule in after:
            if rule not in before and "if" not in rule:
                yield f"{place}: the rule {rule} is new"
