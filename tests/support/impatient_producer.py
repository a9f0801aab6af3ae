"""The producer with less patience for slow clients, so that a test need not wait half a minute for it to lose it."""

from loopcast import patience
from loopcast_producer import app, connections
from loopcast_producer.__main__ import main

patience.GRACE_SECONDS = 3.0
connections.LOOK_SECONDS = 0.1
app.KEEP_ALIVE_SECONDS = 2

if __name__ == "__main__":
    main()
