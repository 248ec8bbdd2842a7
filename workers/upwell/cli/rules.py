"""`upwell rules`: business rules on the topic `rules`, checked before they are published."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwell.cli import exits

if TYPE_CHECKING:
    from upwell.events.contracts import Rule

rules_app = typer.Typer(
    help="Business rules: what is a candidate, what is boosted, capped, shown how often.", no_args_is_help=True
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, `group.name=value`; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(rules_app, name="rules")


@rules_app.command()
def put(
    file: Annotated[Path, typer.Argument(help="TOML or JSON file of rules.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is valid.")] = False,
    config: Config = None,
    sets: Set = None,
    as_json: AsJson = False,
) -> None:
    """Publish the rules of a file; each replaces the one of its id. Nothing is published where one of them is wrong.

    \b
    A file:
        [[rules]]
        rule_id = "recalled"
        kind = "block"                # available, block, boost, cap, frequency, repeat
        items = ["4711"]
        [[rules]]
        rule_id = "two-horror-films-at-most"
        kind = "cap"
        categories = ["horror"]
        most = 2

    \b
    Examples:
        upwell rules put rules.toml
        upwell rules put rules.toml --check
    """
    from upwell.bus import latest, topics
    from upwell.bus.topics import Topic
    from upwell.cli.settings import load
    from upwell.events import rules
    from upwell.events.codec import encode

    settings = load(config, sets)
    try:
        found = rules.read(file)
    except rules.InvalidRules as error:
        exits.fail(exits.CONFIG, str(error))
    if not check:
        with exits.mapped("rules put"):
            latest.write(
                settings.kafka, topics.real(settings.kafka, Topic.RULES), {one.rule_id: encode(one) for one in found}
            )
    if as_json:
        print(json.dumps({"rules": [one.rule_id for one in found], "published": not check}))
    else:
        print(f"{len(found)} rules {'are valid' if check else 'published'}")


@rules_app.command("list")
def list_(config: Config = None, sets: Set = None, as_json: AsJson = False) -> None:
    """Show the rules on the topic; those of `rules.file` are not among them.

    \b
    Examples:
        upwell rules list
        upwell rules list --json
    """
    import msgspec

    found, refused = _read(config, sets)
    if as_json:
        print(json.dumps({"rules": [msgspec.to_builtins(one) for one in found.values()], "refused": refused}))
        return
    if not found and not refused:
        print("no rules; `upwell rules put` publishes some")
    for one in found.values():
        print(f"{one.rule_id}  {one.kind}{_told(one)}")
    for key, why in refused.items():
        print(f"{key}  REFUSED by the workers: {why}")


@rules_app.command()
def delete(
    rule_ids: Annotated[list[str], typer.Argument(help="Ids of rules, as `upwell rules list` shows them.")],
    config: Config = None,
    sets: Set = None,
) -> None:
    """Take rules back.

    \b
    Examples:
        upwell rules delete recalled two-horror-films-at-most
    """
    from upwell.bus import latest, topics
    from upwell.bus.topics import Topic
    from upwell.cli.settings import load

    found, refused = _read(config, sets)
    if unknown := sorted(set(rule_ids) - found.keys() - refused.keys()):
        exits.fail(exits.CONFIG, f"no rule is called {', '.join(unknown)}; `upwell rules list` shows them")
    settings = load(config, sets)
    with exits.mapped("rules delete"):
        latest.write(settings.kafka, topics.real(settings.kafka, Topic.RULES), dict.fromkeys(rule_ids))
    print(f"{len(rule_ids)} rules taken back")


def _read(config: Path | None, sets: list[str] | None) -> tuple[dict[str, Rule], dict[str, str]]:
    """Rules by id, and of those that the workers refuse why."""
    from upwell.bus import latest, topics
    from upwell.bus.topics import Topic
    from upwell.cli.settings import load
    from upwell.events import rules, validate

    settings = load(config, sets)
    found: dict[str, Rule] = {}
    refused: dict[str, str] = {}
    with exits.mapped("rules"):
        records = latest.read(settings.kafka, topics.real(settings.kafka, Topic.RULES))
    for key, message in records.items():
        try:
            rule_id, rule = rules.record(key, message.value(), validate.Rules.of(settings))
        except validate.InvalidRecord as error:
            refused[key.decode(errors="replace")] = str(error)
        else:
            if rule is not None:
                found[rule_id] = rule
    return found, refused


def _told(rule: Rule) -> str:
    """What a rule says beyond its kind, on one line."""
    said = []
    for name, values in (("items", rule.items), ("categories", rule.categories)):
        if values:
            said.append(f"{name} {', '.join(values[:5])}{f' and {len(values) - 5} more' if len(values) > 5 else ''}")
    if rule.facts:
        said.append("facts " + ", ".join(f"{fact.predicate} = {fact.object}" for fact in rule.facts[:5]))
    said += [f"{name} {value:g}" for name, value in (("amount", rule.amount), ("most", rule.most)) if value]
    if rule.per:
        said.append(f"per {rule.per}")
    if rule.window_s:
        said.append(f"within {rule.window_s} s")
    for name, moment in (("from", rule.since), ("until", rule.until)):
        if moment:
            said.append(f"{name} {datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d %H:%M}Z")
    return "".join(f"  {one}" for one in said)
