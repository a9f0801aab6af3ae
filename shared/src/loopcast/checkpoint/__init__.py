"""
Which replica reads a partition of the log for a service, and what it knew when it last wrote that down.

:mod:`~loopcast.checkpoint.record` is the pure part: the records, and which of them counts. Both the lease and the
records live in the broker (:mod:`~loopcast.checkpoint.lease`, :mod:`~loopcast.checkpoint.recovery`), so a replica needs
no disk.
"""
