"""Builds parts of a supernode from its settings."""

import random
from collections.abc import Callable

from pantala_protocol.geometry import RULES
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.disk import MakeRoom
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.policies import SourcePolicies
from pantala_supernode.outbound.request import Limits, Timeouts
from pantala_supernode.outbound.trust import Trust
from pantala_supernode.settings import Settings
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.tenancy import ReadBudget
from pantala_supernode.volume.eviction import Housekeeping


def outbound(settings: Settings, policies: SourcePolicies) -> OutboundClient:
    return OutboundClient(
        egress=EgressPolicy(settings.deny_source, policies=policies),
        trust=Trust(settings.origin_ca, policies),
        proxy=settings.proxy,
        timeouts=Timeouts(first_byte=settings.origin_first_byte),
        limits=Limits(head=settings.origin_head_size),
    )


def managers(settings: Settings, chance: random.Random) -> Managers:
    """The managers of a supernode, without peers and tasks."""
    peers, progress = PeerManager(), ProgressManager(settings.node or None)
    policy = SchedulingPolicy(bandwidth=settings.uplink)
    scheduler = SchedulerManager(progress, policy=policy, chance=chance, lookup=peers.get)
    tasks = TaskManager(grace=settings.grace, keep=settings.cache_seconds > settings.grace)
    return Managers(tasks, DfgetTaskManager(), peers, progress, scheduler)


def housekeeping(settings: Settings) -> Housekeeping:
    kept_for = max(settings.grace, settings.cache_seconds)
    return Housekeeping(settings.grace, kept_for, high=settings.disk_high, low=settings.disk_low)


def tools(
    settings: Settings, chance: random.Random, make_room: MakeRoom, budget: Callable[[TaskID], ReadBudget]
) -> FetchTools:
    return FetchTools(
        piece_sizes=RULES[settings.piece_size_rule],
        rng=chance,
        make_room=make_room,
        budget=budget,
        fresh_for=settings.fresh_seconds,
        connections=settings.origin_connections,
    )
