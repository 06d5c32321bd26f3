"""What each answer of a test network means for us."""

from __future__ import annotations

MEANINGS: dict[str, dict[str | bool, str]] = {
    "rejected_action_spends_nonce": {
        True: "after a refused copy, 'duplicate' need not mean that another copy ran; the order path reckons with it",
        False: "a refused action leaves its nonce free: a noop then settles for good that no copy ran",
    },
    "refused_order_spends_nonce": {
        True: "an order refused for margin is an action that ran: 'duplicate' means look, and its status says rejected",
        False: "an order refused for margin leaves its nonce free, so that a noop fences it as one that never ran",
    },
    "expired_action_spends_nonce": {
        True: "a copy that comes too late spends the nonce and hides what ran: nothing is sent again near its expiry",
        False: "a late copy of what ran is answered 'expired' too: that answer proves nothing of an earlier copy",
    },
    "noop_on_spent_nonce": {
        "duplicate": "the fence works: a noop that is refused as a duplicate proves that the action arrived",
    },
    "duplicate_open_cloid": {
        "reject": "the venue itself refuses a second order under an id that rests; once it filled, only nonces protect",
        "accept": "a client order id protects from nothing: only nonces do, on which the order path relies",
    },
    "reduce_only_trigger_needs_position": {
        True: "a stop cannot be placed before its position; ours go with the entry or after it",
        False: "a stop could rest before its position; nothing of ours needs it",
    },
    "modify_keeps_old_when_rejected": {
        True: "nothing of ours modifies orders: we cancel and place",
        False: "a refused modify loses the order; nothing of ours modifies orders",
    },
    "modify_always_place_rule": {
        True: "a modified order becomes post-only; nothing of ours modifies orders",
        False: "a modified order stays what it was; nothing of ours modifies orders",
    },
    "market_order_cap": {
        "15M": "far above any size the gate approves",
        "30M": "far above any size the gate approves",
    },
    "price_band_reference": {
        "oracle": "prices are bounded from the oracle; ours lie within 10 % of the mark",
        "mark": "prices are bounded from the mark; ours lie within 10 % of it",
    },
    "partial_gtc_answer": {
        "resting": "a limit entry answered 'resting' may have filled in part; sizes come from fills alone",
        "filled": "a limit entry answered 'filled' may still rest; it counts as over only when nothing of it rests",
    },
    "order_status_size": {
        "fresh": "order status shows what is left; sizes come from fills alone",
        "stale": "order status shows an old size; sizes come from fills alone",
    },
    "partial_ioc_status": {
        "canceled": "an order that filled in part ends as canceled; sizes come from fills alone",
        "filled": "an order that filled in part ends as filled; sizes come from fills alone",
    },
    "woken_children_answer": {
        "waitingForTrigger": "stop and target say that they wait; either answer counts as placed and is read back",
        "waitingForFill": "stop and target say that they sleep although their entry filled; they are read back anyway",
    },
    "children_wake_on_partial": {
        True: "a partly filled entry keeps its stop; another that follows the position is placed all the same",
        False: "a partly filled entry has no stop of its own: one that follows the position is placed at once",
    },
    "position_tpsl_size_shown": {
        "position": "a stop that follows the position shows its size",
        "zero": "a stop that follows the position shows no size; it counts as for the whole of it",
    },
    "triggers_canceled_when_flat": {
        True: "a closed leg leaves no stop behind",
        False: "a closed leg leaves its stop resting; it is cancelled before the trade is closed",
    },
    "plain_gtc_close_below_minimum": {
        True: "a rest under the minimum could be closed by any order; ours are reduce-only",
        False: "a rest under the minimum can be closed by reduce-only orders alone, which ours are",
    },
    "cross_margin_follows_leverage": {
        True: "an open cross position is margined anew when its leverage is set; ours are isolated and set before",
        False: "an open cross position keeps its margin when its leverage is set; ours are isolated and set before",
    },
    "new_order_margin_price": {
        "fill": "the gate asks for margin at the limit price, which is more than the venue does",
        "limit": "the gate asks for margin at the limit price, as the venue does",
    },
    "funding_rounding": {},
    "nonce_window_margin_ms": {},
}


def meaning_of(switch: str, position: object) -> str:
    """What a position means for us; of one that nobody foresaw, what to do about it."""
    if position is None:
        return ""
    if switch == "nonce_window_margin_ms":
        return "stored bytes expire after seconds: the window of nonces, two days, is never near"
    said = MEANINGS.get(switch, {}).get(position if isinstance(position, (str, bool)) else str(position))
    return said or "nobody foresaw this answer: add it to the table of answers before going live"
