"""Questions about what nobody here has: staking, vaults, multi-signature, referrals. Answered as for such a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinleg.paper.accounts import Account
from twinleg.paper.numbers import usd

Json = Any

ABSENT: dict[str, Callable[[], Json]] = {
    "delegations": list,
    "delegatorHistory": list,
    "delegatorRewards": list,
    "delegatorSummary": lambda: {
        "delegated": "0.0",
        "undelegated": "0.0",
        "totalPendingWithdrawal": "0.0",
        "nPendingWithdrawals": 0,
    },
    "userVaultEquities": list,
    "leadingVaults": list,
    "userToMultiSigSigners": lambda: None,
    "isVip": lambda: None,
    "legalCheck": lambda: {"ipAllowed": True, "acceptedTerms": True, "userAllowed": True},
}
"""By type; each takes a ``user``."""


def referral(account: Account) -> Json:
    """Nobody referred anybody. Source of the shape: public client libraries."""
    return {
        "referredBy": None,
        "cumVlm": usd(account.volume),
        "unclaimedRewards": "0.0",
        "claimedRewards": "0.0",
        "builderRewards": "0.0",
        "referrerState": {"stage": "needToTrade", "data": {"required": "10000.0"}},
        "rewardHistory": [],
        "tokenToState": [],
    }
