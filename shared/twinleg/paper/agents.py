"""Agent keys: who may sign trades for an account, until when, and what becomes of a key that may no longer.

One unnamed key, three named ones and two more per sub-account. Approving a name again replaces its key; approving the
zero address removes it, after which nothing can be approved for some seconds. A key that was replaced or removed is
pruned: it signs for nobody any more. Source: Hyperliquid docs, nonces and API wallets; measured on testnet where the
switches say so.
"""

from __future__ import annotations

import re
from typing import Any

from twinleg.paper.accounts import Account, Agent
from twinleg.paper.market import DAY_MS
from twinleg.paper.refusals import Refused
from twinleg.paper.signatures import ZERO_ADDRESS
from twinleg.paper.state import State
from twinleg.paper.transfers import lower

DEFAULT_MS = 90 * DAY_MS
LONGEST_MS = 180 * DAY_MS
NAMED = 3
PER_SUB_ACCOUNT = 2
NAME_MAX = 16
_VALID_UNTIL = re.compile(r"(.*?) valid_until (\d+)")


def signs(state: State, agent: Agent) -> bool:
    """Whether the key is still accepted (its expiry may be enforced late)."""
    return state.now_ms <= agent.valid_until_ms + state.switches.agent_expiry_lateness_ms


def of(state: State, master: str) -> list[Agent]:
    """The keys that sign for an account, oldest first."""
    return [agent for agent in state.agents.values() if agent.master == master and signs(state, agent)]


def approve(state: State, account: Account, action: dict[str, Any]) -> None:
    """Carry out ``approveAgent``."""
    address, raw = lower(action["agentAddress"]), action.get("agentName") or ""
    matched = _VALID_UNTIL.fullmatch(raw)
    name, until = (matched[1], int(matched[2])) if matched else (raw, state.now_ms + DEFAULT_MS)
    if raw and not 1 <= len(name) <= NAME_MAX:
        raise Refused("Extra agent name must be between 1 and 16 characters long")
    if not state.now_ms < until <= state.now_ms + LONGEST_MS:
        raise Refused("Agent valid_until already expired.")
    if state.now_ms < account.agent_removal_until_ms:
        raise Refused("User has pending agent removal")
    for agent in [a for a in state.agents.values() if a.master == account.address and not signs(state, a)]:
        _retire(state, agent)
    replaced = [agent for agent in of(state, account.address) if agent.name == name]
    if address != ZERO_ADDRESS:
        _check_free(state, address)
        _check_count(state, account, name, replaced)
    for agent in replaced:
        _retire(state, agent)
    if replaced and (address == ZERO_ADDRESS or state.switches.agent_replacement_pends):
        account.agent_removal_until_ms = state.now_ms + state.switches.agent_removal_ms
    if address != ZERO_ADDRESS:
        if state.retired_agents.pop(address, None) is not None:
            state.nonces.pop(address, None)
        state.agents[address] = Agent(address, account.address, name, until)


def _check_free(state: State, address: str) -> None:
    """An address signs for one account only, is approved once, and never again once it was pruned (but by a switch)."""
    spent = address in state.retired_agents and state.switches.agent_address_reuse == "refuse"
    if address in state.agents or spent or address in state.accounts:
        raise Refused("Extra agent already used.")


def _check_count(state: State, account: Account, name: str, replaced: list[Agent]) -> None:
    named = sum(1 for agent in of(state, account.address) if agent.name)
    limit = NAMED + PER_SUB_ACCOUNT * len(account.sub_accounts)
    if name and not replaced and named >= limit:
        raise Refused(f"Too many extra agents for cumulative volume traded. Current limit is {limit}")


def _retire(state: State, agent: Agent) -> None:
    del state.agents[agent.address]
    state.retired_agents[agent.address] = agent.master
    state.retired_ms[agent.address] = state.now_ms


def refusal(state: State, signer: str) -> str:
    """What a key hears that may sign for nobody."""
    recent = state.now_ms < state.retired_ms.get(signer, 0) + state.switches.agent_removal_ms
    if recent and signer in state.retired_agents and state.switches.pruned_agent_answer == "must_deposit":
        return f"Must deposit before performing actions. User: {state.retired_agents[signer]}"
    return f"User or API Wallet {signer} does not exist."
