"""A running deployment in; how good what it published is, as measures, groups and single texts, out.

Texts of the model are measured; templates are counted apart. Nothing is published, and nothing of the deployment changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upwell.content.check import check
from upwell.content.plan import Outcome
from upwell.content.safety import PASSED, Limits, own_words, text_verdict, told_facts
from upwell.content.template import template
from upwell.evaluation import content_facts, content_texts, content_users, content_words
from upwell.evaluation.content_measures import ABOUT, Measure, missing, share
from upwell.evaluation.content_media import Look, Seen
from upwell.evaluation.content_sample import Piece, Sample, histories, likes, sample
from upwell.evaluation.content_users import Group
from upwell.events.hashing import arm_of, key64
from upwell.inference.encode import TextEncoder
from upwell.inference.repository import served
from upwell.inference.safety import TextSafety, TextScore
from upwell.settings import ConfigError, Settings
from upwell.training.pairs import Lesson

PROFANITY = ["profanity_mean", "profanity_largest", "profanity_flagged"]
OWN = ["closer_to_own", "closer_to_own_all", "closer_to_own_centred", "closer_to_own_item", "right_user_of_ten"]
WORDS = "closer_to_own_words"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    limit: int = 1_000
    """Latest contents to look at."""
    media: int = 100
    """... and of each format of media."""
    seed: int = 7
    references: Path | None = None
    """JSON lines: `text`, and `content_id` or `item_id`."""


@dataclass(slots=True)
class Evaluation:
    """What was found. `as_dict` is the JSON of the command."""

    sample: Sample
    plan: Plan
    measures: dict[str, Measure]
    groups: list[Group]
    findings: dict[str, list[str]]
    """By content id: what the second look found, of the model's texts."""
    checked: dict[str, list[str]]
    """By content id: what the worker's own check says."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """By content id: the gate's verdict, judged again."""
    scores: dict[str, float] = field(default_factory=dict)
    """By content id: probability of profanity."""
    cosines: list[tuple[float, float]] = field(default_factory=list)
    """Of each text with its own user's profile, and the mean of those with all others."""
    seen: Seen = field(default_factory=Seen)
    references: str = ""
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        pieces = self.sample.pieces
        contents = [piece.content for piece in pieces]
        return {
            "contents": {
                "published": self.sample.published,
                "looked_at": len(pieces),
                "by_source": dict(Counter(content.source for content in contents)),
                "by_format": dict(Counter(content.format for content in contents)),
                "by_arm": dict(Counter(arm_of(content.content_id) for content in contents)),
                "by_kind": dict(Counter(content.kind for content in contents)),
                "candidates": sum(content.candidates for content in contents),
                "rejected": sum(content.rejected for content in contents),
                "users": len({content.user_id for content in contents}),
                "media_unread": self.seen.unread,
            },
            "outcomes": dict(self.sample.outcomes),
            "references": self.references,
            "seed": self.plan.seed,
            "measures": {key: measure.as_dict() for key, measure in self.measures.items()},
            "groups": [group.as_dict() for group in self.groups],
            "alarms": sum(group.alarm for group in self.groups),
            "unsupported": [
                {
                    "content_id": p.content.content_id,
                    "text": p.content.text,
                    "found": self.findings[p.content.content_id],
                }
                for p in pieces
                if self.findings.get(p.content.content_id)
            ],
            "notes": self.notes,
        }


def evaluate(settings: Settings, plan: Plan, say: Callable[[str], None]) -> Evaluation:
    """Look at what a deployment published.

    Raises:
        ConfigError: the references cannot be read.
        Unavailable, psycopg.OperationalError, InferenceUnavailable: Kafka, Postgres or Triton does not answer.
    """
    given = read_references(plan.references) if plan.references is not None else None
    say("reading the topic")
    found = sample(settings, plan.limit, 2 * plan.media, plan.seed)
    say(f"{len(found.pieces)} of {found.published} contents, {len(found.users)} users with a profile")
    # A text about an item that Postgres does not hold cannot be judged by its facts.
    written = [piece for piece in found.pieces if piece.by_model and piece.known]
    measures = [*_sources(found), *content_texts.variety([_lesson(piece) for piece in written])]
    named, references = _references(written, given)
    measures += content_texts.likeness([p.content.text for p, _ in named], [texts for _, texts in named])
    result = Evaluation(found, plan, {}, [], {}, {}, references=references)
    measures += _faithfulness(result, written)
    closer = _personalisation(result, settings, written, say)
    measures += [*closer.measures, _by_words(found, written, plan.seed)]
    measures += _safety(result, settings, written, say)
    with Look(settings, say) as look:
        result.seen = look.at(found, plan.media)
    measures += result.seen.measures
    by_key = {measure.key: measure for measure in measures}
    result.measures = {key: by_key[key] for key in ABOUT if key in by_key}
    result.groups = _groups(result, written, closer)
    if found.cut:
        result.notes.append("the catalogue is larger than what was looked at: names of further items are not known")
    if unknown := sum(not piece.known for piece in found.pieces):
        result.notes.append(f"{unknown} contents are about items that Postgres does not hold: not measured")
    return result


def read_references(path: Path) -> dict[str, list[str]]:
    """References by content id and by item id, from JSON lines.

    Raises:
        ConfigError: the file or a line of it cannot be read.
    """
    found: dict[str, list[str]] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--references {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"--references {path}, line {number}: {error}") from None
        key = (row.get("content_id") or row.get("item_id")) if isinstance(row, dict) else None
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(key, str) or not isinstance(text, str) or not text.strip():
            raise ConfigError(
                f'--references {path}, line {number}: {{"item_id" or "content_id": "…", "text": "…"}} expected'
            )
        found.setdefault(key, []).append(text)
    return found


def _references(
    written: Sequence[Piece], given: Mapping[str, list[str]] | None
) -> tuple[list[tuple[Piece, list[str]]], str]:
    """Texts that have references, with them; and what the references are, in words."""
    if given is not None:
        named = []
        for piece in written:
            content = piece.content
            own = [*given.get(content.content_id, []), *given.get(content.item_ids[0], [])]
            if own:
                named.append((piece, own))
        return named, f"given in a file, for {len(named)} of {len(written)} texts"
    named = []
    for piece in written:
        plain = template(piece.facts, piece.because, piece.content.language, reason=piece.reason, taste=piece.taste)
        described = [piece.facts.description] if piece.facts.description else []
        named.append((piece, [plain, *described]))
    return named, "the template of the same facts and reason, and the item's description where it has one"


def _lesson(piece: Piece) -> Lesson:
    return Lesson(piece.facts, piece.because, piece.reason, piece.taste, piece.content.text)


def _sources(found: Sample) -> list[Measure]:
    contents = [piece.content for piece in found.pieces]
    by_model = sum(piece.by_model for piece in found.pieces)
    measures = [
        Measure("model_texts", float(by_model), len(contents)) if contents else Measure("model_texts", None, lacking="no contents"),
        share("model_share", by_model, len(contents), "no contents"),
        share(
            "candidates_refused",
            sum(content.rejected for content in contents), sum(content.candidates for content in contents),
            "no candidates",
        ),
    ]  # fmt: skip
    ended, why = found.outcomes, "the content worker's group has committed no outcomes"
    generated, templates = ended[Outcome.GENERATED], ended[Outcome.TEMPLATE]
    note = ", ".join(f"{name} {count}" for name, count in sorted(ended.items()))
    return [
        *measures,
        share("triggers_ended_by_model", generated, ended.total(), why, note),
        share("answered_by_model", generated, generated + templates, why),
        share("requests_refused", ended[Outcome.REFUSED], ended.total(), why),
    ]


def _faithfulness(result: Evaluation, written: Sequence[Piece]) -> list[Measure]:
    """Both looks at the facts, and whether told reasons are true."""
    found = result.sample
    texts = [piece.content.text for piece in found.pieces]
    known = content_facts.gazetteer(((e.title, e.categories, e.attributes) for e in found.catalogue), texts)
    for piece in written:
        content = piece.content
        result.findings[content.content_id] = content_facts.unsupported(
            content.text, piece.facts, piece.because, piece.taste, known
        )
        result.checked[content.content_id] = check(
            content.text, piece.facts, piece.because, content.language, reason=piece.reason, taste=piece.taste
        )
    donors = np.random.default_rng(result.plan.seed).permutation(len(written))
    caught = [
        bool(content_facts.unsupported(changed, piece.facts, piece.because, piece.taste, known))
        for piece, donor in zip(written, donors, strict=True)
        for changed in content_facts.planted(piece.content.text, piece.facts, piece.because, written[donor].facts)
    ]
    n, why = len(written), "no texts by the model"
    kinds = Counter(kind for problems in result.findings.values() for kind in {p.partition(":")[0] for p in problems})
    note = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    past = histories(found.users)
    told = [
        content_users.told_truly(past[piece.content.user_id], [key64(item) for item, _ in liked])
        for piece in written
        if piece.content.user_id in past and (liked := _told(piece))
    ]
    return [
        share("faithful", sum(not p for p in result.findings.values()), n, why, note),
        share("planted_found", sum(caught), len(caught), "no text holds what could be exchanged"),
        share("passes_check", sum(not p for p in result.checked.values()), n, why),
        share("reason_in_history", sum(told), len(told), "no text names a liked item whose user has a profile"),
    ]


def _told(piece: Piece) -> list[tuple[str, str]]:
    """Items of the occasion's reason that the text names."""
    folded = content_facts.fold(piece.content.text)
    pairs = zip(piece.because_ids, piece.because, strict=True)
    return [(item, title) for item, title in pairs if content_facts.fold(title) in folded]


@dataclass(slots=True)
class _Closer:
    measures: list[Measure]
    trials: dict[str, list[bool]] = field(default_factory=dict)
    """By user: whether the text was closer to the own profile than to another's."""


def _personalisation(
    result: Evaluation, settings: Settings, written: Sequence[Piece], say: Callable[[str], None]
) -> _Closer:
    triton, users, seed = settings.triton, result.sample.users, result.plan.seed
    profiles = {user: row.vector for user, row in users.items() if np.any(row.vector)}
    pieces = [piece for piece in written if piece.content.user_id in profiles]
    if len({piece.content.user_id for piece in pieces}) < 2:
        return _Closer(missing(OWN, "texts by the model for two users with a profile are needed"))
    if not served(triton.url, triton.text_encoder):
        return _Closer(missing(OWN, f"{triton.text_encoder} is not loaded"))
    say(f"encoding {len(pieces)} texts")
    encoder = TextEncoder(triton.url, model=triton.text_encoder, timeout_s=60.0, options=triton.options)
    try:
        vectors = encoder.encode([piece.content.text for piece in pieces])
    finally:
        encoder.close()
    profiles = {user: vector for user, vector in profiles.items() if len(vector) == vectors.shape[1]}
    kept = [n for n, piece in enumerate(pieces) if piece.content.user_id in profiles]
    pieces, vectors = [pieces[n] for n in kept], vectors[kept]
    owners = [piece.content.user_id for piece in pieces]
    if len(set(owners)) < 2:
        why = f"profiles have another length than the {vectors.shape[1]} numbers of {triton.text_encoder}"
        return _Closer(missing(OWN, why))
    # Only users who got a text: a pair is two users with texts.
    asked = {user: profiles[user] for user in set(owners)}
    drawn, everywhere = content_users.closer(vectors, owners, asked, seed)
    trials: dict[str, list[bool]] = {}
    for owner, nearer in zip(owners, drawn, strict=True):
        trials.setdefault(owner, []).append(bool(nearer))
    bare, differences = content_users.centred(vectors, asked)
    apart, _ = content_users.closer(bare, owners, differences, seed)
    result.cosines = content_users.own_and_others(vectors, owners, asked)
    return _Closer(
        [
            share("closer_to_own", int(drawn.sum()), len(drawn)),
            Measure("closer_to_own_all", everywhere, len(drawn), note=f"{len(asked)} users"),
            share("closer_to_own_centred", int(apart.sum()), len(apart)),
            _by_item(result.sample, pieces, asked, seed),
            content_users.right_of_ten(vectors, owners, asked, seed),
        ],
        trials,
    )


def _by_words(found: Sample, written: Sequence[Piece], seed: int) -> Measure:
    """The same by another judge: tf-idf of what is known of the items that a user liked."""
    texts, users = (
        content_words.vectors([piece.content.text for piece in written], found.catalogue, histories(found.users))
        if written
        else (np.zeros((0, 0), np.float32), {})
    )
    kept = [n for n, piece in enumerate(written) if piece.content.user_id in users]
    owners = [written[n].content.user_id for n in kept]
    if len(set(owners)) < 2:
        return Measure(WORDS, None, lacking="texts by the model for two users who liked something are needed")
    drawn, _ = content_users.closer(texts[kept], owners, {user: users[user] for user in set(owners)}, seed)
    return share(WORDS, int(drawn.sum()), len(drawn))


def _by_item(found: Sample, pieces: Sequence[Piece], profiles: Mapping[str, NDArray[np.float32]], seed: int) -> Measure:
    owners, rows = [], []
    for piece in pieces:
        _, vector = found.item_vectors.get(piece.content.item_ids[0], ("", np.zeros(0, np.float32)))
        if len(vector) == len(profiles[piece.content.user_id]):
            owners.append(piece.content.user_id)
            rows.append(vector)
    if not rows:
        return Measure("closer_to_own_item", None, lacking="the items have no vectors of the profiles' length")
    drawn, _ = content_users.closer(np.stack(rows), owners, profiles, seed)
    return share("closer_to_own_item", int(drawn.sum()), len(drawn))


def _safety(
    result: Evaluation, settings: Settings, written: Sequence[Piece], say: Callable[[str], None]
) -> list[Measure]:
    """Probabilities of profanity and today's verdicts, of the model's texts."""
    triton, limits = settings.triton, Limits.of(settings.content)
    scores: list[TextScore | None] = [None] * len(written)
    told = [told_facts(piece.facts, piece.because) for piece in written]
    measures = missing(PROFANITY, "no texts by the model")
    if written and not served(triton.url, triton.text_safety):
        measures = missing(PROFANITY, f"{triton.text_safety} is not loaded")
    elif written:
        say(f"judging {len(written)} texts")
        judge = TextSafety(triton.url, model=triton.text_safety, timeout_s=60.0, options=triton.options)
        try:
            own = [own_words(piece.content.text, facts) for piece, facts in zip(written, told, strict=True)]
            judged = judge.judge(own)
        finally:
            judge.close()
        scores = list(judged)
        probabilities = [score.probability for score in judged]
        result.scores = {p.content.content_id: s for p, s in zip(written, probabilities, strict=True)}
        measures = [
            Measure("profanity_mean", float(np.mean(probabilities)), len(judged)),
            Measure("profanity_largest", max(probabilities), len(judged)),
            share("profanity_flagged", sum(score.flag for score in judged), len(judged)),
        ]
    verdicts = [
        text_verdict(piece.content.text, facts, score, limits)
        for piece, facts, score in zip(written, told, scores, strict=True)
    ]
    result.verdicts = {p.content.content_id: verdict for p, verdict in zip(written, verdicts, strict=True)}
    by = "models and terms" if result.scores else "terms alone"
    refused = sum(verdict != PASSED for verdict in verdicts)
    return [*measures, share("texts_refused_again", refused, len(verdicts), "no texts by the model", by)]


def _groups(result: Evaluation, written: Sequence[Piece], closer: _Closer) -> list[Group]:
    """Who gets what, by how active users are and by what they like most: attributes of people are not known here."""
    found = result.sample
    groups = {
        "activity": content_users.activity({user: row.version for user, row in found.users.items()}),
        "favourite category": content_users.majority(likes(found.users, found.catalogue)),
    }
    rates: dict[str, dict[str, list[bool]]] = {"text by the model": {}}
    formats = sorted({piece.content.format for piece in found.pieces})
    for piece in found.pieces:
        user = piece.content.user_id
        rates["text by the model"].setdefault(user, []).append(piece.by_model)
        for format_ in formats if len(formats) > 1 else ():
            rates.setdefault(f"format {format_}", {}).setdefault(user, []).append(piece.content.format == format_)
    for piece in written:
        user, content_id = piece.content.user_id, piece.content.content_id
        rates.setdefault("no unsupported fact", {}).setdefault(user, []).append(not result.findings[content_id])
        rates.setdefault("passes the gate again", {}).setdefault(user, []).append(result.verdicts[content_id] == PASSED)
    if closer.trials:
        rates["closer to its user's profile"] = closer.trials
    return content_users.compare(rates, groups)
