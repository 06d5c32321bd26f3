"""The tables of functions and topics say the same in the code and in Terraform."""

import re
from pathlib import Path
from typing import Any

import pytest

from twinleg.domain.messages import Topic
from twinleg.embedded.topology import DEAD_TOPICS, FUNCTIONS, PUSHED, SCHEDULED, TOPICS

MAIN = (Path(__file__).resolve().parents[2] / "infra" / "terraform" / "main.tf").read_text()


def table(name: str) -> str:
    found = re.search(rf"^  {name} = \{{\n(.*?)^  \}}", MAIN, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    return re.sub(r"^\s*#.*\n", "", found[1], flags=re.MULTILINE)


def values(row: str) -> dict[str, Any]:
    """The attributes of one row of HCL: texts, numbers, true and false, null, and lists of texts."""
    found: dict[str, Any] = {}
    for name, text in re.findall(r'(\w+)\s*=\s*("[^"]*"|\[[^\]]*\]|[\w.]+)', row):
        if text.startswith("["):
            found[name] = tuple(re.findall(r'"([^"]*)"', text))
        elif text.startswith('"'):
            found[name] = text.strip('"')
        else:
            found[name] = {"null": None, "true": True, "false": False}.get(text, text)
    return found


FUNCTION_ROWS = {
    name: values(row)
    for name, row in re.findall(r"^    (\w+) = \{\n(.*?)^    \}", table("functions"), re.DOTALL | re.MULTILINE)
}
TOPIC_ROWS = {name: values(row) for name, row in re.findall(r"^    (\w+)\s*= \{(.*?)\}", table("topics"), re.MULTILINE)}


def test_both_have_the_same_rows() -> None:
    assert set(FUNCTION_ROWS) == set(FUNCTIONS)
    assert set(TOPIC_ROWS) == set(TOPICS) == {topic.value for topic in Topic}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_called_as_in_the_cloud(name: str) -> None:
    here, there = FUNCTIONS[name], FUNCTION_ROWS[name]
    assert there["trigger"] == here.trigger
    assert int(there["timeout_seconds"]) == here.timeout_seconds
    assert int(there["concurrency"]) == here.concurrency
    assert there["topics"] == here.topics
    assert sorted(there["publishes"]) == sorted(here.publishes)
    assert (there["ack_seconds"] and int(there["ack_seconds"])) == here.ack_seconds
    assert (there["trigger"] == "schedule") == (name in SCHEDULED)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_delivered_as_in_the_cloud(topic: str) -> None:
    here, there = TOPICS[topic], TOPIC_ROWS[topic]
    assert there["ordered"] == here.ordered
    assert int(there["attempts"]) == here.attempts
    assert (there["backoff_min"], there["backoff_max"]) == tuple(f"{seconds}s" for seconds in here.backoff_seconds)


def test_every_topic_has_its_dead_letters_and_what_cannot_be_read_has_some_too() -> None:
    assert 'for topic in concat(keys(local.topics), ["unknown"]) : "${topic}-dead"' in MAIN
    assert set(DEAD_TOPICS) == {f"{topic}-dead" for topic in (*TOPICS, "unknown")}


def test_each_topic_is_pushed_to_one_function() -> None:
    assert len(PUSHED) == sum(len(row.topics) for row in FUNCTIONS.values())
    assert (
        '"${each.value}-${each.key}"' in (Path(__file__).resolve().parents[2] / "infra/terraform/pubsub.tf").read_text()
    )
