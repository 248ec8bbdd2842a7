"""The Avro schemas say what the structs say, document every field, and stay compatible with every release."""

from __future__ import annotations

import copy
import io
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from upwell.events import contracts as c
from upwell.events import schemas
from upwell.events.codec import decode, encode

RELEASED = Path(__file__).parent / "schemas_released"
REASON = c.Reason("similar", 0.25, "because you liked Alien", "alien", 1_700_000_000_000)
EXAMPLES: dict[str, list[msgspec.Struct]] = {
    "items": [
        c.Item("alien"),
        c.Item(
            "alien",
            title="Alien",
            description="In space",
            language="en",
            categories=["horror", "science fiction"],
            attributes={"year": 1979, "score": 8.5, "dvd": True, "cast": ["Weaver", "Hurt"], "sequel_of": None},
            media=[
                c.Media("image", uri="https://example.org/a.jpg", mime="image/jpeg"),
                c.Media("audio", data=b"\0\1"),
            ],
            ts=-1,
        ),
    ],
    "interactions": [
        c.Interaction("e1", "u1", "click", 1_700_000_000_000, "alien"),
        c.Interaction(
            "e2", "u1", "rating", 0, "alien", 4.5, "s", "r", "k", 3, {"device": "tv", "rows": [1, 2.5, None]}
        ),
        c.Interaction("e3", "u1", "rank_request", 1),
    ],
    "requests": [
        c.Request("r1", "u1", 1),
        c.Request("r1", "u1", 1, "content", "alien", "text", "en", "answer", "Who directed it?"),
        c.Request("r1", "u1", 1, text_kind="summary", reviews=["Too loud.", "Moves along well."]),
    ],
    "rules": [
        c.Rule("r", "block"),
        c.Rule("r", "cap", ["alien"], ["horror"], [c.Fact("director", "Scott")], 1, 2**40, 0.5, 2, "category", 60),
    ],
    "item-features": [
        c.ItemFeatures("alien", b"\0\0\x80?", "minilm-1"),
        c.ItemFeatures(
            "alien", b"\0\0\x80?", "minilm-1", "Alien", ["horror"], {"text": 1.0}, 0.5, 7, [c.Fact("director", "Scott")]
        ),
    ],
    "rankings": [
        c.Ranking("r1", "u1", 0, 5, 0, 2, [], "events", "m", 1, 2),
        c.Ranking("r1", "u1", 1, 2**40, 1, 0, [c.RankedItem("a", 0.5, 1.0, [REASON])], "rank_request", "m", -5, 2),
        c.Ranking("r1", "u1", 0, 5, 0, 2, [], "events", "m", 1, 2, "diverse"),
    ],
    "content-triggers": [
        c.ContentTrigger("t1", "head_changed", "r1", "u1", "alien", 1),
        c.ContentTrigger("t1", "request", "q1", "u1", "alien", 1, "high", "r1", ["heat"], [REASON], "text", "en"),
        c.ContentTrigger("t1", "request", "q1", "u1", "alien", 1, text_kind="answer", question="Who?", reviews=["A."]),
        c.ContentTrigger("t1", "head_changed", "r1", "u1", "alien", 1, framing="taste", taste=["horror"]),
    ],
    "contents": [
        c.Content("c1", "t1", "u1", ["alien"], "text", "en", "Alien.", "model", "m", "passed", "why", "request", 1),
        c.Content(
            "c1",
            "t1",
            "u1",
            [],
            "text",
            "",
            "",
            "template",
            "t",
            "passed",
            "",
            "request",
            1,
            9,
            2,
            1,
            "s3://x",
            "ab",
            "a/b",
            2**33,
            "subject",
        ),
    ],
    "statistics": [
        c.Statistics(0, [], [], 1),
        c.Statistics(1, [c.ItemCount("alien", 3_600_000, 2, 1.5)], [c.CategoryCount("horror", 0, 1, -2.0)], 1, 2),
        c.Statistics(0, [], [], 1, lesson_items=["alien"], taught=b"\0\1"),
        c.Statistics(0, [], [], 1, reactions=[c.ReactionCount("poster-taste", 3_600_000, 2, 1)]),
        c.Statistics(0, [], [], 1, shown=[c.ItemShown("alien", 3)]),
        c.Statistics(0, [], [], 1, segments=[c.SegmentCount("", "alien", 3), c.SegmentCount("country=de", "alien", 2)]),
    ],
    "trends": [c.Trend("item", "item:alien", 0, 86_400_000, 3, 12, 9.5, 1.25)],
    "dlq-settled": [c.Settlement("interactions.dlq", "lLj7", 0, 2**33, "redriven", 1_700_000_000_000)],
}


def as_record(value: Any) -> Any:
    """Structs as dictionaries, array-like ones too; bytes stay bytes."""
    if isinstance(value, msgspec.Struct):
        return {name: as_record(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [as_record(inner) for inner in value]
    if isinstance(value, dict):
        return {key: as_record(inner) for key, inner in value.items()}
    return value


def write(schema: Any, record: Any) -> bytes:
    into = io.BytesIO()
    fastavro.schemaless_writer(into, schema, record, strict=True)
    return into.getvalue()


def read(raw: bytes, writer: Any, reader: Any | None = None) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(raw), writer, reader)


def records_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record type in a schema, nested ones too."""
    if isinstance(schema, list):
        for inner in schema:
            yield from records_of(inner)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            yield schema
            for field in schema["fields"]:
                yield from records_of(field["type"])
        else:
            yield from records_of(schema.get("items", schema.get("values")))


def structs_of(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
        for inner in typing.get_type_hints(annotation).values():
            yield from structs_of(inner)
    for inner in typing.get_args(annotation):
        yield from structs_of(inner)


def is_optional(annotation: Any) -> bool:
    return typing.get_origin(annotation) in {typing.Union, types.UnionType} and type(None) in typing.get_args(
        annotation
    )


def default_of(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


AVRO = {str: {"string"}, int: {"int", "long"}, float: {"double"}, bytes: {"bytes"}, list: {"array"}, dict: {"map"}}


def kind_of(annotation: Any) -> set[str]:
    """Avro types that hold a value of this annotation."""
    if is_optional(annotation):
        (annotation,) = (inner for inner in typing.get_args(annotation) if inner is not type(None))
    origin = typing.get_origin(annotation) or annotation
    return {"record"} if isinstance(origin, type) and issubclass(origin, msgspec.Struct) else AVRO[origin]


def test_one_schema_per_contract() -> None:
    files = {path.stem for path in schemas.folder("schemas").glob("*.avsc")}
    assert files == set(schemas.CONTRACTS) == set(EXAMPLES)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="rankings"):
        schemas.load("ranking")


@pytest.mark.parametrize("name", schemas.CONTRACTS)
def test_schema_and_struct_have_the_same_fields(name: str) -> None:
    by_name = {record["name"]: record for record in records_of(schemas.load(name))}
    structs = {struct.__name__: struct for struct in structs_of(schemas.CONTRACTS[name])}
    assert by_name.keys() == structs.keys()
    for struct_name, struct in structs.items():
        fields = {field["name"]: field for field in by_name[struct_name]["fields"]}
        hints = typing.get_type_hints(struct)
        declared = {field.name: field for field in msgspec.structs.fields(struct)}
        assert list(fields) == list(declared), f"{struct_name}: order is part of an array-like contract"
        for field_name, field in declared.items():
            avro = fields[field_name]["type"]
            optional = is_optional(hints[field_name])
            assert (isinstance(avro, list) and avro[0] == "null") == optional, f"{struct_name}.{field_name}"
            inner = avro[1] if optional else avro
            type_name = inner["type"] if isinstance(inner, dict) else inner
            named = {"record"} if type_name in structs else {type_name}  # a type used again goes by its name
            assert named <= kind_of(hints[field_name]), f"{struct_name}.{field_name}"
            required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
            assert ("default" not in fields[field_name]) == required, f"{struct_name}.{field_name}"
            if not required:
                assert fields[field_name]["default"] == default_of(field), f"{struct_name}.{field_name}"


@pytest.mark.parametrize("name", schemas.CONTRACTS)
def test_everything_is_documented(name: str) -> None:
    for record in records_of(schemas.load(name)):
        assert record["doc"].endswith("."), record["name"]
        for field in record["fields"]:
            assert field.get("doc", "").endswith("."), f"{record['name']}.{field['name']}"


@pytest.mark.parametrize("name", schemas.CONTRACTS)
def test_examples_round_trip_in_avro_and_json(name: str) -> None:
    for example in EXAMPLES[name]:
        record = as_record(example)
        raw = write(schemas.parsed(name), record)
        assert read(raw, schemas.parsed(name)) == record
        assert decode(type(example), encode(example)) == example


def incompatibilities(name: str, released: Any, current: Any, examples: list[Any]) -> list[str]:
    """What breaks between a released and the current schema of one topic, both ways."""
    found = []
    released, current = fastavro.parse_schema(copy.deepcopy(released)), fastavro.parse_schema(copy.deepcopy(current))
    for way, writer, reader in (("backward", released, current), ("forward", current, released)):
        for example in examples:
            try:
                # An older schema writes what it knows of the record.
                into = io.BytesIO()
                fastavro.schemaless_writer(into, writer, example)
                read(into.getvalue(), writer, reader)
            except (fastavro.read.SchemaResolutionError, ValueError, KeyError, TypeError, AttributeError) as error:
                found.append(f"{name} is not {way} compatible: {error}")
                break
    return found


RELEASES = sorted(path for path in RELEASED.glob("*/*.avsc"))


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_released_schemas_stay_compatible(path: Path) -> None:
    released = json.loads(path.read_text("utf-8"))
    examples = [as_record(example) for example in EXAMPLES[path.stem]]
    assert not incompatibilities(path.stem, released, schemas.load(path.stem), examples)


def test_every_release_holds_every_schema_of_its_time() -> None:
    assert {path.stem for path in RELEASES if path.parent.name == "0.1.0"} == set(schemas.CONTRACTS) - {
        "rules",
        "dlq-settled",
    }


def test_the_checker_finds_a_breaking_change() -> None:
    released = schemas.load("trends")
    examples = [as_record(example) for example in EXAMPLES["trends"]]
    required = copy.deepcopy(released)
    required["fields"].append({"name": "region", "type": "string", "doc": "New and without a default."})
    with_it = [example | {"region": "eu"} for example in examples]
    assert any("backward" in line for line in incompatibilities("trends", released, required, with_it))
    removed = copy.deepcopy(released)
    removed["fields"] = [field for field in removed["fields"] if field["name"] != "score"]
    assert any("forward" in line for line in incompatibilities("trends", released, removed, examples))
    retyped = copy.deepcopy(released)
    retyped["fields"][-1]["type"] = "string"
    as_text = [example | {"score": "1"} for example in examples]
    assert any("forward" in line for line in incompatibilities("trends", released, retyped, as_text))
    added = copy.deepcopy(released)
    added["fields"].append({"name": "region", "type": "string", "doc": "New, with a default.", "default": ""})
    assert not incompatibilities("trends", released, added, with_it)
