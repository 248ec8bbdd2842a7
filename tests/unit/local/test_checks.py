"""Prerequisites: what is missing is said with what to do; pins are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from upwell.local import assets, checks
from upwell.local.errors import PrerequisiteError
from upwell.local.processes import choose_port, port_free
from upwell.local.stack import Stack
from upwell.local.triton import Triton


def test_this_machine_can_run_the_stack(tmp_path: Path) -> None:
    checks.require(("kafka", "postgres", "triton"), tmp_path)


def test_too_little_disk_names_the_folder_and_the_variable(tmp_path: Path) -> None:
    found = checks._disk("disk for data", tmp_path / "not" / "yet", 2**70, "UPWELL_HOME")
    assert found.verdict is checks.Verdict.PROBLEM
    assert str(tmp_path) in found.found
    assert "UPWELL_HOME" in found.todo


def test_missing_prerequisite_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "HOME_BYTES", 2**70)
    with pytest.raises(PrerequisiteError, match="too little disk"):
        checks.require(("postgres",), tmp_path)


def test_diagnosis_of_an_unused_home(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home", tmp_path / "cache")
    found = {check.name: check for check in checks.diagnose(stack)}
    assert found["platform"].verdict is checks.Verdict.OK
    assert found["kafka jars"].todo == "run `upwell setup`"
    assert found["running stack"].found.startswith("none in")
    assert not (tmp_path / "home").exists(), "looking changes nothing"


def test_every_pin_has_a_hash() -> None:
    for pin in [*assets.jar_pins(), *assets.weight_pins()]:
        assert pin.hashes
        assert all(len(digest) == 64 for digest in pin.hashes), pin.name
    names = {pin.name for pin in assets.jar_pins()}
    # A class path with a second version of Kafka's own client would start and then fail in odd ways.
    assert [name for name in names if ":kafka-clients:" in name] == [
        f"org.apache.kafka:kafka-clients:{assets.KAFKA_VERSION}"
    ]


def test_ports_are_free_and_distinct() -> None:
    first = choose_port(25_000, set())
    second = choose_port(25_000, {first})
    assert first != second
    assert port_free(first)
    assert port_free(second)


def test_unknown_model_is_named(tmp_path: Path) -> None:
    ports = dict.fromkeys(Triton.port_names, 1)
    triton = Triton(tmp_path, tmp_path, ports, wanted=["text_encodr"], shared_memory_prefix="x")
    with pytest.raises(Exception, match=r"no model text_encodr: it has .*text_encoder"):
        triton.prepare()
