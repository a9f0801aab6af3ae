"""The producer with less patience for slow clients, so that a test need not wait half a minute for it to lose it."""

from loopcast_producer import connections
from loopcast_producer.__main__ import main

connections.GRACE_SECONDS = 3.0
connections.LOOK_SECONDS = 0.1

if __name__ == "__main__":
    main()
