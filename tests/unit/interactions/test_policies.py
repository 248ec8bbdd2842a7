"""Who is ranked how: by the experiment's variant, the same one at every time and in any company."""

from __future__ import annotations

import numpy as np

from upwell.interactions.groupings import Groupings
from upwell.interactions.policies import Policies
from upwell.ranking.catalogue import Catalogue
from upwell.settings import Settings

USERS = [f"user {n}" for n in range(4_000)]


def policies(name: str = "first", **shares: float) -> Policies:
    """Each variant has a slate as long as its name."""
    variants = [
        {"name": variant, "share": share, "settings": {"ranking.slate": len(variant)}}
        for variant, share in shares.items()
    ]
    catalogue = Catalogue()
    settings = Settings.model_validate({"experiment": {"name": name, "variants": variants}} if shares else {})
    return Policies(settings, catalogue, Groupings(catalogue, calibrated=False))


def variants(found: Policies, users: list[str]) -> list[str]:
    held = dict.fromkeys(range(len(users)), "nobody")
    for policy, at in found.split(users):
        assert list(at) == sorted(at)
        held |= dict.fromkeys(at, policy.variant)
    return list(held.values())


def test_without_an_experiment_everybody_is_ranked_alike() -> None:
    ((policy, at),) = policies().split(USERS[:3])
    assert (policy.variant, policy.ranking.slate, list(at)) == ("", 10, [0, 1, 2])


def test_users_are_shared_out_as_stated_and_each_has_the_settings_of_the_variant() -> None:
    found = policies(control=0.5, new=0.3)
    counts = {policy.variant: len(at) / len(USERS) for policy, at in found.split(USERS)}
    assert np.allclose([counts[name] for name in ("control", "new", "")], [0.5, 0.3, 0.2], atol=0.03)
    assert {policy.variant: policy.ranking.slate for policy, _ in found.split(USERS)} == {
        "control": 7,
        "new": 3,
        "": 10,
    }
    assert "nobody" not in variants(found, USERS)


def test_a_user_stays_in_a_variant_whoever_else_is_in_the_batch_and_another_experiment_shares_out_anew() -> None:
    before = variants(policies(control=0.5, new=0.5), USERS)
    again = policies(control=0.5, new=0.5)
    assert [variants(again, [user])[0] for user in USERS[:200]] == before[:200]
    other = variants(policies("second", control=0.5, new=0.5), USERS)
    same = np.mean([one == another for one, another in zip(before, other, strict=True)])
    assert 0.45 < same < 0.55
