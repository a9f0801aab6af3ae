"""A private Redis for the tests: on a free port of the loopback, without a file, ended with the test."""

import shutil
import socket
import subprocess
import time

import pytest
import redis


class Redis:
    """`start` and `kill` as often as wanted; the port stays."""

    def __init__(self):
        self._program = shutil.which("redis-server") or shutil.which("valkey-server")
        if self._program is None:
            pytest.skip("needs redis-server or valkey-server on the PATH (Debian: apt install redis-server)")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
            else:
                return self

    def kill(self):
        self._process.kill()
        self._process.wait()

    def client(self):
        return redis.Redis.from_url(self.url)

    def publish(self, *messages, channel="promptlooper:events"):
        """Publish each; how many subscribers the last one had."""
        with self.client() as client:
            return [client.publish(channel, message) for message in messages][-1]

    def subscribers(self, channel="promptlooper:events"):
        with self.client() as client:
            return dict(client.pubsub_numsub(channel))[channel.encode()]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self._process.poll() is None:
            self.kill()
