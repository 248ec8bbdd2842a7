"""Every setting, its default and its unit. Flags beat `UPWELL_…` variables, which beat the TOML file, which beats these.

Variables use two underscores between a group and a name: `UPWELL_KAFKA__BOOTSTRAP_SERVERS`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError


class ConfigError(ValueError):
    """A setting is unknown or impossible; the message names it, and the nearest valid name."""


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


TOPICS = (
    "items",
    "interactions",
    "requests",
    "rules",
    "item-features",
    "rankings",
    "content-triggers.high",
    "content-triggers.normal",
    "content-triggers.low",
    "contents",
    "statistics",
    "trends",
    "dlq-settled",
)
"""Canonical names; `upwell.bus.topics`, which knows more of them, stands above this module, and a test compares."""


def _as_text(options: Any) -> Any:
    """Libraries take options as text under dotted names; in TOML people write numbers, booleans and `linger.ms = 5`."""
    if not isinstance(options, dict):
        return options
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{rest}": inner for rest, inner in _as_text(value).items()}
        elif isinstance(value, bool):
            flat[name] = str(value).lower()
        else:
            flat[name] = str(value) if isinstance(value, int | float) else value
    return flat


def _canonical(topics: dict[str, str]) -> dict[str, str]:
    for name in topics:
        if name not in TOPICS:
            close = difflib.get_close_matches(name, TOPICS, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else f"topics are {', '.join(TOPICS)}"
            raise ValueError(f"no topic is called {name}; {hint}")
    return topics


Options = Annotated[dict[str, str], BeforeValidator(_as_text)]
OwnTopics = Annotated[Options, AfterValidator(_canonical)]


class Kafka(Group):
    """The bus."""

    bootstrap_servers: str = Field("localhost:9092", description="Brokers, host:port, comma-separated.")
    group_prefix: str = Field("upwell", description="Consumer groups and transactional ids start with it.")
    topic_prefix: str = Field("", description="Put before every topic name.")
    topics: OwnTopics = Field({}, description="Own names of topics: canonical name = your name.")
    partitions: PositiveInt = Field(4, description="Partitions of topics that Upwell creates.")
    replication_factor: PositiveInt = Field(1, description="Replicas of topics that Upwell creates.")
    batch_max_records: PositiveInt = Field(2000, description="Most records in one batch.")
    batch_max_wait_ms: PositiveInt = Field(10, description="Longest wait for a batch's first record.")
    batch_gather_ms: int = Field(10, ge=0, description="... and then for more of them: fewer, larger transactions.")
    max_record_bytes: PositiveInt = Field(1_048_576, description="A larger record goes to the dead letters.")
    transaction_timeout_ms: PositiveInt = Field(10_000, description="Broker aborts a silent transaction after this.")
    session_timeout_ms: PositiveInt = Field(
        10_000, description="Group coordinator gives up a silent worker after this."
    )
    options: Options = Field({}, description="Any librdkafka option, for consumers and producers.")
    consumer_options: Options = Field({}, description="Any librdkafka consumer option.")
    producer_options: Options = Field({}, description="Any librdkafka producer option.")


class Postgres(Group):
    """The store."""

    dsn: SecretStr = Field(SecretStr("postgresql://localhost/upwell"), description="libpq connection string or URI.")
    db_schema: str = Field("upwell", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema of all tables.")
    options: Options = Field({}, description="Any libpq connection option.")
    pool_size: PositiveInt = Field(4, description="Most connections of one worker.")
    connect_timeout_s: PositiveFloat = Field(10, description="Give up connecting after this; then retried.")


class Triton(Group):
    """The model server."""

    url: str = Field("localhost:8001", description="gRPC address, host:port.")
    options: Options = Field({}, description="Any gRPC channel option.")
    text_encoder: str = Field("text_encoder", description="Model name of the text encoder.")
    item_features: str = Field("item_features", description="Model name of the fusion of all modalities.")
    text_generator: str = Field("text_generator", description="Model name of the text generator.")
    style_transfer: str = Field("style_transfer", description="Model name of the style transfer.")
    speech_synthesizer: str = Field("speech_synthesizer", description="Model name of the speech synthesizer.")
    text_safety: str = Field("text_safety", description="Model name of the judge of texts.")
    image_safety: str = Field("image_safety", description="Model name of the judge of pictures.")
    encode_timeout_s: PositiveFloat = Field(10, description="Deadline of one encode call.")
    fuse_timeout_s: PositiveFloat = Field(60, description="Deadline of one call for up to 32 items' features.")
    generate_timeout_s: PositiveFloat = Field(30, description="Deadline of one generate call, whoever answers it.")
    make_timeout_s: PositiveFloat = Field(
        20, description="Deadline of one call for a picture, for speech, or to judge."
    )


RATING = "rating"
"""The type of event whose value is what a user thinks of the item."""
STRONGEST = 2.0
"""A rating counts at most this often, up or down, whatever its value says."""


class Events(Group):
    """What counts as an event, and how much."""

    weights: dict[str, float] = Field(
        {
            "impression": 0.0,
            "view": 0.3,
            "click": 1.0,
            "like": 2.0,
            "dislike": -2.0,
            "add_to_cart": 2.0,
            "purchase": 3.0,
            "rating": 1.0,
            "dismiss": -1.0,
            "share": 2.0,
            "play": 1.0,
        },
        description="Weight of each type; a type without one goes to the dead letters. Your types are added to these; "
        "at weight 0 a type is counted, and is no preference.",
    )
    rating_neutral: float = Field(2.5, description="A rating's weight is weights.rating x (value - neutral) / scale.")
    rating_scale: PositiveFloat = Field(2.5, description="See rating_neutral.")
    max_future_s: float = Field(86_400, ge=0, description="An event further in the future goes to the dead letters.")

    def weight(self, type_: str, value: float | None) -> float:
        """What an event counts: its type's weight, a rating's by its value, but at most `STRONGEST` times as much, up or down;
        0 for a type that has none."""
        weight = self.weights.get(type_, 0.0)
        if type_ == RATING and value is not None:
            liking = (value - self.rating_neutral) / self.rating_scale
            weight *= max(-STRONGEST, min(STRONGEST, liking))
        return weight


class ItemSettings(Group):
    """What items are embedded by."""

    modalities: list[Literal["text", "image", "audio", "speech"]] = Field(
        ["text"], min_length=1, description="What of an item is encoded and fused; `text` alone needs no fusion."
    )
    media_patience_s: PositiveFloat = Field(
        60, description="An item whose media cannot be fetched for so long goes to the dead letters."
    )
    facts: list[str] = Field(
        [],
        description="Attributes that rules select and cap by and reasons name, such as `director`; of items that come from now on.",
    )


class Profiles(Group):
    """User profiles: arithmetic, cache, write-behind."""

    half_life_days: PositiveFloat = Field(60, description="Event time after which an event weighs half.")
    cache_users: PositiveInt = Field(100_000, description="Users held in memory by one worker.")
    history: PositiveInt = Field(512, description="At least this many last events are kept per user, and deduplicated.")
    dedupe_minutes: float = Field(10, ge=0, description="... and all events of at least this much log time.")
    slates: PositiveInt = Field(4, description="Last slates kept per user, with propensities.")
    flush_ms: int = Field(
        500, ge=0, description="Postgres lags by at most this; 0 flushes every batch before the next."
    )
    flush_rows: PositiveInt = Field(5_000, description="... or by at most this many users.")


class Ranking(Group):
    """Scoring and the slate."""

    slate: PositiveInt = Field(10, description="Items in a ranking.")
    emit: Literal["coalesced", "every_event"] = Field(
        "coalesced", description="One ranking per user and batch, or per event."
    )
    candidates: PositiveInt = Field(40, description="Best items of a user, out of which the slate is made.")
    weight_content: float = Field(
        2.0, ge=0, description="What an item's vector counts while nobody had the item; less with every event."
    )
    weight_taste: float = Field(0.35, description="... of it, the cosine with the long-term profile.")
    weight_recent: float = Field(0.45, description="... and the cosine with the last liked items.")
    recent: PositiveInt = Field(5, description="How many last liked items count as recent.")
    unknown_items: PositiveInt = Field(
        20_000,
        description="Items without features that others' taking is learned of (8 kB each, in every worker). Events of more "
        "of them count, and join the profile when features come; the ranking learns nothing from them.",
    )
    learned_items: int = Field(
        200_000,
        ge=1_000,
        description="Items that it is known of what others took near them (6.4 kB each, in every worker). When more have come, "
        "those that nobody took for long make room. Of all workers the same; another number is learned anew from the log.",
    )
    reissue_ms: PositiveInt = Field(2_000, description="A ranking that holds a deleted item is re-issued within this.")


class RulesSettings(Group):
    """Business rules, beside those of the topic `rules`."""

    file: str = Field(
        "", description="TOML or JSON file of rules, read again when it changes; of the same id the topic's rule holds."
    )


class Shaping(Group):
    """Which of a user's candidates make the slate."""

    method: Literal["mmr", "dpp"] = Field(
        "mmr", description="How items are kept apart: by the nearest one above (`mmr`), or by all together (`dpp`)."
    )
    diversity: float = Field(
        0.0, ge=0, le=1, description="What being unlike the items above counts against the score; 0: nothing."
    )
    calibration: float = Field(
        0.0, ge=0, le=1, description="What holding the user's categories in the user's proportions counts; 0: nothing."
    )
    candidates: PositiveInt = Field(
        400, description="Best items of a user, out of which the slate is made while rules boost or cap."
    )


class ColdStart(Group):
    """What is new."""

    impressions: int = Field(
        50,
        ge=0,
        description="An item that comes while the deployment runs is put at the end of slates, of users whom it suits, until "
        "so many users had it on one; 0: it has to earn its place.",
    )
    share: float = Field(0.2, gt=0, le=1, description="Share of slates whose last place may go to such an item.")
    segments: list[Annotated[str, Field(pattern=r"^[^=\x00-\x1f]{1,64}$")]] = Field(
        [],
        max_length=8,
        description="Attributes of users, such as `country`, by the names that they have in events' `context`: what users of the "
        "same value like is told to those who are new.",
    )
    segment_events: PositiveInt = Field(5, description="New is who has fewer events; the fewer, the more it counts.")
    segment_weight: float = Field(0.5, ge=0, description="What it counts without events, in units of the score.")
    segment_half_life_days: PositiveFloat = Field(
        7, description="Event time after which a segment's likings count half."
    )


PER_USER: Final = {
    "ranking": ("slate", "candidates", "weight_taste", "weight_recent", "recent"),
    "shaping": ("method", "diversity", "calibration", "candidates"),
}
"""Settings that take effect where one user's ranking is made: those in which variants may differ."""
SHARED: Final = {
    "ranking.emit": "a worker's batches hold users of all variants",
    "ranking.weight_content": "the ranker holds one for all users",
    "ranking.unknown_items": "what is learned of such items is learned of all users together",
    "ranking.learned_items": "it bounds what is learned of all users together",
    "ranking.reissue_ms": "a worker re-issues for all users at once",
    "events": "all users' events teach the one ranking, each by its weight",
    "items": "an item is embedded once, for all users",
    "profiles": "a profile is one for its user, whatever experiments come and go",
    "rules": "business rules hold for everybody",
    "cold_start": "all users together owe a new item its impressions",
    "exploration": "what is drawn for some users teaches the ranking of all",
    "statistics": "all workers learn the same from them",
}
"""Why a setting, or a group of them, is the same for all users, where somebody might think otherwise."""


class Variant(Group):
    """Some users, and the settings that are theirs."""

    name: str = Field(min_length=1)
    share: float = Field(ge=0.0001, le=1)
    settings: Options = {}
    """Dotted name to value; of all others the variant has what everybody has."""


class ExperimentSettings(Group):
    """Users shared out to variants of the ranking, which `upwell evaluate served` compares."""

    name: str = Field("", description="Says who is in which variant: a new name shares users out anew.")
    variants: list[Variant] = Field(
        [],
        description="The control first. Each has a `name`, a `share` of the users (0.5: half of them) and `settings` of its "
        'own, such as {"shaping.diversity" = 0.3}. Empty: no experiment.',
    )

    @model_validator(mode="after")
    def _possible(self) -> ExperimentSettings:
        if not self.variants and not self.name:
            return self
        if not self.name or len(self.variants) < 2:
            raise ValueError("an experiment needs experiment.name and at least two experiment.variants")
        names, shares = [each.name for each in self.variants], [each.share for each in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"experiment.variants {', '.join(names)}: each needs a name of its own")
        if sum(shares) > 1 + 1e-9:
            raise ValueError(f"experiment.variants: their shares {shares} sum to more than 1")
        for each in self.variants:
            for name in each.settings:
                _refuse_shared(each.name, name)
        return self


def _refuse_shared(variant: str, name: str) -> None:
    """
    Raises:
        ValueError: the setting is unknown, or no setting in which users may differ.
    """
    group, _, leaf = name.partition(".")
    if leaf in PER_USER.get(group, ()):
        return
    where = f"experiment.variants, {variant}"
    if ".".join(name.split(".")[:2]) not in names():
        raise ValueError(f"{where}: unknown setting {name}{_nearest(name)}")
    why = SHARED.get(name) or SHARED.get(group) or "it does not say how a user is ranked"
    may = ", ".join(f"{group}.{leaf}" for group, leaves in PER_USER.items() for leaf in leaves)
    raise ValueError(f"{where}: {name} cannot differ between users: {why}. What may: {may}")


class Exploration(Group):
    """Chance in rankings: what is shown little is learned little of, and logged chances let other rankings be judged."""

    share: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="Share of slates whose last places are drawn from the user's candidates; 0: none.",
    )
    positions: int = Field(1, ge=0, le=3, description="How many last places, never the first one; 0: none.")
    floor: float = Field(
        0.1,
        gt=0,
        le=1,
        description="What all that may be drawn shares alike; the rest goes by the chance to be the best.",
    )


class StatisticsSettings(Group):
    """Shared learning."""

    window_s: PositiveInt = Field(3600, description="Width of a count's event-time window.")
    snapshot_s: PositiveFloat = Field(10, description="Longest time between snapshots.")
    lessons_per_second: PositiveFloat = Field(
        10_000,
        description="Of more events a second in one worker only as many teach the ranking, chosen by their hashes. "
        "Counts and trends are of all events.",
    )


class GeneratorSettings(Group):
    """Who writes texts: the model that `upwell up` serves, or an endpoint of your own."""

    kind: Literal["triton", "openai", "vllm", "tensorrt_llm"] = Field(
        "triton",
        description="`triton`: the packaged model; `openai`: any server of chat completions; `vllm`, `tensorrt_llm`: "
        "theirs on Triton.",
    )
    url: str = Field(
        "", description="`openai`: address up to /v1. On Triton, gRPC host:port; empty: triton.url.",
    )  # fmt: skip
    model: str = Field("", description="Name of the model there; on Triton, empty: triton.text_generator.")
    api_key: SecretStr = Field(SecretStr(""), description="Key of `openai`; empty: none is needed.")
    api_key_file: str = Field("", description="... or a file that holds it.")
    stop: list[str] = Field([], description="A text of `openai`, `vllm` or `tensorrt_llm` ends before any of these.")
    chat_format: str = Field(
        "{prompt}",
        description="Of `vllm` and `tensorrt_llm`, which know no chat: what the model reads around a prompt.",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What `openai` calls the most tokens of a text."
    )
    options: Options = Field(
        {}, description="Further fields of each request: of `openai`, of sampling in `vllm`, inputs in `tensorrt_llm`."
    )

    @model_validator(mode="after")
    def _complete(self) -> GeneratorSettings:
        if self.kind == "openai" and not (self.url and self.model):
            raise ValueError("generator.kind = openai needs generator.url and generator.model")
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("generator.url names a user: addresses are printed; put the secret into generator.api_key")
        if "{prompt}" not in self.chat_format:
            raise ValueError("generator.chat_format must hold {prompt}")
        return self


class ContentSettings(Group):
    """Generation."""

    tokens_per_second: PositiveFloat = Field(
        150, description="Token budget; beyond it triggers wait, then are skipped."
    )
    burst_tokens: PositiveInt = Field(2_000, description="Tokens that may be spent at once.")
    max_wait_s: PositiveFloat = Field(5, description="A trigger (not a request) that waits longer is skipped.")
    min_events: PositiveInt = Field(5, description="Users with fewer events cause no triggers.")
    candidates: PositiveInt = Field(
        4,
        description="Most candidate texts of a trigger: asked for at once where the budget has room, to choose from; "
        "else one after the other until one passes.",
    )
    max_tokens: PositiveInt = Field(64, le=1024, description="Most tokens of a text.")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature.")
    batch: PositiveInt = Field(8, description="Prompts sent to the generator together.")
    formats: list[Literal["text", "poster", "speech", "clip"]] = Field(
        ["text"], min_length=1, description="Formats that triggers ask for; which one a user gets is learned."
    )
    framings: list[Literal["similar", "recent", "taste", "popular"]] = Field(
        ["similar", "recent"],
        min_length=1,
        description="What a prompt may tell as the reason, where there is evidence: the nearest or the latest of the liked "
        "items, liked categories, popularity. Which one a user gets is learned.",
    )
    feedback_half_life_days: PositiveFloat = Field(
        30, description="Event time after which feedback to a format and framing halves."
    )
    audience: int = Field(20, ge=0, description="Users who get content about a new item.")
    audience_active_days: PositiveFloat = Field(30, description="Users active within this are the audience.")
    judge: Literal["models", "terms"] = Field(
        "models", description="What is asked before publication: the safety models and the terms, or the terms alone."
    )
    max_profanity: float = Field(0.8, ge=0, le=1, description="A text whose own words are likelier profane is refused.")
    max_profanity_facts: float = Field(
        0.99, ge=0, le=1, description="... and a title or description that is, and is on the word list, is not told."
    )
    max_nsfw: float = Field(0.4, ge=0, le=1, description="A picture likelier not safe for work is refused.")
    blocked_terms: list[str] = Field([], description="Words and phrases that no content may hold.")
    protected_terms: list[str] = Field(
        [
            "your age", "your gender", "your sex", "your race", "your skin", "your religion", "your faith", "your church",
            "your nationality", "your ethnicity", "your disability", "your illness", "your health", "your pregnancy",
            "your sexuality", "your sexual orientation", "your politics", "your political views", "your income",
            "people like you", "women like you", "men like you", "for your kind",
        ],
        description="What a text may not say in its own words: attributes of people that the law protects.",
    )  # fmt: skip
    style_strength: float = Field(0.65, ge=0, le=1, description="How far a picture is restyled to the user's taste.")
    fonts: list[str] = Field([], description="Font files for posters and captions, asked before those that are found.")
    voice_languages: list[str] = Field(["en"], description="Languages that the speech synthesizer speaks.")


class DeadLetters(Group):
    """How much bad data a worker takes before it stops: beyond that, it is the release or a producer as a whole."""

    max_in_a_row: int = Field(
        2_000, ge=0, description="A worker stops before more records in a row than this are dead letters; 0: never."
    )
    max_share: float = Field(
        0.5, gt=0, le=1, description="... or more than this share of its last over_records records; 1: never."
    )
    over_records: PositiveInt = Field(10_000, description="See max_share.")


class Trends(Group):
    """Windowed counts."""

    window_s: PositiveInt = Field(86_400, description="Width of a trend window; a multiple of statistics.window_s.")
    keep_windows: PositiveInt = Field(14, description="A window is dropped when this many newer ones have begun ...")
    grace_s: float = Field(
        600, ge=0, description="... this long ago: a replay whose partitions drift apart is counted."
    )
    publish_s: PositiveFloat = Field(1, description="Counts are stored and published once in this time.")
    batch_records: PositiveInt = Field(2_000, description="... or after this many statistics records.")


class MediaSettings(Group):
    """Media of items: what may be fetched, what decoding may cost, where made media lie."""

    schemes: list[str] = Field(
        ["https"], description="Schemes of URIs that are fetched; `http`, and fsspec's `s3`, `gs`, may be added."
    )
    hosts: list[str] = Field(
        [], description="Hosts that are asked, `*.` for all below one; empty: any public one. Buckets must stand here."
    )
    allow_private_hosts: list[str] = Field(
        [], description="Hosts that may lie at a private or loopback address: stores of your own network."
    )
    roots: list[str] = Field([], description="Folders that `file:` URIs may read from; empty: none.")
    options: Options = Field({}, description="Any fsspec option, for schemes other than http, https and file.")
    max_bytes: PositiveInt = Field(33_554_432, description="Largest piece of media.")
    max_pixels: PositiveInt = Field(50_000_000, description="Largest picture or frame, width x height.")
    max_seconds: PositiveFloat = Field(30, le=600, description="A sound is cut after this.")
    denoise: bool = Field(False, description="Whether pictures (median) and sounds (spectral gate) lose noise.")
    in_flight: PositiveInt = Field(8, description="Items prepared at the same time.")
    fetch_timeout_s: PositiveFloat = Field(20, description="Deadline of fetching one piece.")
    decode_timeout_s: PositiveFloat = Field(20, description="Deadline of decoding one piece.")
    decode_cpu_s: PositiveInt = Field(15, description="CPU time that decoding one piece may take.")
    decode_memory_mb: int = Field(2_048, ge=768, description="Address space of a decoding process, MiB.")
    decoders: PositiveInt = Field(1, description="Decoding processes of one worker.")
    item_timeout_s: PositiveFloat = Field(60, description="Deadline of all media of one item.")
    store: str = Field(
        "", description="Where made and inline media go, as fsspec's URL: `file:///folder`, `s3://bucket/folder`."
    )
    store_options: Options = Field({}, description="Any fsspec option of the store.")


class OwnModel(Group):
    """A model on Triton that is not as it was packaged: your own weights, another device, another precision."""

    like: str = Field("", description="The packaged model whose code it is; empty: the one of its own name.")
    source: str = Field(
        "", description="Folder of the model, or `owner/name` on Hugging Face's hub, with `@revision` if wished."
    )
    device: str = Field("", description="Of torch: `cpu`, `cuda`, `cuda:1`; empty: as packaged.")
    dtype: Literal["", "bf16", "fp16", "fp32", "int8"] = Field("", description="Precision; empty: as packaged.")
    pooling: Literal["", "mean", "first", "last"] = Field(
        "", description="Of a text encoder's tokens; empty: what its folder says, else mean."
    )
    max_tokens: int = Field(0, ge=0, description="Longer texts are cut by a text encoder; 0: what it was trained for.")
    adapter: str = Field("", description="Folder of a LoRA adapter of a text generator; empty: none with a `source`.")
    options: Options = Field({}, description="Any other parameter of the model's config.pbtxt.")


class Models(Group):
    """Models of your own, each in a table under its name on Triton; `upwell up` serves them."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, OwnModel]

    @model_validator(mode="after")
    def _named(self) -> Models:
        for name in self.by_name:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"models.{name}: a name on Triton is made of letters, digits and underscores")
        return self

    @property
    def by_name(self) -> dict[str, OwnModel]:
        return dict(self.__pydantic_extra__)


class Telemetry(Group):
    log_format: Literal["json", "console"] = Field("console", description="Log lines as JSON or for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")
    metrics_host: str = Field("127.0.0.1", description="Address of the Prometheus endpoint.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Its port; 0 takes a free one and logs it.")


class Settings(BaseSettings):
    """All settings. `Settings.load` is how programs get them."""

    model_config = SettingsConfigDict(
        env_prefix="UPWELL_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: Kafka = Kafka()
    postgres: Postgres = Postgres()
    triton: Triton = Triton()
    events: Events = Events()
    items: ItemSettings = ItemSettings()
    profiles: Profiles = Profiles()
    ranking: Ranking = Ranking()
    rules: RulesSettings = RulesSettings()
    shaping: Shaping = Shaping()
    cold_start: ColdStart = ColdStart()
    experiment: ExperimentSettings = ExperimentSettings()
    exploration: Exploration = Exploration()
    statistics: StatisticsSettings = StatisticsSettings()
    content: ContentSettings = ContentSettings()
    generator: GeneratorSettings = GeneratorSettings()
    trends: Trends = Trends()
    dead_letters: DeadLetters = DeadLetters()
    media: MediaSettings = MediaSettings()
    models: Models = Models()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _windows_fit(self) -> Settings:
        if self.trends.window_s % self.statistics.window_s:
            raise ValueError(
                f"trends.window_s = {self.trends.window_s}: "
                f"must be a multiple of statistics.window_s = {self.statistics.window_s}"
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> Settings:
        self.by_variant()
        return self

    def by_variant(self) -> dict[str, Settings]:
        """What the users of each variant are ranked with; under the empty name, those who are in none.

        Raises:
            ValueError: a variant's value is impossible.
        """
        return {"": self} | {each.name: self._of(each) for each in self.experiment.variants}

    def _of(self, variant: Variant) -> Settings:
        own: dict[str, dict[str, str]] = {}
        for name, value in variant.settings.items():
            group, _, leaf = name.partition(".")
            own.setdefault(group, {})[leaf] = value
        update = {}
        for group, values in own.items():
            base: Group = getattr(self, group)
            try:
                update[group] = type(base).model_validate(base.model_dump() | values)
            except ValidationError as error:
                raise ValueError(f"experiment.variants, {variant.name}: {_explain(error, f'{group}.')}") from None
        return self.model_copy(update=update)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FileSource(settings_cls)

    @classmethod
    def load(cls, file: Path | None = None, flags: dict[str, str] | None = None) -> Settings:
        """Read the TOML file (`file`, else `$UPWELL_CONFIG`, else `upwell.toml` where it exists), variables and flags.

        Args:
            flags: dotted name to value, as given by `--set group.name=value`.

        Raises:
            ConfigError: on an unknown name, with the nearest valid one, or on an impossible value.
        """
        source = file or (Path(found) if (found := os.environ.get("UPWELL_CONFIG")) else None)
        if source is None and Path("upwell.toml").is_file():
            source = Path("upwell.toml")
        from_file = _read_toml(source) if source else {}
        _refuse_unknown_variables()
        token = _FILE.set(from_file)
        try:
            return cls(**_nest(flags or {}))
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None
        except SettingsError as error:
            raise ConfigError(f"{error}: a group or a table is given as JSON there; see `upwell config`") from None
        finally:
            _FILE.reset(token)


_FILE: ContextVar[dict[str, Any]] = ContextVar("settings_file")
NOT_SETTINGS = {
    "UPWELL_CONFIG",
    "UPWELL_HOME",
    "UPWELL_CACHE",
    "UPWELL_MODEL_DIR",
    "UPWELL_GENERATOR_THREADS",
    "UPWELL_STACK",
    "UPWELL_STAMPS_DEB",
}
"""Variables with the prefix that say where things are, not how they behave."""


class _FileSource(PydanticBaseSettingsSource):
    """The parsed TOML file, below variables and flags."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return _FILE.get({}).get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return _FILE.get({})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such settings file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


SECRET_WORDS = ("password", "secret", "token", "key", "dsn")


def looks_secret(name: str) -> bool:
    """Whether the value of a setting or option of this name is not for logs. Limits such as `max_tokens` are, and names of files."""
    leaf = name.lower()
    return any(word in leaf for word in SECRET_WORDS) and "tokens" not in leaf and not leaf.endswith("_file")


def _may_hold_secrets(name: str, given: str) -> bool:
    """Whether a refused value is not to be repeated: options given as one text hold passwords without naming them."""
    leaf = name.partition(".")[2]
    return not leaf or "options" in leaf.split(".")[0] or looks_secret(name) or looks_secret(given)


def names(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += names(annotation, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _nearest(name: str) -> str:
    known = [*names(), *Settings.model_fields]
    if name.startswith("models."):
        known = [f"{name.rpartition('.')[0]}.{field}" for field in OwnModel.model_fields]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if not close:
        tail = name.rsplit(".", 1)[-1]
        close = [k for k in known if k.rsplit(".", 1)[-1] == tail]
    return f"; did you mean {close[0]}?" if close else "; `upwell config` lists all settings"


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        if not variable.upper().startswith("UPWELL_") or variable.upper() in NOT_SETTINGS:
            continue
        name = variable.upper().removeprefix("UPWELL_").lower().replace("__", ".")
        leaf = ".".join(name.split(".")[:2])
        if leaf not in names() and name not in Settings.model_fields and not name.startswith("models."):
            raise ConfigError(f"variable {variable}: unknown setting {name}{_nearest(name)}")


def _nest(flags: dict[str, str]) -> dict[str, Any]:
    """`{"kafka.options.acks": "all"}` to `{"kafka": {"options": {"acks": "all"}}}`: names have two parts, keys any."""
    nested: dict[str, Any] = {}
    for name, value in flags.items():
        group, _, rest = name.partition(".")
        leaf, _, key = rest.partition(".")
        into = nested.setdefault(group, {})
        if group == "models" and key:  # these have three parts
            into, (leaf, _, key) = into.setdefault(leaf, {}), key.partition(".")
        elif f"{group}.{leaf}" not in names():
            raise ConfigError(f"unknown setting {name}{_nearest(name)}")
        if key:
            into.setdefault(leaf, {})[key] = value
        else:
            try:
                into[leaf] = json.loads(value) if value[:1] in "[{" else value
            except ValueError as error:
                raise ConfigError(f"{name}: not valid JSON: {error}") from None
    return nested


def _explain(error: ValidationError, prefix: str = "") -> str:
    """What is wrong, by dotted names. prefix: of the group, where the error is one group's."""
    lines = []
    for problem in error.errors():
        name = prefix + ".".join(str(part) for part in problem["loc"])
        # Settings that do not go together: the message names them.
        if problem["type"] == "value_error" and "." not in name:
            lines.append(problem["msg"].removeprefix("Value error, "))
        elif problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name}{_nearest(name)}")
        else:
            given = repr(problem.get("input"))
            shown = "********" if _may_hold_secrets(name, given) else given
            lines.append(f"{name} = {shown}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
