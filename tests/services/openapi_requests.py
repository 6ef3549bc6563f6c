"""Requests that an OpenAPI document allows, and requests that it does not, as Hypothesis strategies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ODD_WORDS = (
    *("", "0", "-1", str(2**31), str(2**63), str(2**64), "9" * 40, "1e999", "NaN", "null", "true"),
    *("%00", "\x00", "'", "../..", "{}", "[]", "\uffff", "a" * 5_000),
)


@dataclass(frozen=True)
class Call:
    """One request to be made."""

    method: str
    target: str
    body: Any = None


@dataclass(frozen=True)
class Operation:
    """One method of one path. ``document`` is the whole OpenAPI document, for its references."""

    method: str
    path: str
    declared: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.declared["responses"] if status.isdigit()}

    def calls(self) -> st.SearchStrategy[Call]:
        """By the schema, beside the schema, or anything at all, each field for itself."""
        return st.builds(self._call, self._parameters("path"), self._parameters("query"), self._body())

    def odd_calls(self) -> Iterator[Call]:
        """Each parameter once with each odd word, whatever chance would have chosen."""
        parameters = self.declared.get("parameters", ())
        path = {one["name"]: "1" for one in parameters if one["in"] == "path"}
        for one in parameters:
            for word in ODD_WORDS:
                if one["in"] == "path":
                    yield self._call(path | {one["name"]: word}, {}, None)
                else:
                    yield self._call(path, {one["name"]: word}, None)

    def _call(self, path: dict[str, Any], query: dict[str, Any], body: Any) -> Call:
        target = self.path
        for name, value in path.items():
            target = target.replace("{" + name + "}", quote(_text(value) or "x", safe=""))
        pairs = {name: _text(value) for name, value in query.items() if value is not None}
        asked = f"{target}?{urlencode(pairs)}" if pairs else target
        return Call(self.method.upper(), asked, body)

    def _parameters(self, place: str) -> st.SearchStrategy[dict[str, Any]]:
        found = [one for one in self.declared.get("parameters", ()) if one["in"] == place]
        values = {
            one["name"]: self.values(one["schema"]) | st.text(max_size=30) | st.sampled_from(ODD_WORDS)
            for one in found
        }
        if place == "query":
            return st.fixed_dictionaries({}, optional=values)
        return st.fixed_dictionaries(values)

    def _body(self) -> st.SearchStrategy[Any]:
        content = self.declared.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return st.none()
        return self.values(content["application/json"]["schema"]) | ANY_JSON

    def values(self, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
        """Mostly what the schema allows; limits are overstepped now and then."""
        if reference := schema.get("$ref"):
            found: Any = self.document
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
            return self.values(found)
        if choices := schema.get("anyOf", schema.get("oneOf")):
            return st.one_of([self.values(one) for one in choices])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        match schema.get("type"):
            case "integer":
                return st.integers(schema.get("minimum"), schema.get("maximum")) | st.integers()
            case "number":
                return st.floats(allow_nan=False)
            case "string":
                return st.text(max_size=min(schema.get("maxLength", 100) + 1, 100))
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
            case "array":
                return st.lists(self.values(schema.get("items", {})), max_size=3)
            case "object":
                return self._object(schema)
        return ANY_JSON

    def _object(self, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
        fields = {name: self.values(one) for name, one in schema.get("properties", {}).items()}
        needed = set(schema.get("required", ()))
        if not fields:
            more = schema.get("additionalProperties", {})
            inner = self.values(more) if isinstance(more, dict) else ANY_JSON
            return st.dictionaries(st.text(max_size=20), inner, max_size=3)
        return st.fixed_dictionaries(
            {name: one for name, one in fields.items() if name in needed},
            optional={name: one for name, one in fields.items() if name not in needed},
        )


def operations(document: Mapping[str, Any]) -> list[Operation]:
    return [
        Operation(method, path, declared, document)
        for path, methods in document["paths"].items()
        for method, declared in methods.items()
    ]


def _text(value: Any) -> str:
    # A lone surrogate cannot be written into an address.
    return str(value).encode("utf-8", "replace").decode()
