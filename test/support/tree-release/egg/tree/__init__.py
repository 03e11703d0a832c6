"""The recipes of the release for the tests of trees: see software.cfg.in."""
import os, sys

INSTANCE = """[buildout]
parts = instance
offline = true
eggs-directory = {eggs}
develop-eggs-directory = {develop_eggs}

[instance]
recipe = tree:instance
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

REPORT = """#!/bin/sh
mkdir -p "$(dirname "$1")"
cat > "$1" <<END
<?xml version="1.0" encoding="utf-8"?>
<consumption><movement><resource>CPU consumed</resource><title>CPU</title><reference>here</reference><quantity>42.0</quantity><price>0.0</price><VAT>None</VAT><category>None</category></movement></consumption>
END
"""

SYSTEM_KEYS = ("ip_list", "full_ip_list", "slave_instance_list", "timestamp", "instance_title", "root_instance_title",
    "root_instance_short_title")


def words(text):
    return [word for word in (text or "").split(",") if word]


class Software(object):
    def __init__(self, buildout, name, options):
        self.buildout = buildout["buildout"]
        self.switch = options["switch"]

    def install(self):
        if os.path.exists(self.switch):
            raise RuntimeError("this build fails: <é> & co")
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
        connection = self.connection
        with open(os.path.join(self.home, "processed"), "a") as f:
            f.write("once\n")
        client = slap.slap()
        client.initializeConnection(connection["server-url"], connection.get("key-file") or None, connection.get("cert-file") or None)
        partition = client.registerComputerPartition(connection["computer-id"], connection["partition-id"])
        parameters = dict(partition.getInstanceParameterDict())
        release = connection["software-release-url"]
        published = dict((k, v) for k, v in parameters.items() if k not in SYSTEM_KEYS and not k.startswith("slap_"))
        state = partition.getState()
        for title in words(parameters.get("children")):
            child = partition.request(release, "leaf", title, partition_parameter_kw={"colour": "blue & <red>"}, state=state)
            published["child-" + title] = self.answer_of(child, "hello")
        for title in words(parameters.get("shared")):
            child = partition.request(release, "host", title, shared=True, partition_parameter_kw={"name": title}, state=state)
            published["shared-" + title] = self.answer_of(child, "served")
        for shared in parameters.get("slave_instance_list") or []:
            partition.setConnectionDict({"served": "%s by %s" % (shared["name"], parameters["instance_title"])}, shared["slave_reference"])
        if parameters["slap_software_type"] == "host":
            published["hosted"] = ",".join(sorted(shared["slave_title"] for shared in parameters.get("slave_instance_list") or []))
        published["hello"] = "from " + parameters["instance_title"]
        partition.setConnectionDict(published)
        self.write("etc/plugin/check_file.py", PROMISE.format(path=[p for p in sys.path if p], broken=os.path.join(self.home, "broken")))
        self.write("etc/report/usage", REPORT, 0o700)
        return []

    update = install

    def answer_of(self, child, key):
        from slapos.slap.exception import NotFoundError, ResourceNotReady
        try:
            return child.getConnectionParameter(key)
        except (NotFoundError, ResourceNotReady):
            return "not yet"

    def write(self, name, content, mode=0o600):
        path = os.path.join(self.home, name)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        with open(path, "w") as f:
            f.write(content)
        os.chmod(path, mode)
