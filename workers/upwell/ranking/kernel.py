"""Compiled ranking and learning: a user's last events and what all users taught in, scores or the next state out.

The arrays are described in `learner.py`, the arithmetic in docs/decisions/0014-ranking.md. Numba compiles at the first
call and keeps the machine code in its cache.

What is state (counts, neighbours, popularities, mix) is made by +, *, / and square roots in a fixed order, without fast
math: the same log gives the same bits on every machine. Logarithms are only in derived arrays. All compiled functions
are in this file, because Numba's cache notices changes per file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types, uintp
from numba.extending import intrinsic

from upwell.ranking.compiled import compiled, compiled_exactly

ONE, TWO, THREE, FOUR = uintp(1), uintp(2), uintp(3), uintp(4)
"""Unsigned indices: signed ones cost a check for negative values at every access."""
GAIN_LIMIT = 1e15
"""Popularities are kept relative to a growing gain, and divided by it here: each event then costs one addition."""
SAMPLED = uintp(8)
"""Neighbours among which the weakest makes room, and items among which the one not met for longest: looking at all costs
more than it gives."""
LEAST = np.float32(-1e30)
"""Score of what is no candidate."""
CERTAIN = 1e-4
"""A score that would fall by less has no evidence: sums are rounded."""
VISIBLE = np.float32(0.0025)
"""The gradient leaves out what is so much less likely than the best."""


@intrinsic
def _add4(_: Any, to: Any, at: Any, of: Any, where: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """to[at:at+4] += (a, b, c, d) * of[where:where+4] as one vector operation: Numba would make four of it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), 4)
        target, source = (
            builder.bitcast(
                builder.gep(
                    context.make_array(signature.args[array])(context, builder, arguments[array]).data,
                    [arguments[array + 1]],
                ),
                lanes.as_pointer(),
            )
            for array in (0, 2)
        )
        factors = ir.Constant(lanes, [0.0] * 4)
        for lane in range(4):
            factors = builder.insert_element(factors, arguments[4 + lane], ir.Constant(ir.IntType(32), lane))
        added = builder.fmul(factors, builder.load(source, align=4))
        builder.store(builder.fadd(builder.load(target, align=4), added), target, align=4)
        return context.get_dummy_value()

    return types.void(to, at, of, where, a, b, c, d), generate


@compiled_exactly
def logarithms(x, count, scratch):
    """Natural logarithms of x[:count] > 0 in place, to 1e-5: exponent and a polynomial of the mantissa, vectorised."""
    bits = x.view(np.int32)
    mantissa = scratch.view(np.int32)
    for k in range(uintp(count)):
        word = bits[k]
        mantissa[k] = (word & 0x7FFFFF) | 0x3F800000
        x[k] = np.float32((word >> 23) - 127)
    for k in range(uintp(count)):
        m = scratch[k] - np.float32(1)
        p = np.float32(0.12179714) + m * np.float32(-0.02640410)
        p = np.float32(0.45754919) + m * (np.float32(-0.27734235) + m * p)
        p = m * (np.float32(1.44254494) + m * (np.float32(-0.71814525) + m * p))
        x[k] = (x[k] + p) * np.float32(0.6931472)


@compiled_exactly
def stage_of(events, bounds):
    """Which span of history lengths a user with so many events is in."""
    stage = 0
    while stage < len(bounds) and events >= bounds[stage]:
        stage += 1
    return stage


@compiled_exactly
def _derive(shared, tuning, item):
    """An item's features that do not depend on the user, from its counts."""
    fixed, count = shared.fixed[item], shared.counts[item]
    fixed[0] = math.log(count + 1)
    fixed[1] = math.log(shared.popular[item, 0] / shared.gain[0] + 0.1)
    fixed[2] = math.log(shared.popular[item, 1] / shared.gain[1] + 0.05)
    fixed[3] = math.log((shared.likes[item] + 2) / (count + 4))
    fixed[4] = 1 / math.sqrt(count + 1)
    shared.damp[item] = (count + 1) ** (-tuning.damping)


@compiled_exactly
def _mix_fixed(shared, item):
    fixed = shared.fixed[item]
    for stage in range(shared.base.shape[0]):
        mix = shared.mix[stage]
        shared.base[stage, item] = (
            mix[4] * fixed[0] + mix[5] * fixed[1] + mix[6] * fixed[2] + mix[7] * fixed[5 + stage] + mix[8] * fixed[3]
        )


@compiled_exactly
def derive(shared, tuning, rows):
    """The derived arrays of some items, but for each stage's best ones."""
    for k in range(len(rows)):
        item = rows[k]
        _derive(shared, tuning, item)
        for stage in range(shared.base.shape[0]):
            fresh = shared.popular_at[stage, item] / shared.gain[2 + stage]
            shared.fixed[item, 5 + stage] = math.log(fresh + 0.1)
        _mix_fixed(shared, item)


@compiled_exactly
def _weakest_last(top, base):
    """Of a stage's best items, put the one with the least base last: what comes after is compared with that one."""
    end = len(top) - 1
    weakest = end
    for place in range(end):
        if base[top[place]] < base[top[weakest]]:
            weakest = place
    top[weakest], top[end] = top[end], top[weakest]


@compiled_exactly
def _rise(shared, item):
    """An item that has become better than the weakest of a stage's best takes its place, without waiting for `refresh`."""
    if not shared.live[item]:
        return
    for stage in range(shared.base.shape[0]):
        top, base = shared.top[stage], shared.base[stage]
        if base[item] > base[top[-1]]:
            held = False
            for place in range(len(top)):
                held |= top[place] == item
            if not held:
                top[-1] = item
                _weakest_last(top, base)


@compiled_exactly
def refresh(shared, tuning):
    """All derived arrays, and each stage's best items by what does not depend on the user."""
    items, stages = len(shared.counts), shared.base.shape[0]
    if not items:
        return
    for item in range(items):
        _derive(shared, tuning, item)
        for stage in range(stages):
            fresh = shared.popular_at[stage, item] / shared.gain[2 + stage]
            shared.fixed[item, 5 + stage] = math.log(fresh + 0.1)
        _mix_fixed(shared, item)
    places = min(shared.top.shape[1], items)
    for stage in range(stages):
        values = np.where(shared.live, shared.base[stage], LEAST)
        bar = np.partition(values, items - places)[items - places]
        held = 0
        for item in range(items):
            if values[item] >= bar and held < places:
                shared.top[stage, held] = item
                held += 1
        # Fewer items than places: the last one stands in them all.
        shared.top[stage, held:] = shared.top[stage, held - 1]
        _weakest_last(shared.top[stage], shared.base[stage])


@compiled_exactly
def score(shared, tuning, recent, slot, now, gone, gone_count, stage, scratch):
    """Score the user's candidates: neighbours of the last items and the stage's best, without the `gone` ones.

    Returns their number; rows, features and scores are in `scratch`.
    """
    if scratch.tick[0] == np.iinfo(np.int32).max:
        scratch.stamp[:] = 0
        scratch.tick[0] = 0
    scratch.tick[0] += 1
    tick = scratch.tick[0]
    stamp, rows, sums, kept = scratch.stamp, scratch.rows, scratch.sums, shared.neighbour
    weights, interest = shared.weight, scratch.interest
    places = uintp(tuning.neighbours)
    for k in range(uintp(gone_count)):
        stamp[uintp(gone[k])] = tick
    found = uintp(0)
    near = nearer = lasting = np.float32(1)
    total = np.float32(1)
    events = recent.events[slot]
    held = min(events, tuning.last)
    for back in range(held):
        at = (events - 1 - back) % (tuning.last + 1)
        item, valence = uintp(recent.item[slot, at]), recent.valence[slot, at]
        a = near * shared.damp[item]
        b = nearer * shared.damp[item]
        c = a if now - recent.time[slot, at] < tuning.session_ms else np.float32(0)
        first = uintp(shared.block[item]) * places
        for m in range(first, first + uintp(shared.filled[item])):
            other = uintp(kept[m])
            # Without a branch: what is noted twice is overwritten by the next one.
            rows[found] = other
            found += uintp(stamp[other] != tick)
            stamp[other] = tick
            _add4(sums, FOUR * other, weights, FOUR * m, a, b, a * valence, c)
        for k in range(FOUR):
            interest[uintp(shared.category[item, k])] += lasting * valence
        total += abs(lasting * valence)
        near *= tuning.decay
        nearer = nearer * tuning.decay_next if back < 5 else np.float32(0)
        lasting *= tuning.decay_category
    interest[0] = 0
    for k in range(uintp(shared.top.shape[1])):
        other = uintp(shared.top[stage, k])
        rows[found] = other
        found += uintp(stamp[other] != tick)
        stamp[other] = tick
    feature = scratch.feature
    together, following, liking, burst, taste = feature[0], feature[1], feature[2], feature[3], feature[4]
    scores, base, fixed, category = scratch.score, shared.base[stage], shared.fixed, shared.category
    share = np.float32(1) / total
    for k in range(found):
        item = uintp(rows[k])
        at = FOUR * item
        together[k] = sums[at] + tuning.prior
        following[k] = sums[at + ONE] + tuning.prior_next
        liking[k] = sums[at + TWO] * fixed[item, FOUR]
        burst[k] = sums[at + THREE] + tuning.prior_burst
        sums[at] = sums[at + ONE] = sums[at + TWO] = sums[at + THREE] = np.float32(0)
        taste[k] = share * (
            interest[uintp(category[item, uintp(0)])]
            + interest[uintp(category[item, ONE])]
            + interest[uintp(category[item, TWO])]
            + interest[uintp(category[item, THREE])]
        )
        scores[k] = base[item] if shared.live[item] else LEAST
    for k in range(uintp(gone_count)):
        at = FOUR * uintp(gone[k])
        sums[at] = sums[at + ONE] = sums[at + TWO] = sums[at + THREE] = np.float32(0)
    for back in range(held):
        at = (events - 1 - back) % (tuning.last + 1)
        for k in range(FOUR):
            interest[uintp(category[uintp(recent.item[slot, at]), k])] = np.float32(0)
    logarithms(together, found, scratch.spare)
    logarithms(following, found, scratch.spare)
    logarithms(burst, found, scratch.spare)
    mix = shared.mix[stage]
    m0, m1, m2, m3, m9 = mix[0], mix[1], mix[2], mix[3], mix[9]
    for k in range(found):
        scores[k] += m0 * together[k] + m1 * following[k] + m2 * liking[k] + m3 * burst[k] + m9 * taste[k]
    return np.int64(found)


@compiled_exactly
def best(scratch, found, slate, slate_scores, slate_at):
    """The candidates with the highest scores, best first, the lower row where scores are equal. Returns their number.

    `slate_at` gets where each one is among the candidates.
    """
    held, places, low = 0, len(slate), LEAST
    for k in range(uintp(found)):
        value = scratch.score[k]
        if value < low or value == LEAST:
            continue
        row = scratch.rows[k]
        place = min(held, places)
        while place > 0 and (
            slate_scores[place - 1] < value or (slate_scores[place - 1] == value and slate[place - 1] > row)
        ):
            if place < places:
                slate[place], slate_scores[place] = slate[place - 1], slate_scores[place - 1]
                slate_at[place] = slate_at[place - 1]
            place -= 1
        if place < places:
            slate[place], slate_scores[place], slate_at[place] = row, value, k
            held = min(held + 1, places)
        if held == places:
            low = slate_scores[places - 1]
    return held


@compiled_exactly
def feature_of(shared, scratch, k, stage, out):
    """Features of candidate k by scorer: with the stage's mix they sum up to its score."""
    fixed = shared.fixed[uintp(scratch.rows[k])]
    for scorer in range(4):
        out[scorer] = scratch.feature[scorer, k]
    out[4], out[5], out[6], out[7], out[8] = fixed[0], fixed[1], fixed[2], fixed[5 + stage], fixed[3]
    out[9] = scratch.feature[4, k]


@compiled
def gradient(shared, scratch, found, target, stage, out):
    """Gradient of log softmax(score)[target] by the mix, into `out` [scorers] float32.

    Its sums may be reordered: what is learned is what the lesson says, wherever it was computed. Returns False, and
    zeros, where the target (a row) is no candidate.
    """
    out[:] = 0
    scores, rows, chance = scratch.score, scratch.rows, scratch.spare
    bits = chance.view(np.int32)
    top, at = LEAST, np.int32(-1)
    for k in range(uintp(found)):
        top = max(top, scores[k])
    for k in range(found):
        at = max(at, np.int32(k) if rows[k] == target else np.int32(-1))
    if at < 0:
        return False
    # e^x = 2^whole 2^part: a polynomial to 1e-4 for the part, the whole added to the exponent's bits; both vectorised.
    for k in range(uintp(found)):
        power = max((scores[k] - top) * np.float32(1.44269504), np.float32(-100))
        part = power - np.float32(np.int32(power) - np.int32(1))
        chance[k] = np.float32(0.99986415) + part * (
            np.float32(0.69616939) + part * (np.float32(0.22587185) + part * np.float32(0.07782254))
        )
    for k in range(uintp(found)):
        power = max((scores[k] - top) * np.float32(1.44269504), np.float32(-100))
        bits[k] += (np.int32(power) - np.int32(1)) << np.int32(23)
    total = np.float32(0)
    for k in range(uintp(found)):
        chance[k] = chance[k] if chance[k] > VISIBLE else np.float32(0)
        total += chance[k]
    for scorer in range(5):
        feature, mean = scratch.feature[scorer], np.float32(0)
        for k in range(uintp(found)):
            mean += chance[k] * feature[k]
        out[scorer if scorer < 4 else 9] = -mean
    for k in range(uintp(found)):
        likely = chance[k]
        if likely > 0:
            fixed = shared.fixed[uintp(rows[k])]
            out[4] -= likely * fixed[0]
            out[5] -= likely * fixed[1]
            out[6] -= likely * fixed[2]
            out[7] -= likely * fixed[5 + stage]
            out[8] -= likely * fixed[3]
    feature_of(shared, scratch, at, stage, scratch.own)
    for scorer in range(len(out)):
        out[scorer] = out[scorer] / total + scratch.own[scorer]
    return True


@compiled_exactly
def note(tuning, recent, slot, item, valence, now, stage, lessons, row):
    """Write down what one event teaches, its user's last items included: a row of `lessons`, all but the gradient."""
    events = recent.events[slot]
    held = min(events, tuning.last)
    lessons.item[row], lessons.valence[row], lessons.stage[row], lessons.held[row] = item, valence, stage, held
    for back in range(held):
        at = (events - 1 - back) % (tuning.last + 1)
        lessons.before[row, back] = recent.item[slot, at]
        lessons.before_valence[row, back] = recent.valence[slot, at]
        lessons.soon[row, back] = now - recent.time[slot, at] < tuning.burst_ms


@compiled_exactly
def remember(tuning, recent, slot, item, valence, now):
    """Append an event to the user's last ones."""
    at = recent.events[slot] % (tuning.last + 1)
    recent.item[slot, at], recent.valence[slot, at], recent.time[slot, at] = item, valence, now
    recent.events[slot] += 1


@compiled_exactly
def _block(block, owner, met, taken, filled, clock, item):
    """The block of an item's neighbours; where all are taken, an item that was not met for long gives up its own."""
    at = block[item]
    if at < 0:
        blocks = len(owner)
        if taken[0] < blocks:
            at = np.int32(taken[0])
            taken[0] += 1
        else:
            # No row is in it, as in `_place`.
            look = (clock * 7919) % blocks
            at = np.int32(look)
            for _ in range(SAMPLED):
                look = look + 1 if look + 1 < blocks else 0
                if met[look] < met[at]:
                    at = np.int32(look)
            filled[owner[at]], block[owner[at]] = 0, -1
        owner[at], block[item] = item, at
    met[at] = clock
    return uintp(at)


@compiled_exactly
def _place(neighbour, weight, filled, clock, places, block, item, other):
    """Where `other`'s weights are among the neighbours of `item`; a weak neighbour makes room where there is none.

    Bounded counts as in Metwally et al. (2005), "Efficient computation of frequent and top-k elements in data streams"
    (space-saving), with two differences: the newcomer begins at half of what the weak one had, and the weak one is the
    weakest of a few.
    """
    first, held, wanted = block * places, uintp(filled[item]), np.uint32(other)
    row = neighbour[first : first + held]
    found = np.int32(-1)
    for m in range(row.shape[0]):
        found = max(found, np.int32(m) if row[m] == wanted else np.int32(-1))
    if found >= 0:
        return FOUR * (first + uintp(found))
    if held < places:
        place, begin = first + held, np.float32(0)
        filled[item] += 1
    else:
        # No row is in it: rows are numbered by each worker on its own.
        look = uintp(clock * 7919) % places
        place = first + look
        for _ in range(SAMPLED):
            look = look + ONE if look + ONE < places else uintp(0)
            if weight[FOUR * (first + look)] < weight[FOUR * place]:
                place = first + look
        begin = weight[FOUR * place] * np.float32(0.5)
    neighbour[place] = wanted
    at = FOUR * place
    weight[at] = begin
    weight[at + ONE] = weight[at + TWO] = weight[at + THREE] = np.float32(0)
    return at


@compiled_exactly
def learn(shared, tuning, lessons, row):
    """Apply one row of `lessons` to the shared state."""
    item, valence, stage = lessons.item[row], lessons.valence[row], lessons.stage[row]
    neighbour, weight, filled, clock = shared.neighbour, shared.weight, shared.filled, shared.clock[0]
    block, owner, met, taken = shared.block, shared.owner, shared.met, shared.taken
    places = uintp(tuning.neighbours)
    near = nearer = np.float32(1)
    liked = valence >= tuning.liked
    for back in range(lessons.held[row]):
        before = lessons.before[row, back]
        if before != item:
            both = lessons.before_valence[row, back] >= tuning.liked
            agreed = near if both and liked else (-near if both != liked else np.float32(0))
            soon = nearer if lessons.soon[row, back] else np.float32(0)
            # Arrays one by one: a call with all of `shared` costs more than what it does.
            own = _block(block, owner, met, taken, filled, clock, before)
            at = _place(neighbour, weight, filled, clock, places, own, before, item)
            weight[at] += near
            weight[at + ONE] += nearer
            weight[at + TWO] += agreed
            weight[at + THREE] += soon
            own = _block(block, owner, met, taken, filled, clock, item)
            at = _place(neighbour, weight, filled, clock, places, own, item, before)
            weight[at] += near
            weight[at + TWO] += agreed
            weight[at + THREE] += soon
        near *= tuning.decay
        nearer *= tuning.decay_next
    shared.counts[item] += 1
    shared.likes[item] += np.float32(liked)
    if shared.counts[item] >= tuning.most:
        # Old company fades as new company comes: an item's counts halve when they are many.
        shared.counts[item] *= np.float32(0.5)
        shared.likes[item] *= np.float32(0.5)
        first = 4 * block[item] * tuning.neighbours
        weight[first : first + 4 * filled[item]] *= np.float32(0.5)
    for speed in range(2):
        shared.gain[speed] *= tuning.growth[speed]
        shared.popular[item, speed] += shared.gain[speed]
        if shared.gain[speed] > GAIN_LIMIT:
            shared.popular[:, speed] /= shared.gain[speed]
            shared.gain[speed] = 1
    shared.gain[2 + stage] *= tuning.growth[2]
    shared.popular_at[stage, item] += shared.gain[2 + stage]
    if shared.gain[2 + stage] > GAIN_LIMIT:
        shared.popular_at[stage] /= shared.gain[2 + stage]
        shared.gain[2 + stage] = 1
    if lessons.taught[row]:
        for scorer in range(lessons.gradient.shape[1]):
            slope = lessons.gradient[row, scorer]
            shared.slopes[stage, scorer] += slope * slope
            shared.mix[stage, scorer] += tuning.rate * slope / math.sqrt(shared.slopes[stage, scorer])
    _derive(shared, tuning, item)
    shared.fixed[item, 5 + stage] = math.log(shared.popular_at[stage, item] / shared.gain[2 + stage] + 0.1)
    _mix_fixed(shared, item)
    _rise(shared, item)
    shared.clock[0] += 1
    if shared.clock[0] % tuning.refresh == 0:
        refresh(shared, tuning)


@compiled_exactly
def apply(shared, tuning, lessons, count):
    """Apply the first `count` rows in their order."""
    for row in range(count):
        learn(shared, tuning, lessons, row)


@compiled_exactly
def replay(
    shared, tuning, recent, scratch, lessons, stream, told, kept, bounds, earlier, last, rank, stage_at, slates, begin, end
):  # fmt: skip
    """Test, then learn, events begin to end: rank for each event's user what the user has not had, then learn from it.

    Whose part comes before must have been replayed. earlier [events] and last [users], -1 at first, chain each user's
    events.

    told [events]: whether an event is learned from; kept [items]: whether an item's neighbours are kept.

    Fills rank [events] with how many candidates stand before the item that came (-1 where the event is no target, or
    the item was had before; the number of items where it is no candidate), stage_at [events] with the user's events so
    far, slates [events, places] with the rows ranked best, -1 where there are fewer.
    """
    items = len(shared.counts)
    gone = np.empty(len(stream.item), np.int32)
    slate_scores, slate_at = np.empty(slates.shape[1], np.float32), np.empty(slates.shape[1], np.int32)
    for e in range(begin, end):
        slot, item, now, valence = stream.user[e], stream.item[e], stream.time[e], stream.valence[e]
        stage = stage_of(recent.events[slot], bounds)
        stage_at[e] = recent.events[slot]
        had, known, back = False, 0, last[slot]
        while back >= 0:
            gone[known] = stream.item[back]
            had |= gone[known] == item
            known += 1
            back = earlier[back]
        found = score(shared, tuning, recent, slot, now, gone, known, stage, scratch)
        best(scratch, found, slates[e], slate_scores, slate_at)
        note(tuning, recent, slot, item, valence, now, stage, lessons, 0)
        lessons.taught[0] = False
        if stream.target[e] and not had:
            rank[e] = items
            if shared.live[item] and gradient(shared, scratch, found, item, stage, lessons.gradient[0]):
                lessons.taught[0] = True
                at = 0
                for k in range(uintp(found)):
                    at = max(at, np.int64(k) if scratch.rows[k] == item else 0)
                own, before = scratch.score[at], 0
                for k in range(uintp(found)):
                    before += np.int64(scratch.score[k] > own)
                    before += np.int64((scratch.score[k] == own) & (scratch.rows[k] < item))
                rank[e] = before
        if told[e]:
            learn(shared, tuning, lessons, 0)
            if not kept[item]:
                shared.filled[item] = 0
            for back in range(lessons.held[0]):
                before = lessons.before[0, back]
                if not kept[before]:
                    shared.filled[before] = 0
        remember(tuning, recent, slot, item, valence, now)
        earlier[e] = last[slot]
        last[slot] = e


@compiled_exactly
def teach(shared, tuning, recent, slot, item, valence, now, gone, bounds, scratch, lessons, row):
    """Write down what one event teaches, the gradient included where it is a like of a candidate not had before."""
    stage = stage_of(recent.events[slot], bounds)
    note(tuning, recent, slot, item, valence, now, stage, lessons, row)
    taught = valence >= tuning.liked and shared.live[item]
    for k in range(len(gone)):
        taught &= gone[k] != item
    if taught:
        found = score(shared, tuning, recent, slot, now, gone, len(gone), stage, scratch)
        taught = gradient(shared, scratch, found, item, stage, lessons.gradient[row])
    lessons.taught[row] = taught


@compiled_exactly
def gather(neighbour, weight, filled, places, into, weight_into):
    """Copy the places of neighbours that are filled [blocks], one block's after the other's: [n] and [4 n]."""
    at = uintp(0)
    for block in range(uintp(len(filled))):
        first, count = block * uintp(places), uintp(filled[block])
        for m in range(count):
            into[at + m] = neighbour[first + m]
        for m in range(FOUR * count):
            weight_into[FOUR * at + m] = weight[FOUR * first + m]
        at += count


@compiled_exactly
def spread(neighbour, weight, filled, rows, places, into, weight_into):
    """Undo `gather` for items that are other rows here: item a is rows[a]."""
    at = uintp(0)
    for block in range(uintp(len(filled))):
        first, count = block * uintp(places), uintp(filled[block])
        for m in range(count):
            into[first + m] = rows[uintp(neighbour[at + m])]
        for m in range(FOUR * count):
            weight_into[FOUR * first + m] = weight[FOUR * at + m]
        at += count


@compiled_exactly
def _better(value, row, other, other_row, ties):
    return value > other or (value == other and ties[row] < ties[other_row])


@compiled_exactly
def _sink(value, row, at, held, ties, rows, scores, places):
    """Put a candidate into the root of a heap whose root is the worst, and let it sink to where it belongs."""
    spot = 0
    while True:
        below = 2 * spot + 1
        if below >= held:
            break
        if below + 1 < held and _better(scores[below], rows[below], scores[below + 1], rows[below + 1], ties):
            below += 1
        if not _better(value, row, scores[below], rows[below], ties):
            break
        rows[spot], scores[spot], places[spot] = rows[below], scores[below], places[below]
        spot = below
    rows[spot], scores[spot], places[spot] = row, value, at


@compiled_exactly
def _offer(value, row, at, held, ties, rows, scores, places):
    """Add a candidate to the heap of the best so far, where it is full in the worst one's place. Returns their number."""
    if held == len(rows):
        if _better(value, row, scores[0], rows[0], ties):
            _sink(value, row, at, held, ties, rows, scores, places)
        return held
    spot = held
    while spot:
        above = (spot - 1) // 2
        if not _better(scores[above], rows[above], value, row, ties):
            break
        rows[spot], scores[spot], places[spot] = rows[above], scores[above], places[above]
        spot = above
    rows[spot], scores[spot], places[spot] = row, value, at
    return held + 1


@compiled_exactly
def _best_first(held, ties, rows, scores, places):
    """Sort a heap."""
    while held > 1:
        held -= 1
        row, value, at = rows[held], scores[held], places[held]
        rows[held], scores[held], places[held] = rows[0], scores[0], places[0]
        _sink(value, row, at, held, ties, rows, scores, places)


@compiled_exactly
def _choose(shared, scratch, found, stage, nothing, fresh, lift, ties, rows, scores, places):
    """The best of the scored candidates; then the best of these and of the `fresh` items that are none, each with its lift.

    Returns their number; places: which candidate each is, fresh ones counted backwards from -1.
    """
    count, most, low = 0, len(rows), LEAST
    for k in range(uintp(found)):
        value = scratch.score[k]
        if value > LEAST and value >= low:
            count = _offer(value, np.int64(scratch.rows[k]), np.int32(k), count, ties, rows, scores, places)
            if count == most:
                low = scores[0]
    if len(fresh):
        short, short_scores, short_places = rows[:count].copy(), scores[:count].copy(), places[:count].copy()
        held, count = count, 0
        for k in range(held):
            value, at = short_scores[k], scratch.fresh_at[short[k]]
            if at >= 0:
                value += lift[at]
            count = _offer(value, short[k], short_places[k], count, ties, rows, scores, places)
        mix, base = shared.mix[stage], shared.base[stage]
        unknown = mix[0] * nothing[0] + mix[1] * nothing[1] + mix[2] * nothing[2] + mix[3] * nothing[3]
        low = scores[0] if count == most else LEAST
        for f in range(len(fresh)):
            row = fresh[f]
            value = base[row] + unknown + lift[f]
            if value >= low and scratch.stamp[row] != scratch.tick[0]:
                count = _offer(value, row, np.int32(-1 - f), count, ties, rows, scores, places)
                if count == most:
                    low = scores[0]
    _best_first(count, ties, rows, scores, places)
    return count


@compiled_exactly
def _raise(shared, scratch, found, stage, nothing, raised, lift):
    """Add to scores what is known of the user beside events: `lift` [r] of the rows `raised` [r].

    Those that are no candidates yet become some, in nobody's company, where the user has not had them. Returns the number of
    candidates; `scratch.place` says where each row is among the raised ones.
    """
    place, rows, feature, mix = scratch.place, scratch.rows, scratch.feature, shared.mix[stage]
    unknown = mix[0] * nothing[0] + mix[1] * nothing[1] + mix[2] * nothing[2] + mix[3] * nothing[3]
    for r in range(len(raised)):
        row = raised[r]
        place[row] = r
        if scratch.stamp[row] != scratch.tick[0]:
            scratch.stamp[row] = scratch.tick[0]
            rows[found] = row
            for scorer in range(4):
                feature[scorer, found] = nothing[scorer]
            feature[4, found] = nothing[9]
            scratch.score[found] = shared.base[stage, row] + unknown if shared.live[row] else LEAST
            found += 1
    for k in range(uintp(found)):
        r = place[rows[k]]
        if r >= 0:
            scratch.score[k] += lift[r]
    return found


@compiled_exactly
def rank(
    shared, tuning, recent, slots, times, gone, gone_from, bounds, scratch, nothing, fresh, lift, raised, raised_by,
    raised_from, ties, rows, scores, contributions, held,
):  # fmt: skip
    """The best candidates of u users.

    slots, times [u]; gone: rows that are no candidates, those of user n from gone_from[n] to gone_from[n + 1]; nothing
    [scorers]: features of an item that nothing is known of; fresh [f] rows and lift [u, f]: what is added to their
    scores; raised: rows that user n has something added to, raised_by, from raised_from[n] to raised_from[n + 1];
    ties [items]: of equal ones the smaller number comes first.

    Fills rows and scores [u, k], contributions [u, k, scorers + 2] (of `fresh` and of `raised` last) and held [u], how many
    of the k there are.
    """
    scorers, places = len(nothing), np.empty(rows.shape[1], np.int32)
    for f in range(len(fresh)):
        scratch.fresh_at[fresh[f]] = f
    for n in range(len(slots)):
        slot, own = slots[n], gone[gone_from[n] : gone_from[n + 1]]
        stage = stage_of(recent.events[slot], bounds)
        found = score(shared, tuning, recent, slot, times[n], own, len(own), stage, scratch)
        first, end = raised_from[n], raised_from[n + 1]
        if end > first:
            found = _raise(shared, scratch, found, stage, nothing, raised[first:end], raised_by[first:end])
        count = _choose(shared, scratch, found, stage, nothing, fresh, lift[n], ties, rows[n], scores[n], places)
        held[n] = count
        mix = shared.mix[stage]
        for k in range(count):
            row, at, added = rows[n, k], places[k], contributions[n, k]
            if at >= 0:
                feature_of(shared, scratch, at, stage, scratch.own)
            else:
                scratch.own[:] = nothing
                fixed = shared.fixed[row]
                scratch.own[4], scratch.own[5], scratch.own[6] = fixed[0], fixed[1], fixed[2]
                scratch.own[7], scratch.own[8] = fixed[5 + stage], fixed[3]
            for scorer in range(scorers):
                added[scorer] = mix[scorer] * (scratch.own[scorer] - nothing[scorer])
            added[scorers] = lift[n, scratch.fresh_at[row]] if scratch.fresh_at[row] >= 0 else np.float32(0)
            added[scorers + 1] = np.float32(0)
            if end > first and scratch.place[row] >= 0:
                added[scorers + 1] = raised_by[first + scratch.place[row]]
        for r in range(first, end):
            scratch.place[raised[r]] = -1
    for f in range(len(fresh)):
        scratch.fresh_at[fresh[f]] = -1


@compiled_exactly
def _without(shared, tuning, mix, part, k, held, skip, item):
    """What the user's last events add to the score of an item of a slate, but for event `skip` of `held` (-1: none):
    without it the one before the last ones comes into sight."""
    near = nearer = lasting = np.float32(1)
    together = following = liking = burst = taste = np.float32(0)
    total = np.float32(1)
    step = 0
    for back in range(held):
        if back == skip or step == tuning.last:
            continue
        own = part[k, back]
        together += near * own[0]
        following += nearer * own[1]
        liking += near * own[2]
        burst += near * own[3]
        taste += lasting * own[4]
        total += lasting * own[5]
        near *= tuning.decay
        nearer = nearer * tuning.decay_next if step < 5 else np.float32(0)
        lasting *= tuning.decay_category
        step += 1
    return (
        mix[0] * math.log(together + tuning.prior)
        + mix[1] * math.log(following + tuning.prior_next)
        + mix[2] * liking * shared.fixed[item, 4]
        + mix[3] * math.log(burst + tuning.prior_burst)
        + mix[9] * taste / total
    )


@compiled_exactly
def evidence(shared, tuning, recent, slot, now, bounds, slate, scratch, part, found):
    """For each item of a slate the one of the user's last events without which its score would be lowest.

    part [items, last + 1, 6] is room for what each event adds, newest first, before it fades with distance. found [items]
    gets how many events back it is, 0 the newest; -1 where the score would be as high without any of them.
    """
    part[:] = 0
    place = scratch.place
    for k in range(len(slate)):
        place[slate[k]] = k
    events = recent.events[slot]
    held = min(events, tuning.last + 1)
    for back in range(held):
        at = (events - 1 - back) % (tuning.last + 1)
        item, valence = recent.item[slot, at], recent.valence[slot, at]
        damp = shared.damp[item]
        recently = now - recent.time[slot, at] < tuning.session_ms
        first = shared.block[item] * tuning.neighbours
        for m in range(first, first + shared.filled[item]):
            k = place[shared.neighbour[m]]
            if k >= 0:
                own = part[k, back]
                own[0] += damp * shared.weight[4 * m]
                own[1] += damp * shared.weight[4 * m + 1]
                own[2] += damp * valence * shared.weight[4 * m + 2]
                own[3] += damp * shared.weight[4 * m + 3] if recently else np.float32(0)
        for k in range(len(slate)):
            alike = 0
            for mine in shared.category[slate[k]]:
                for other in shared.category[item]:
                    alike += np.int64(mine != 0 and mine == other)
            part[k, back, 4] = alike * valence
            part[k, back, 5] = abs(valence)
    mix = shared.mix[stage_of(events, bounds)]
    for k in range(len(slate)):
        place[slate[k]] = -1
        found[k] = -1
        lowest = _without(shared, tuning, mix, part, k, held, -1, slate[k]) - CERTAIN
        for back in range(min(events, tuning.last)):
            # Nobody likes a thing because of another one that they did not like, or that nothing came of.
            if part[k, back, 0] > 0 and recent.valence[slot, (events - 1 - back) % (tuning.last + 1)] > 0:
                value = _without(shared, tuning, mix, part, k, held, back, slate[k])
                if value < lowest:
                    lowest, found[k] = value, back
