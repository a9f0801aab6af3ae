"""
Our own AMQP 0-9-1 client for what moves events: publishing with confirms, reading the log, consuming a queue.

The protocol is here without any I/O, as bytes in and events out (:mod:`~loopcast.amqp.connection` and what it is made
of); :mod:`~loopcast.amqp.link` is the thin shell of asyncio around it. One connection has one channel and does one
thing. Declarations, which are rare, are left to aio-pika.
"""
