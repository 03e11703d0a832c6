"""The recipes of a small software release that builds without a network: see software.cfg.in."""
import json, os, sys

INSTANCE = """[buildout]
parts = instance
offline = true
eggs-directory = {eggs}
develop-eggs-directory = {develop_eggs}

[instance]
recipe = hello:instance
"""

PROMISE = """import sys
sys.path[0:0] = {path!r}
import os
from zope.interface import implementer
from slapos.grid.promise import interface, GenericPromise

@implementer(interface.IPromise)
class RunPromise(GenericPromise):
    def __init__(self, config):
        GenericPromise.__init__(self, config)
        self.setPeriodicity(float(0.01))

    def sense(self):
        if os.path.exists({broken!r}):
            self.logger.error("the file is broken")
        else:
            self.logger.info("the file is fine")

    def test(self):
        return self._test(result_count=1, failure_amount=1)

    def anomaly(self):
        return self._anomaly(result_count=1, failure_amount=1)
"""


class Software(object):
    def __init__(self, buildout, name, options):
        self.buildout = buildout["buildout"]

    def install(self):
        target = os.path.join(self.buildout["directory"], "instance.cfg")
        with open(target, "w") as f:
            f.write(INSTANCE.format(eggs=self.buildout["eggs-directory"], develop_eggs=self.buildout["develop-eggs-directory"]))
        return [target]

    update = install


class Instance(object):
    def __init__(self, buildout, name, options):
        self.home = buildout["buildout"]["directory"]
        self.connection = buildout["slap-connection"]

    def install(self):
        from slapos import slap
        client = slap.slap()
        connection = self.connection
        client.initializeConnection(connection["server-url"], connection.get("key-file") or None, connection.get("cert-file") or None)
        partition = client.registerComputerPartition(connection["computer-id"], connection["partition-id"])
        parameters = dict(partition.getInstanceParameterDict())
        own = {k: v for k, v in parameters.items() if not k.startswith("slap_") and k not in (
            "ip_list", "full_ip_list", "slave_instance_list", "timestamp", "instance_title", "root_instance_title",
            "root_instance_short_title")}
        if "_" in own:
            echoed = {"_": json.dumps({"echo": json.loads(own["_"])})}
        else:
            echoed = dict(("echo-" + k, v) for k, v in own.items())
        partition.setConnectionDict(echoed)
        service = os.path.join(self.home, "etc", "service")
        plugin = os.path.join(self.home, "etc", "plugin")
        for folder in (service, plugin):
            if not os.path.isdir(folder):
                os.makedirs(folder)
        sleeper = os.path.join(service, "sleeper")
        with open(sleeper, "w") as f:
            f.write("#!/bin/sh\nexec sleep 1000000\n")
        os.chmod(sleeper, 0o700)
        promise = os.path.join(plugin, "check_file.py")
        with open(promise, "w") as f:
            f.write(PROMISE.format(path=[p for p in sys.path if p], broken=os.path.join(self.home, "broken")))
        return []

    update = install
