"""Statements that name each node once. Tasks and images refer to nodes by number. Pure.

With names, the statement for 10,000 Tasks on 1,000 nodes would have 150 MB.
"""

from collections.abc import Iterable, Mapping

import msgspec

from pantala_protocol import ranges
from pantala_protocol.images import OrderGroup, PullOrder, WantedImage
from pantala_protocol.nodes.sets import NodeTable
from pantala_protocol.statement import Statement, WantedTask


def numbered(statement: Statement) -> Statement:
    """The same statement with numbers instead of names. It contains each set of nodes once."""
    distinct = {id(task.peers): task.peers for task in statement.tasks}
    sets = dict.fromkeys(peers for peers in distinct.values() if peers)
    names = {name for peers in sets for name in peers}
    names.update(node for image in statement.images for node in (*image.orders, *image.platforms))
    table = NodeTable(sorted(names))
    positions = {peers: position for position, peers in enumerate(sets)}
    by_id = {key: positions[peers] for key, peers in distinct.items() if peers}
    return msgspec.structs.replace(
        statement,
        nodes=table.names,
        node_sets=tuple(ranges.render(table.mask(frozenset(peers))) for peers in sets),
        tasks=tuple(_numbered_task(task, by_id.get(id(task.peers))) for task in statement.tasks),
        images=tuple(_numbered_image(image, table) for image in statement.images),
    )


def named(statement: Statement) -> Statement:
    """The same statement with names instead of numbers. Tasks with the same nodes share one tuple. ``nodes`` is kept.

    Raises :class:`ValueError` if a number is not valid.
    """
    table = NodeTable(statement.nodes)
    sets = [tuple(table.parse(text)) for text in statement.node_sets]
    return msgspec.structs.replace(
        statement,
        node_sets=(),
        tasks=tuple(_named_task(task, sets) for task in statement.tasks),
        images=tuple(_named_image(image, table) for image in statement.images),
    )


def _numbered_task(task: WantedTask, node_set: int | None) -> WantedTask:
    return task if node_set is None else msgspec.structs.replace(task, peers=(), node_set=node_set)


def _named_task(task: WantedTask, sets: list[tuple[str, ...]]) -> WantedTask:
    if task.node_set is None:
        return task
    if task.node_set >= len(sets):
        raise ValueError(f"The statement lacks the node set {task.node_set}, to which the Task {task.name} refers.")
    return msgspec.structs.replace(task, peers=sets[task.node_set], node_set=None)


def _numbered_image(image: WantedImage, table: NodeTable) -> WantedImage:
    orders: dict[PullOrder, list[str]] = {}
    for node, order in image.orders.items():
        orders.setdefault(order, []).append(node)
    groups = tuple(OrderGroup(order, _render(nodes, table)) for order, nodes in orders.items())
    platforms: dict[str, list[str]] = {}
    for node, platform in image.platforms.items():
        platforms.setdefault(platform, []).append(node)
    shared = {platform: _render(nodes, table) for platform, nodes in platforms.items()}
    return msgspec.structs.replace(image, orders={}, platforms={}, order_groups=groups, platform_nodes=shared)


def _named_image(image: WantedImage, table: NodeTable) -> WantedImage:
    if not image.order_groups and not image.platform_nodes:
        return image
    orders = {node: group.order for group in image.order_groups for node in table.parse(group.nodes)}
    platforms = _by_node(image.platform_nodes, table)
    return msgspec.structs.replace(
        image,
        orders=image.orders | orders,
        platforms=image.platforms | platforms,
        order_groups=(),
        platform_nodes={},
    )


def _by_node(shared: Mapping[str, str], table: NodeTable) -> dict[str, str]:
    return {node: value for value, nodes in shared.items() for node in table.parse(nodes)}


def _render(nodes: Iterable[str], table: NodeTable) -> str:
    return ranges.render(table.mask(frozenset(nodes)))
