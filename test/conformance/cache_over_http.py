"""Runs the tests of the cache that upstream ships, unmodified, against a running Shacache. One line of JSON per test.

slapos.libnetworkcachetests takes the addresses of a server from its environment. slapos.tests.test_slapproxy_shacache starts
slapos.core's own server in the same process: here that is a relay, which rewrites the paths of that server into ours and
passes on everything else as it comes.

Usage: cache_over_http.py '{"host", "port", "token", "leftOut"}'
"""

import json
import os
import socket
import sys
import threading
import traceback
import unittest

settings = json.loads(sys.argv[1])
address = (settings["host"], settings["port"])
prefix = "/k/%s" % settings["token"]
base = "http://%s:%d%s" % (*address, prefix)
os.environ["TEST_SHA_CACHE"] = base + "/shacache"
os.environ["TEST_SHA_DIR"] = base + "/shadir"

from slapos import libnetworkcachetests

try:
    from slapos.tests import test_slapproxy_shacache
except ImportError:
    # An older slapos.core had no server of its own.
    test_slapproxy_shacache = None

OURS = {b"/shacache/cache": b"/shacache", b"/shacache/dir": b"/shadir"}


class Relay:
    """In the place of a Flask application that serves slapos.core's shacache."""

    def __init__(self, *_):
        self.config = {}

    def register_blueprint(self, *_, **__):
        pass

    def run(self, host, port, use_reloader=False):
        listener = socket.create_server((host, port))
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        head = b""
        while b"\r\n" not in head:
            received = client.recv(65536)
            if not received:
                return client.close()
            head += received
        method, target, rest = head.split(b" ", 2)
        for theirs, ours in OURS.items():
            if target == theirs or target.startswith(theirs + b"/"):
                target = prefix.encode() + ours + target[len(theirs):]
                break
        server = socket.create_connection(address)
        server.sendall(b" ".join((method, target, rest)))
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        pump(server, client)


def pump(source, sink):
    try:
        while received := source.recv(65536):
            sink.sendall(received)
    except OSError:
        pass
    for end in source, sink:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Report(unittest.TestResult):
    def say(self, test, outcome, message=""):
        name = test.id().removeprefix("slapos.").removeprefix("tests.")
        print(json.dumps({"id": name, "outcome": outcome, "message": message}), flush=True)

    def addSuccess(self, test):
        self.say(test, "ok")

    def addSkip(self, test, reason):
        self.say(test, "skip", reason)

    def addFailure(self, test, error):
        self.say(test, "fail", "".join(traceback.format_exception(*error))[-1500:])

    addError = addFailure


def main():
    modules = [libnetworkcachetests]
    if test_slapproxy_shacache:
        test_slapproxy_shacache.Flask = Relay
        modules.append(test_slapproxy_shacache)
    report = Report()
    for module in modules:
        for suite in unittest.TestLoader().loadTestsFromModule(module):
            for test in suite:
                if type(test).__name__ not in settings["leftOut"]:
                    test.run(report)


main()
