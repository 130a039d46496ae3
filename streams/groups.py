"""Consumer groups as the brokers know them: which there are, and who is in them."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import BrokerError
from streams.kafka import METADATA_POLL_S, METADATA_TIMEOUT_S

__all__ = ["groups_there", "members_of", "settled_members"]

ASK_S = 2.0
SETTLED = ("STABLE", "EMPTY", "DEAD")


def groups_there(client: AdminClient) -> set[str]:
    """Return the consumer groups that the brokers know.

    To be asked before a group is: of one that there is not a new broker says nothing for a minute,
    and librdkafka 2.16 aborts the process when the client is closed meanwhile.

    Raises
    ------
    BrokerError
        The brokers do not answer.
    """
    asked = client.list_consumer_groups(request_timeout=METADATA_TIMEOUT_S)
    try:
        listed = asked.result()
    except KafkaException as exc:
        raise BrokerError(f"the brokers do not list their groups: {exc.args[0].str()}") from exc
    return {group.group_id for group in listed.valid or ()}


def members_of(client: AdminClient, groups: set[str]) -> dict[str, tuple[int, int]]:
    """Return of each group that stands still its members and how many partitions they hold."""
    found = {}
    asked = client.describe_consumer_groups(sorted(groups), request_timeout=ASK_S) if groups else {}
    for group, answer in asked.items():
        try:
            described = answer.result(2 * ASK_S)
        except (KafkaException, TimeoutError):
            continue  # a broker that was just made has no coordinator of groups yet
        if described.state.name != "STABLE":
            continue
        held = [len(member.assignment.topic_partitions) for member in described.members]
        found[group] = (len(held), sum(held))
    return found


def settled_members(client: AdminClient, groups: set[str], timeout_s: float) -> dict[str, int]:
    """Return the members of groups once none of them is about to change; of none that there is, 0.

    Raises
    ------
    BrokerError
        A group goes on changing, or the brokers do not answer.
    """
    deadline_s = time.monotonic() + timeout_s
    found = dict.fromkeys(groups, 0)
    waiting = set(groups)
    while waiting:
        asked = client.describe_consumer_groups(sorted(waiting), request_timeout=ASK_S)
        for group, answer in asked.items():
            try:
                described = answer.result(2 * ASK_S)
            except KafkaException as exc:
                if exc.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    waiting.discard(group)
                continue
            except TimeoutError:
                continue
            if described.state.name in SETTLED:
                found[group] = len(described.members)
                waiting.discard(group)
        if waiting and time.monotonic() > deadline_s:
            msg = (
                f"the workers of {min(waiting)} can't be seen, or come and go: is the stack up "
                "(`sessiontape status`)?"
            )
            raise BrokerError(msg)
        if waiting:
            time.sleep(METADATA_POLL_S)
    return found
