"""Settings: flags beat variables beat the file beat defaults; mistakes are named, secrets are not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from upwell.bus.topics import Topic
from upwell.cli.settings import printable, toml
from upwell.settings import NOT_SETTINGS, PER_USER, SHARED, TOPICS, ConfigError, Settings, names


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine's."""
    for variable in list(os.environ):
        if variable.startswith("UPWELL_") and variable not in NOT_SETTINGS:
            monkeypatch.delenv(variable)
    monkeypatch.delenv("UPWELL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text)
    return path


def test_defaults_need_nothing() -> None:
    assert Settings.load().ranking.slate == 10


def test_flags_beat_variables_beat_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = file(tmp_path, "[ranking]\nslate = 1\nrecent = 1\nweight_taste = 0.1\n[kafka]\npartitions = 7\n")
    monkeypatch.setenv("UPWELL_RANKING__SLATE", "2")
    monkeypatch.setenv("UPWELL_RANKING__RECENT", "2")
    settings = Settings.load(config, {"ranking.slate": "3"})
    assert (settings.ranking.slate, settings.ranking.recent, settings.ranking.weight_taste) == (3, 2, 0.1)
    assert settings.ranking.weight_recent == Settings().ranking.weight_recent
    assert settings.kafka.partitions == 7


def test_the_file_is_named_by_a_variable_or_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "upwell.toml").write_text("[ranking]\nslate = 4\n")
    assert Settings.load().ranking.slate == 4
    monkeypatch.setenv("UPWELL_CONFIG", str(file(tmp_path, "[ranking]\nslate = 5\n")))
    assert Settings.load().ranking.slate == 5
    assert Settings.load(tmp_path / "upwell.toml").ranking.slate == 4


def test_one_load_does_not_leak_into_the_next(tmp_path: Path) -> None:
    assert Settings.load(file(tmp_path, "[ranking]\nslate = 6\n")).ranking.slate == 6
    assert Settings.load().ranking.slate == 10


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("ranking.slat", "ranking.slate"),
        ("kafka.bootstrap_server", "kafka.bootstrap_servers"),
        ("slate", "ranking.slate"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_valid_one(
    flag: str, nearest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting {flag}; did you mean {nearest}"):
        Settings.load(flags={flag: "1"})
    group, _, leaf = flag.rpartition(".")
    if not group:
        return
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        Settings.load(file(tmp_path, f"[{group}]\n{leaf} = 1\n"))
    monkeypatch.setenv(f"UPWELL_{group}__{leaf}".upper(), "1")
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        Settings.load()


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(ConfigError, match="upwell config"):
        Settings.load(flags={"zzzzzzzzzz.qqqqq": "1"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ranking.slate": "0"}, "ranking.slate = '0'"),
        ({"ranking.slate": "many"}, "ranking.slate = 'many'"),
        ({"ranking.emit": "sometimes"}, "ranking.emit"),
        ({"telemetry.metrics_port": "70000"}, "telemetry.metrics_port"),
        ({"postgres.db_schema": "Robert'); --"}, "postgres.db_schema"),
        ({"events.weights": "{not json"}, "events.weights: not valid JSON"),
        ({"events.weights.view": "nan"}, "events.weights.view = 'nan'"),
        ({"events.weights.view": "-inf"}, "events.weights.view = '-inf'"),
        ({"ranking.weight_taste": "nan"}, "ranking.weight_taste = 'nan'"),
        ({"events.max_future_s": "inf"}, "events.max_future_s = 'inf'"),
        ({"profiles.half_life_days": "inf"}, "profiles.half_life_days = 'inf'"),
        ({"content.temperature": "2.1"}, "content.temperature = '2.1'"),
        ({"content.max_tokens": "1025"}, "content.max_tokens = '1025'"),
        ({"kafka.topics.intercations": "x"}, "no topic is called intercations; did you mean interactions?"),
        ({"kafka.topics.q": "x"}, "topics are items, interactions"),
        ({"trends.window_s": "5000"}, "trends.window_s = 5000: must be a multiple of statistics.window_s = 3600"),
    ],
)
def test_an_impossible_value_is_named(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(flags=flags)
    assert message in str(refused.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such settings file"):
        Settings.load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"some\.toml: not valid TOML"):
        Settings.load(file(tmp_path, "[ranking"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: not valid TOML"):
        Settings.load(tmp_path / "binary.toml")


def test_any_library_option_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = file(
        tmp_path,
        """
        [kafka.options]
        security.protocol = "SSL"
        "client.id" = "me"
        socket.keepalive.enable = true
        [kafka.producer_options]
        linger.ms = 5
        [postgres.options]
        sslmode = "require"
        """,
    )
    monkeypatch.setenv("UPWELL_TRITON__OPTIONS", '{"grpc.keepalive_time_ms": 1000}')
    settings = Settings.load(
        config, {"kafka.producer_options.compression.type": "zstd", "kafka.options.client.id": "flag"}
    )
    assert settings.kafka.options == {
        "security.protocol": "SSL",
        "client.id": "flag",
        "socket.keepalive.enable": "true",
    }
    assert settings.kafka.producer_options == {"linger.ms": "5", "compression.type": "zstd"}
    assert settings.postgres.options == {"sslmode": "require"}
    assert settings.triton.options == {"grpc.keepalive_time_ms": "1000"}


def test_topics_are_renamed_by_their_canonical_names(tmp_path: Path) -> None:
    assert set(Topic) == set(TOPICS)
    config = file(tmp_path, '[kafka.topics]\nitems = "films"\ncontent-triggers.high = "urgent"\n')
    settings = Settings.load(config, {"kafka.topics.content-triggers.low": "later"})
    assert settings.kafka.topics == {
        "items": "films",
        "content-triggers.high": "urgent",
        "content-triggers.low": "later",
    }


def test_weights_of_own_types_are_added(tmp_path: Path) -> None:
    settings = Settings.load(file(tmp_path, "[events.weights]\nwishlist = 1.5\nview = 0.1\n"))
    assert settings.events.weights["wishlist"] == 1.5
    assert settings.events.weights["click"] == 1.0
    assert settings.events.weights["view"] == 0.1


def test_secrets_are_hidden(tmp_path: Path) -> None:
    settings = Settings.load(
        flags={
            "postgres.dsn": "postgresql://me:hunter2@db/upwell",
            "kafka.options.sasl.password": "hunter2",
            "kafka.options.ssl.key.password": "hunter2",
            "kafka.options.sasl.username": "me",
            "postgres.options.password": "hunter2",
            "generator.api_key": "hunter2",
            "generator.api_key_file": "/run/secrets/key",
        }
    )
    for shown in (
        json.dumps(printable(settings)),
        toml(settings),
        repr(settings.postgres.dsn),
        repr(settings.postgres),
    ):
        assert "hunter2" not in shown.replace(repr(settings.postgres.options), "")
    assert printable(settings)["kafka"]["options"]["sasl.username"] == "me"
    assert printable(settings)["generator"]["api_key_file"] == "/run/secrets/key"
    assert printable(settings)["content"]["tokens_per_second"] == settings.content.tokens_per_second
    with pytest.raises(ConfigError) as refused:
        Settings.load(file(tmp_path, '[kafka.options]\nsasl.password = ["hunter2"]\n'))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("kafka.options", "sasl.password=hunter2"),
        ("kafka.producer_options", "hunter2"),
        ("postgres.options", '["password", "hunter2"]'),
        ("postgres.dsn", '["hunter2"]'),
        ("ranking.slate", "password=hunter2"),
    ],
)
def test_a_refused_value_that_may_hold_a_secret_is_not_repeated(flag: str, value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(flag)) as refused:
        Settings.load(flags={flag: value})
    assert "hunter2" not in str(refused.value)


def test_a_refused_group_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('"sasl.password=hunter2"', "hunter2", '["hunter2"]'):
        monkeypatch.setenv("UPWELL_KAFKA", text)
        with pytest.raises(ConfigError) as refused:
            Settings.load()
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_logged_trace_shows_no_values(log_format: str) -> None:
    program = f"""
import structlog
from upwell.settings import Settings
from upwell.telemetry import logs
settings = Settings.load(flags={{"telemetry.log_format": "{log_format}", "kafka.options.sasl.password": "hunter" + "2"}})
logs.configure(settings.telemetry)
def fail(options):
    raise ZeroDivisionError("a bug")
try:
    fail(settings.kafka.options)
except ZeroDivisionError:
    structlog.get_logger().exception("bug")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "ZeroDivisionError: a bug" in done.stderr
    assert "in fail" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_printed_settings_are_a_file_to_start_from(tmp_path: Path) -> None:
    printed = toml(Settings())
    parsed = tomllib.loads(printed)
    assert {f"{group}.{name}" for group, values in parsed.items() for name in values} == set(names())
    again = Settings.load(file(tmp_path, printed))
    assert again.model_copy(update={"postgres": Settings().postgres}) == Settings()


def test_models_of_ones_own_are_printed(tmp_path: Path) -> None:
    settings = Settings.load(flags={"models.mine.like": "text_encoder", "models.mine.options.threads": "2"})
    assert Settings.load(file(tmp_path, toml(settings))).models == settings.models


def test_every_setting_is_described() -> None:
    for group, field in Settings.model_fields.items():
        for name, inner in field.annotation.model_fields.items():  # type: ignore[union-attr]
            assert inner.description, f"{group}.{name}"


def test_a_generator_address_that_holds_a_secret_is_refused():
    given = {"generator.kind": "openai", "generator.model": "m", "generator.url": "https://ann:secret@llm.example/v1"}
    with pytest.raises(ConfigError, match=r"generator\.url names a user") as refused:
        Settings.load(None, given)
    assert "ann:secret" not in str(refused.value)


def test_a_rating_weighs_by_its_value_within_bounds():
    events = Settings().events
    assert events.weight("rating", 5.0) == pytest.approx(1.0)
    assert events.weight("rating", 2.5) == 0
    assert events.weight("rating", 1.0) == pytest.approx(-0.6)
    assert (events.weight("rating", 1e9), events.weight("rating", -1e9)) == (2.0, -2.0)
    assert events.weight("rating", None) == events.weights["rating"]
    assert (events.weight("purchase", 99.0), events.weight("never heard of", None)) == (3.0, 0.0)


EXPERIMENT = """
[experiment]
name = "more or less"
[[experiment.variants]]
name = "control"
share = 0.5
[[experiment.variants]]
name = "diverse"
share = 0.25
settings.shaping.diversity = 0.3
settings.ranking.slate = 12
"""


def test_variants_have_settings_of_their_own_and_share_all_others(tmp_path: Path) -> None:
    settings = Settings.load(file(tmp_path, EXPERIMENT), {"ranking.recent": "3"})
    by_variant = settings.by_variant()
    assert list(by_variant) == ["", "control", "diverse"]
    assert by_variant[""] == settings
    assert by_variant["control"].ranking == settings.ranking
    own = by_variant["diverse"]
    assert (own.shaping.diversity, own.ranking.slate, own.ranking.recent) == (0.3, 12, 3)
    assert own.events == settings.events


def test_an_experiment_is_printed_and_read_again_and_may_be_given_as_json(tmp_path: Path) -> None:
    settings = Settings.load(file(tmp_path, EXPERIMENT))
    assert Settings.load(file(tmp_path, toml(settings))).experiment == settings.experiment
    variants = [
        {"name": "control", "share": 0.5},
        {"name": "diverse", "share": 0.25, "settings": {"shaping.diversity": 0.3, "ranking": {"slate": 12}}},
    ]
    flags = {"experiment.name": "more or less", "experiment.variants": json.dumps(variants)}
    assert Settings.load(flags=flags).experiment == settings.experiment


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25", "0.75", "shares [0.5, 0.75] sum to more than 1"),
        ("0.25", "0", "experiment.variants.1.share = 0"),
        ('"diverse"', '"control"', "control, control: each needs a name of its own"),
        ('"more or less"', '""', "needs experiment.name and at least two"),
        ("shaping.diversity", "shaping.diversty", "diverse: unknown setting shaping.diversty; did you mean shaping.diversity?"),
        ("shaping.diversity = 0.3", "shaping.diversity = 3", "diverse: shaping.diversity = '3': Input should be less than or equal to 1"),
        ("shaping.diversity", "events.weights", "diverse: events.weights cannot differ between users: all users' events teach"),
        ("ranking.slate = 12", "ranking.emit = 'every_event'", "ranking.emit cannot differ between users: a worker's batches"),
        ("ranking.slate = 12", "kafka.partitions = 12", "kafka.partitions cannot differ between users: it does not say"),
        ("settings.", "setings.", "unknown setting experiment.variants.1.setings"),
    ],
)  # fmt: skip
def test_an_impossible_experiment_says_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(file(tmp_path, EXPERIMENT.replace(old, new)))
    assert message in str(refused.value)


def test_a_lone_variant_is_no_experiment() -> None:
    one = json.dumps([{"name": "control", "share": 1}])
    with pytest.raises(ConfigError, match="at least two"):
        Settings.load(flags={"experiment.name": "x", "experiment.variants": one})


def test_every_setting_of_a_ranking_may_differ_or_has_a_reason_not_to() -> None:
    for group, leaves in PER_USER.items():
        known = {f"{group}.{leaf}" for leaf in leaves}
        assert known <= set(names())
        assert {name for name in names() if name.startswith(f"{group}.")} - known <= set(SHARED)
