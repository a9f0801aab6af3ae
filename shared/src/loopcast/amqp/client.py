"""Links made by our own protocol; declarations, which are rare, by aio-pika."""

from __future__ import annotations

from loopcast.amqp.consumer import ConsumeConnection
from loopcast.amqp.link import ConsumingLink, PublishingLink
from loopcast.amqp.publisher import PublishConnection
from loopcast.amqp.uri import parse_url
from loopcast.broker.aio_pika_client import AioPikaClient
from loopcast.broker.interface import AdminLink, ConsumeLink, OnDeliveries, OnSettled, PublishLink, StreamOffset
from loopcast.broker.login import current
from loopcast.errors import ConfigurationError

__all__ = ["AmqpClient"]


class AmqpClient:
    """The client of the default install."""

    async def open_publisher(self, url: str, on_settled: OnSettled, *, name: str) -> PublishLink:
        """Open a link as :meth:`loopcast.broker.interface.Client.open_publisher` says."""
        target = parse_url(current(url), name=name)
        link = PublishingLink(PublishConnection(target.login), on_settled)
        await link.open(target)
        return link

    async def open_consumer(
        self,
        url: str,
        queue: str,
        on_deliveries: OnDeliveries,
        *,
        name: str,
        prefetch: int,
        offset: StreamOffset | None = None,
        exclusive: bool = False,
        only: str | None = None,
    ) -> ConsumeLink:
        """Open a link as :meth:`loopcast.broker.interface.Client.open_consumer` says."""
        target = parse_url(current(url), name=name)
        try:
            connection = ConsumeConnection(
                target.login, queue, prefetch=prefetch, offset=offset, exclusive=exclusive, only=only
            )
        except ValueError as error:
            raise ConfigurationError(f"{queue!r} cannot be consumed: {error}.") from None
        link = ConsumingLink(connection, on_deliveries)
        await link.open(target)
        return link

    async def open_admin(self, url: str, *, name: str) -> AdminLink:
        """Open a link as :meth:`loopcast.broker.interface.Client.open_admin` says."""
        return await AioPikaClient().open_admin(url, name=name)
