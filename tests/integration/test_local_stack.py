"""The local stack on real servers: they answer, keep their data, recover, end with their parent, and say what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from support import eventually
from upwell.local.checks import diagnose
from upwell.local.errors import StackError
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

OWNER = """
import json, sys, time
from pathlib import Path
from upwell.local.stack import Stack
stack = Stack(Path(sys.argv[1]), ephemeral=True)
stack.start(("postgres",))
status = stack.status()
print(json.dumps([status["supervisor"], stack.pid("postgres")]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the test's own; whatever runs there at the end is ended and removed."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    Stack(folder).wipe()


def test_endpoints_answer(stack: Stack) -> None:
    endpoints = stack.endpoints()
    brokers = AdminClient({"bootstrap.servers": endpoints.kafka}).list_topics(timeout=10).brokers
    assert len(brokers) == 1
    with psycopg.connect(endpoints.postgres) as database:
        (version,) = database.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        assert version >= "0.8"
        (server,) = database.execute("SHOW server_version_num").fetchone()
        assert int(server) >= 180000


def test_servers_listen_on_loopback_only(stack: Stack) -> None:
    for service in stack.status()["services"].values():
        listening = [
            c.laddr.ip for c in psutil.Process(service["pid"]).net_connections("inet") if c.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_start_again_joins_what_runs(stack: Stack) -> None:
    before = {name: found["pid"] for name, found in stack.status()["services"].items()}
    Stack(stack.home).start(("kafka", "postgres"))
    assert {name: found["pid"] for name, found in stack.status()["services"].items()} == before


def test_doctor_finds_the_running_servers(stack: Stack) -> None:
    found = {check.name: check for check in diagnose(stack)}
    assert {name: found[name].verdict for name in ("kafka answers", "postgres answers")} == {
        "kafka answers": "ok",
        "postgres answers": "ok",
    }
    assert "pgvector" in found["postgres answers"].found


@pytest.mark.faults
@pytest.mark.parametrize("kill", [True, False], ids=["sigkill", "asked"])
def test_postgres_comes_back_with_its_data(stack: Stack, prefix: str, kill: bool) -> None:
    with psycopg.connect(stack.endpoints().postgres, autocommit=True) as database:
        database.execute(f"CREATE TABLE {prefix}kept AS SELECT 42 AS answer")
    before = stack.pid("postgres")
    endpoints = stack.restart("postgres", kill=kill)
    assert stack.pid("postgres") != before
    with psycopg.connect(endpoints.postgres) as database:
        assert database.execute(f"SELECT answer FROM {prefix}kept").fetchone() == (42,)


@pytest.mark.faults
def test_killed_kafka_comes_back_with_its_records(stack: Stack, prefix: str) -> None:
    address = stack.endpoints().kafka
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(f"{prefix}kept", 1, 1)])[f"{prefix}kept"].result(30)
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for number in range(1000):
        producer.produce(f"{prefix}kept", str(number).encode())
    assert producer.flush(30) == 0
    stack.restart("kafka", kill=True)
    assert stack.endpoints().kafka == address
    consumer = Consumer({"bootstrap.servers": address, "group.id": f"{prefix}group", "auto.offset.reset": "earliest"})
    consumer.subscribe([f"{prefix}kept"])
    found: list[int] = []

    def all_read() -> bool:
        found.extend(int(record.value()) for record in consumer.consume(1000, timeout=0.5) if not record.error())
        return len(found) >= 1000

    try:
        eventually(all_read, timeout=60, message="all records are read after the crash")
    finally:
        consumer.close()
    assert found == list(range(1000))


@pytest.mark.faults
def test_everything_ends_with_a_killed_owner(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE) as owner:
        supervisor, postgres = json.loads(owner.stdout.readline())
        assert all(psutil.pid_exists(pid) for pid in (supervisor, postgres))
        owner.kill()
    eventually(lambda: not alive(postgres) and not alive(supervisor), message="servers and supervisor have ended")
    eventually(lambda: not (home / "postgres").exists(), message="an ephemeral home is removed")


@pytest.mark.faults
def test_killed_supervisor_leaves_no_server_and_a_stale_stack_that_is_said(home: Path) -> None:
    stack = Stack(home)
    stack.start(("postgres",))
    with psycopg.connect(stack.endpoints().postgres, autocommit=True) as database:
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    ports, postgres = stack.known_ports(), stack.pid("postgres")
    os.kill(stack.status()["supervisor"], signal.SIGKILL)
    eventually(lambda: not alive(postgres), message="the server has ended with its supervisor")
    assert stack.status()["stale"]
    assert "was not shut down" in stack.stale()
    assert {check.name: check.verdict for check in diagnose(stack)}["stale stack"] == "warning"
    said: list[str] = []
    again = Stack(home)
    again.start(("postgres",), progress=said.append)
    assert any("was not shut down" in line for line in said)
    assert again.known_ports() == ports
    with psycopg.connect(again.endpoints().postgres) as database:
        assert database.execute("SELECT answer FROM kept").fetchone() == (42,)
    again.stop()
    assert not again.status()["running"]
    assert not again.status()["stale"]


def test_taken_port_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = Stack(home, ports={"postgres": port})
        with pytest.raises(StackError, match=f"port {port}, wanted for postgres, is taken by process {os.getpid()} "):
            stack.start(("postgres",))
    assert not stack.status()["running"]


def test_port_of_last_time_that_is_taken_is_replaced_and_said(home: Path) -> None:
    stack = Stack(home)
    stack.start(("postgres",))
    stack.stop()
    port, said = stack.known_ports()["postgres"], list[str]()
    with socket.create_server(("127.0.0.1", port)):
        endpoints = stack.start(("postgres",), progress=said.append)
        assert f":{port}/" not in endpoints.postgres
        assert any(f"port {port}, last used for postgres, is taken" in line for line in said)
        with psycopg.connect(endpoints.postgres) as database:
            assert database.execute("SELECT 1").fetchone() == (1,)
        stack.stop()


def test_server_that_cannot_start_is_said_with_its_own_words(home: Path) -> None:
    stack = Stack(home, options={"postgres": {"shared_buffers": "a lot"}})
    with pytest.raises(StackError, match=r"postgres does not start(.|\n)*invalid value for parameter"):
        stack.start(("postgres",))
    assert not stack.status()["running"]
    assert not stack.status()["stale"]


ECHO_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 8
input [ { name: "X", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ -1 ] } ]
"""
ECHO_MODEL = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [utils.InferenceResponse([utils.Tensor("Y", found * 2)]) for found in inputs]
"""


@pytest.fixture
def echo(home: Path) -> Iterator[tuple[Stack, Callable[[], list[float]]]]:
    """Triton alone, with a small model of the user's own in the home's repository."""
    import numpy as np
    from tritonclient import grpc

    folder = home / "triton" / "models" / "echo"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "1" / "model.py").write_text(ECHO_MODEL)
    stack = Stack(home)
    endpoints = stack.start(("triton",), models=["echo"])
    client = grpc.InferenceServerClient(endpoints.triton)

    def infer() -> list[float]:
        tensor = grpc.InferInput("X", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
        try:
            return client.infer("echo", [tensor], client_timeout=5).as_numpy("Y").tolist()[0]
        except grpc.InferenceServerException as error:
            raise AssertionError(str(error)) from None

    yield stack, infer
    client.close()
    stack.stop()


def regions(stack: Stack) -> list[Path]:
    prefix = json.loads((stack.home / "stack.json").read_text())["shared_memory_prefix"]
    return list(Path("/dev/shm").glob(f"{prefix}*"))


@pytest.mark.faults
def test_triton_and_its_models_come_back(echo: tuple[Stack, Callable[[], list[float]]]) -> None:
    stack, infer = echo
    assert infer() == [2.0, 4.0, 6.0]
    assert len(regions(stack)) == 1

    (model,) = [child for child in psutil.Process(stack.pid("triton")).children() if "stub" in child.name()]
    model.kill()
    eventually(lambda: infer() == [2.0, 4.0, 6.0], message="the model answers after its process was killed")

    stack.restart("triton", kill=True)
    assert infer() == [2.0, 4.0, 6.0]
    assert len(regions(stack)) == 1, "a killed server's shared memory is freed"


def test_models_are_added_to_a_running_stack(echo: tuple[Stack, Callable[[], list[float]]]) -> None:
    stack, infer = echo
    folder = stack.home / "triton" / "models"
    shutil.copytree(folder / "echo", folder / "second")
    config = folder / "second" / "config.pbtxt"
    config.write_text(config.read_text().replace("echo", "second"))
    stack.start(("triton",), models=["second"])
    assert stack.status()["services"]["triton"]["models"] == ["echo", "second"]
    assert infer() == [2.0, 4.0, 6.0]

    shutil.copytree(folder / "echo", folder / "broken")
    (folder / "broken" / "1" / "model.py").write_text("raise ImportError('no such thing')")
    config = folder / "broken" / "config.pbtxt"
    config.write_text(config.read_text().replace("echo", "broken"))
    with pytest.raises(StackError, match=r"Triton refused(.|\n)*no such thing"):
        stack.start(("triton",), models=["broken"])
    assert infer() == [2.0, 4.0, 6.0]


def test_nothing_is_left_in_shared_memory(echo: tuple[Stack, Callable[[], list[float]]]) -> None:
    stack, infer = echo
    assert infer() == [2.0, 4.0, 6.0]
    before = regions(stack)
    stack.stop()
    assert not [region for region in before if region.exists()]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
