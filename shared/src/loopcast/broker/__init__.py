"""
Moving events through RabbitMQ: what is published, read and consumed, and by whom.

:mod:`~loopcast.broker.interface` says what each operation promises; everything else here keeps it.
"""
