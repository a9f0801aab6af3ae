"""
A private RabbitMQ node for `loopcast up`, tests and benchmarks: `with Node(Path(".loopcast/node")) as node: ...`.

Standard library only, and nothing of the machine's own broker is touched.
"""

from __future__ import annotations

from loopcast.errors import NodeError
from loopcast.node.node import Node

__all__ = ["Node", "NodeError"]
