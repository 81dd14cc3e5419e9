"""Statements that name each node and each credential once. Tasks and images refer to them by number. Pure.

With names, the statement for 10,000 Tasks on 1,000 nodes would have 150 MB. A pull secret may have 1 MiB, and 256
images of one object may use it.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pantala_protocol import ranges
from pantala_protocol.images import OrderGroup, PullOrder, WantedImage
from pantala_protocol.nodes.sets import NodeTable
from pantala_protocol.statement import Statement, WantedTask


def numbered(statement: Statement, *, credentials: bool = False) -> Statement:
    """The same statement with numbers instead of names. It contains each set of nodes once.

    ``credentials``: it also contains each distinct set of headers and each pull secret once.
    """
    if credentials:
        statement = _with_tables(statement)
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
    """The same statement with names and credentials instead of numbers. ``nodes`` is kept.

    Tasks with the same nodes share one tuple, and credentials are shared too. Raises :class:`ValueError` if a number is
    not valid.
    """
    statement = _without_tables(statement)
    table = NodeTable(statement.nodes)
    sets = [tuple(table.parse(text)) for text in statement.node_sets]
    return msgspec.structs.replace(
        statement,
        node_sets=(),
        tasks=tuple(_named_task(task, sets) for task in statement.tasks),
        images=tuple(_named_image(image, table) for image in statement.images),
    )


def _with_tables(statement: Statement) -> Statement:
    headers: dict[tuple[tuple[str, str], ...], int] = {}
    texts: dict[str, int] = {}
    tasks, images = [], []
    for task in statement.tasks:
        if task.headers:
            position = headers.setdefault(tuple(sorted(task.headers.items())), len(headers))
            task = msgspec.structs.replace(task, headers={}, header_set=position)
        tasks.append(task)
    for image in statement.images:
        if image.credentials:
            positions = tuple(texts.setdefault(text, len(texts)) for text in image.credentials)
            image = msgspec.structs.replace(image, credentials=(), secrets=positions)
        images.append(image)
    return msgspec.structs.replace(
        statement,
        tasks=tuple(tasks),
        images=tuple(images),
        header_sets=tuple(map(dict, headers)),
        pull_secrets=tuple(texts),
    )


def _without_tables(statement: Statement) -> Statement:
    headers, texts = statement.header_sets, statement.pull_secrets
    tasks, images = [], []
    for task in statement.tasks:
        if task.header_set is not None:
            _check(task.header_set, headers, task.name)
            task = msgspec.structs.replace(task, headers=headers[task.header_set], header_set=None)
        tasks.append(task)
    for image in statement.images:
        if image.secrets:
            _check(max(image.secrets), texts, image.key)
            found = tuple(texts[position] for position in image.secrets)
            image = msgspec.structs.replace(image, credentials=found, secrets=())
        images.append(image)
    return msgspec.structs.replace(statement, tasks=tuple(tasks), images=tuple(images), header_sets=(), pull_secrets=())


def _check(position: int, table: Sequence[object], name: str) -> None:
    if position >= len(table):
        raise ValueError(f"The statement lacks the credential {position}, to which {name} refers.")


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
