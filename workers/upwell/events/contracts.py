"""The contract of every topic as a msgspec struct; `schemas/*.avsc` documents the same fields one by one.

All times are milliseconds since the Unix epoch, UTC. Structs of the hot path are `gc=False`: they hold no cycles, and
the collector would otherwise visit them by the hundred thousand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Contract(msgspec.Struct, omit_defaults=True):
    """Base of all contracts: unknown fields are ignored on reading, defaults are left out on writing."""


class InteractionType(StrEnum):
    """Types known from the first day; the set is open: any type that has a weight in `events.weights` is valid."""

    IMPRESSION = "impression"
    VIEW = "view"
    CLICK = "click"
    LIKE = "like"
    DISLIKE = "dislike"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    RATING = "rating"
    DISMISS = "dismiss"
    SHARE = "share"
    PLAY = "play"


class ControlType(StrEnum):
    """Control records in a user's log; they carry no preference."""

    RANK_REQUEST = "rank_request"
    """Answer with the user's ranking, as a revision where nothing changed. With `{"elicit": true}` as its context, users
    without a preference get items that tell what they like."""
    ERASE = "erase"
    """Erase the user. Refused to the dead letters until erasure is complete in every store."""


class TextKind(StrEnum):
    """What a text does for the user."""

    RECOMMENDATION = "recommendation"
    """Why this item, in one or two sentences."""
    SUBJECT = "subject"
    """Subject line of a message, or copy of an advertisement: at most 60 characters."""
    DESCRIPTION = "description"
    """What the item is, for this user."""
    ANSWER = "answer"
    """To a customer's question, from the item's facts; or that they do not say it."""
    SUMMARY = "summary"
    """Of given reviews."""


class RuleKind(StrEnum):
    """What a rule does to the items that it is about."""

    AVAILABLE = "available"
    """Candidates only while a rule of this kind about them is in force."""
    BLOCK = "block"
    """No candidates while it is in force."""
    BOOST = "boost"
    """Adds `amount` to their relevance, in which a user's best candidate has 1 and the last one 0."""
    CAP = "cap"
    """At most `most` of them in a slate: together, or of each category or each object of a predicate (`per`)."""
    FREQUENCY = "frequency"
    """Each is shown to a user at most `most` times in `window_s`."""
    REPEAT = "repeat"
    """What a user has had already may come back `window_s` after the last time; without a rule it never does."""


class Media(Contract):
    """One piece of media of an item: `uri` or `data`, never both."""

    kind: str
    """`image`, `audio`, `speech` (a sound in which somebody speaks) or `video`."""
    uri: str | None = None
    data: bytes | None = None
    mime: str | None = None


class Item(Contract):
    """`items` (in), key item_id: upsert or delete; a record with a null value deletes as well."""

    item_id: str
    op: str = "upsert"
    title: str = ""
    description: str = ""
    language: str = ""
    categories: list[str] = []
    attributes: dict[str, Any] = {}
    media: list[Media] = []
    ts: int = 0


class Interaction(Contract, gc=False):
    """`interactions` (in), key user_id: the per-user log."""

    event_id: str
    user_id: str
    type: str
    ts: int
    item_id: str | None = None
    value: float | None = None
    session_id: str | None = None
    ranking_id: str | None = None
    content_id: str | None = None
    position: int | None = None
    context: dict[str, Any] | None = None


class Request(Contract):
    """`requests` (in), key user_id: an explicit wish for content about an item, or about the user's best item."""

    request_id: str
    user_id: str
    ts: int
    type: str = "content"
    item_id: str | None = None
    format: str = "text"
    language: str = ""
    text_kind: str = TextKind.RECOMMENDATION.value
    """A `TextKind`."""
    question: str = ""
    """What an answer answers. Untrusted, as all texts of a request."""
    reviews: list[str] = []
    """What a summary sums up."""


class Fact(Contract, array_like=True, gc=False):
    """What is known of an item: `["director", "Ridley Scott"]`."""

    predicate: str
    object: str


class Rule(Contract):
    """`rules` (in, compacted), key rule_id: one business rule. A record with a null value takes the rule back.

    It is about the items that meet all of `items`, `categories` and `facts` that are given: one of the ids, one of the
    categories, one of the facts. Where none is given it is about all items.
    """

    rule_id: str
    kind: str
    """A `RuleKind`."""
    items: list[str] = []
    categories: list[str] = []
    facts: list[Fact] = []
    since: int = 0
    """In force from this time, ms; 0: always has been."""
    until: int = 0
    """In force before this time, ms; 0: for ever."""
    amount: float = 0.0
    most: int = 0
    per: str = ""
    """Of a cap: empty for all its items together, `category`, or a predicate of facts."""
    window_s: int = 0


class ItemFeatures(Contract):
    """`item-features` (out, compacted), key item_id: what readers need to rank an item. Deleted by a tombstone."""

    item_id: str
    vector: bytes
    """Little-endian float32, unit length."""
    model_version: str
    title: str = ""
    categories: list[str] = []
    modalities: dict[str, float] = {}
    quality: float = 1.0
    ts: int = 0
    facts: list[Fact] = []
    """Attributes that `items.facts` names."""


class Reason(Contract, gc=False):
    """One scorer's share in an item's score, with its evidence."""

    kind: str
    """`similar` (to an item of the user's history), `taste` (the long-term profile), `popular`, `new`, `asked`."""
    share: float
    """What this scorer added to the score."""
    text: str
    item_id: str | None = None
    """The evidence, where it is an item."""
    time: int | None = None
    """Event time of the evidence, where it is one event."""


class RankedItem(Contract, gc=False):
    item_id: str
    score: float
    propensity: float
    """Probability with which the policy shows this item at this position; 1 where nothing is drawn."""
    reasons: list[Reason] = []


class Ranking(Contract, gc=False, omit_defaults=False):
    """`rankings` (out), key user_id. (generation, version, revision) strictly increases per user, and at revision 0
    version = previous version + events."""

    ranking_id: str
    user_id: str
    generation: int
    version: int
    revision: int
    events: int
    items: list[RankedItem]
    trigger: str
    """`events`, `rank_request`, `elicitation` (asked for by one), `item_deleted`, `item_blocked` (by a rule),
    `position_moved`."""
    model_version: str
    event_time: int
    """Largest event time among the user's events."""
    publish_time: int
    variant: str = ""
    """Which variant of the experiment the user is in (`experiment.variants`); empty: in none."""


class ContentTrigger(Contract):
    """`content-triggers.<priority>` (internal), key user_id: the cause of one piece of content."""

    trigger_id: str
    kind: str
    """`head_changed`, `new_item`, `request`."""
    cause: str
    user_id: str
    item_id: str
    created: int
    """When the cause was published: the wait that `content.max_wait_s` bounds starts here."""
    priority: str = "normal"
    ranking_id: str | None = None
    because: list[str] = []
    """Item ids of the user's history that are the evidence for the item."""
    reasons: list[Reason] = []
    format: str = "text"
    language: str = ""
    text_kind: str = TextKind.RECOMMENDATION.value
    question: str = ""
    reviews: list[str] = []
    """The last three as those of the request that it comes of."""
    framing: str = ""
    """What is to be told as the reason: `similar` or `recent` (items of `because`), `taste` or `popular`. Empty: the items,
    or the first of the reasons."""
    taste: list[str] = []
    """Categories of the item that the user likes: the evidence of `taste`."""


class Content(Contract, omit_defaults=False):
    """`contents` (out), key user_id: one piece of content for one user."""

    content_id: str
    trigger_id: str
    user_id: str
    item_ids: list[str]
    format: str
    language: str
    text: str
    source: str
    """`model` or `template`."""
    model: str
    safety: str
    """`passed`: what was checked before publication found nothing."""
    explanation: str
    kind: str
    """Of the trigger."""
    created: int
    tokens: int = 0
    candidates: int = 0
    rejected: int = 0
    """Candidates that the check refused."""
    uri: str | None = None
    sha256: str | None = None
    mime: str | None = None
    size: int | None = None
    """Bytes of the media."""
    text_kind: str = TextKind.RECOMMENDATION.value
    """A `TextKind`; what the text does for the user, whatever caused it (`kind`)."""


class ItemCount(Contract, array_like=True, gc=False):
    """Events of one item in one statistics window."""

    item_id: str
    window: int
    """Start of the window, ms."""
    events: int
    weight: float
    """Sum of the events' weights (`events.weights`)."""


class CategoryCount(Contract, array_like=True, gc=False):
    category: str
    window: int
    events: int
    weight: float


class ReactionCount(Contract, array_like=True, gc=False):
    """Feedback to contents of one arm in one statistics window."""

    arm: str
    """Format and, after a hyphen, framing."""
    window: int
    shown: int
    liked: int


class ItemShown(Contract, array_like=True, gc=False):
    """Rankings in which one new item was published to users who had not been shown it lately."""

    item_id: str
    times: int


class SegmentCount(Contract, array_like=True, gc=False):
    """Likings of one item among users of one segment."""

    segment: str
    """An attribute and its value, `country=de`; empty: all users."""
    item_id: str
    likings: int


STATISTICS_VERSION = 2
"""1 had lessons as lists of numbers."""


class Statistics(Contract, omit_defaults=False):
    """`statistics` (internal), key shard: what one transaction of an interactions worker adds to shared learning.
    Validated, deduplicated and coalesced per batch."""

    shard: int
    items: list[ItemCount]
    categories: list[CategoryCount]
    ts: int
    """Largest event time in the batch."""
    state_version: int = STATISTICS_VERSION
    reactions: list[ReactionCount] = []
    """Feedback to contents, by arm."""
    lesson_items: list[str] = []
    """Item ids that the lessons name."""
    taught: bytes | None = None
    """Lessons in log order, packed: what each event teaches the ranking (`interactions/lessons.py`)."""
    shown: list[ItemShown] = []
    """First impressions of new items, while they are owed any (`cold_start.impressions`)."""
    segments: list[SegmentCount] = []
    """Likings by segment of user, of the events that teach, where segments are configured (`cold_start.segments`)."""


class Trend(Contract, omit_defaults=False):
    """`trends` (out), key `item:<id>` or `category:<name>`: idempotent for readers by (key, window, sequence)."""

    kind: str
    key: str
    window_start: int
    window_end: int
    sequence: int
    """Rises with each re-publication of the same window; the largest is the latest."""
    events: int
    weight: float
    score: float


class Settlement(Contract, omit_defaults=False):
    """`dlq-settled` (internal, compacted), key `<topic>/<topic_id>/<partition>/<offset>`: what became of one dead letter.
    Without one it is open."""

    topic: str
    """Real name of the dead-letter topic."""
    topic_id: str
    """A topic that was created anew has another one, and other letters at the same offsets."""
    partition: int
    offset: int
    outcome: str
    """`redriven` or `dropped`."""
    ts: int
