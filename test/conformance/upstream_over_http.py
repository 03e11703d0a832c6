"""Runs the test modules that slapos.core ships, unmodified, against this master over HTTP.

The modules were written for slapproxy in the same process. Only what ties them to it is replaced here, and each
replacement says what it stands for. One line of JSON per test is printed: id, outcome, message.

Usage: upstream_over_http.py '{"masterUrl", "gatewayUrl", "token", "resetUrl", "leftOut", "only"}'
"""

import contextlib
import json
import re
import sys
import time
import traceback
import types
import unittest
import unittest.mock

import requests

settings = json.loads(sys.argv[1])
master_url = settings["masterUrl"]
PACKAGE = "slapos.tests."

# The modules import these two, which slapos.core does not install. With this httmock the canned answers are not used: what
# the client asks goes to the master.
httmock = types.ModuleType("httmock")
httmock.HTTMock = lambda *handlers: contextlib.nullcontext()
sys.modules["httmock"] = httmock
sys.modules["mock"] = unittest.mock

import slapos.slap
from slapos.tests import test_slap, test_slapproxy, test_slapproxy_json_rpc
from slapos.util import dumps, loads

# test_slap is about the client: of it, these tests ask something of a master.
FROM_TEST_SLAP = [
    "TestSlap.test_registerComputer_with_new_guid",
    "TestSlap.test_registerComputer_with_existing_guid",
    "TestSlap.test_fetchComputerPartitionInformation_unknown_computer_guid",
    "TestComputer.test_computer_getComputerPartitionList_no_partition",
    "TestComputer.test_computer_getComputerPartitionList_only_partition",
    "TestComputerPartition.test_started_new_ComputerPartition_raises",
    "TestComputerPartition.test_stopped_new_ComputerPartition_raises",
    "TestOpenOrder.test_request_raises_later",
]

real_time = time.time


def seconds_to_microseconds():
    """slapproxy's timestamps are seconds, ours and the ERP5 master's are microseconds: the clock they are compared with."""
    return real_time() * 1_000_000


class Administrator:
    """What slapproxy does by itself or by its configuration file, an administrator does here through GraphQL."""

    def __init__(self):
        self.session = requests.Session()
        self.session.trust_env = False
        self.computers = set()

    def reset(self):
        self.session.post(settings["resetUrl"], timeout=60).raise_for_status()
        self.computers.clear()

    def create_computer(self, reference):
        if reference in self.computers:
            return
        self.mutate("createComputer", "CreateComputerInput", {"reference": reference})
        self.computers.add(reference)

    def publish(self, product, url):
        self.mutate("createSoftwareProduct", "CreateSoftwareProductInput", {"name": product, "title": product})
        self.mutate("publishSoftwareRelease", "PublishSoftwareReleaseInput", {"productName": product, "url": url})

    def mutate(self, mutation, input_type, value):
        query = "mutation ($input: %s!) { %s(input: $input) { userErrors { code message } } }" % (input_type, mutation)
        answer = self.session.post(
            settings["gatewayUrl"] + "/graphql",
            json={"query": query, "variables": {"input": value}},
            headers={"Authorization": "Bearer " + settings["token"]},
            timeout=60,
        ).json()
        if answer.get("errors") or answer["data"][mutation]["userErrors"]:
            raise RuntimeError("%s %r: %s" % (mutation, value, json.dumps(answer)))


administrator = Administrator()


class Configuration(dict):
    """Stands for the configuration of the Flask application."""

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        if name == "software_product_list":
            for product, url in value.items():
                administrator.publish(product, url)


class Names:
    """slapproxy makes the name of an instance out of its title, and the tests spell such names. Ours are given by the master:
    each side reads its own. A name is learned from the answer to the request that made the instance."""

    def __init__(self):
        self.ours = {}
        self.theirs = {}

    def learn(self, theirs, ours):
        self.ours[theirs] = ours
        self.theirs[ours] = theirs

    def to_ours(self, value):
        return self.ours.get(value, value) if isinstance(value, str) else value

    def to_theirs(self, text):
        return re.sub(r"SOFTINST-\d+", lambda match: self.theirs.get(match.group(), match.group()), text)

    def learn_from_json(self, answer):
        title, root = answer.get("title"), answer.get("root_instance_title")
        if isinstance(answer.get("instance_guid"), str) and title and root:
            parts = (title, "" if root == title else root, int(bool(answer.get("shared"))))
            self.learn("%s___%s___%i" % parts, answer["instance_guid"])

    def learn_from_form(self, fields, answer):
        """slapproxy's reference of a shared instance that a person asked for is an underscore and its title."""
        guid = getattr(loads(answer), "_instance_guid", None)
        if guid and loads(fields["shared_xml"]) and "computer_partition_id" not in fields:
            self.learn("_" + fields["partition_reference"], guid)


def as_slapproxy_says(path, content):
    """Says in slapproxy's way what we say in the ERP5 master's, and leaves out what slapproxy does not know."""
    if path.endswith("requestComputerPartition"):
        instance = loads(content)
        if hasattr(instance, "timestamp"):
            instance._parameter_dict = dict(instance._parameter_dict, timestamp=instance.timestamp)
        return dumps(instance)
    with contextlib.suppress(ValueError):
        answer = json.loads(content)
        if isinstance(answer, dict) and "access_status_message" in answer:
            # It has no status of an instance, and no timestamp of a shared one that is being requested.
            answer["access_status_message"] = ""
            if answer["shared"] and path.endswith("slapos.post.v0.software_instance"):
                answer["processing_timestamp"] = 0
            return json.dumps(answer).encode()
    return content


class Answer:
    """The part of a Flask test client's response that the tests read."""

    def __init__(self, path, response, names):
        content = as_slapproxy_says(path, response.content) if response.ok else response.content
        text = content.decode("utf-8")
        base = master_url.rstrip("/")
        for scheme in "http", "https":
            text = text.replace(re.sub("^https?", scheme, base), scheme + "://localhost")
        self.text = names.to_theirs(text)
        self.data = self.text.encode("utf-8")
        self.status_code = self._status_code = response.status_code
        self.headers = response.headers
        self.content_type = response.headers.get("content-type")


class Application:
    """Stands for views.app.test_client(): the same calls, over HTTP."""

    def __init__(self):
        self.session = requests.Session()
        self.session.trust_env = False
        self.names = Names()

    def get(self, path, query_string=None, headers=None):
        answer = self.send("GET", path, params=query_string, headers=headers)
        # A Flask test client lets the view's exception through; over HTTP it is a status.
        if answer.status_code == 404:
            raise slapos.slap.NotFoundError(answer.text)
        if answer.status_code == 400:
            raise AssertionError(answer.text)
        return answer

    def post(self, path, data=None, query_string=None, headers=None, json=None):
        if json is None:
            return self.post_form(path, data or {}, params=query_string, headers=headers)
        if path.endswith(".compute_node_format"):
            administrator.create_computer(json["computer_guid"])
        translated = {
            name: self.names.to_ours(value) if name == "instance_guid" else value for name, value in json.items()
        }
        response = self.request("POST", path, json=translated, headers=headers)
        with contextlib.suppress(ValueError, AttributeError):
            self.names.learn_from_json(response.json())
        return Answer(path, response, self.names)

    def post_form(self, path, data, **options):
        if path.endswith("loadComputerConfigurationFromXML"):
            administrator.create_computer(loads(data["xml"])["reference"])
        fields = {name: self.names.to_ours(value) for name, value in data.items()}
        response = self.request("POST", path, data=fields, **options)
        if path.endswith("requestComputerPartition") and response.status_code == 200:
            self.names.learn_from_form(data, response.content)
        return Answer(path, response, self.names)

    def send(self, method, path, **options):
        return Answer(path, self.request(method, path, **options), self.names)

    def request(self, method, path, **options):
        # A test that moves the clock by patching it has to wait for the master's, which is real.
        while time.time is not real_time and real_time() < time.time() < real_time() + 5:
            time.sleep(0.05)
        is_bang = path.lower().endswith(("instancebang", "instance_bang"))
        before = self.read_computer() if is_bang else None
        response = self.session.request(
            method, master_url + path.lstrip("/"), timeout=60, allow_redirects=False, **options
        )
        # A bang is accepted at once and reaches the partitions through the event log, a moment later.
        deadline = real_time() + 3
        while is_bang and response.ok and self.read_computer() == before and real_time() < deadline:
            time.sleep(0.01)
        return response

    def read_computer(self):
        return self.session.get(
            master_url + "getFullComputerInformation", params={"computer_id": "computer"}, timeout=60
        ).content


def start_proxy(test):
    """Stands for the start of slapproxy on an empty database: the computer of its configuration file is always known."""
    administrator.reset()
    administrator.create_computer(test.computer_id)
    test.app = Application()
    test.app_config = Configuration(multimaster={})


def write_command_line_configuration(test):
    test.proxyaddr = master_url
    with open(test.slapos_cfg, "w") as file:
        file.write("[slapos]\nmaster_url = %s\ncomputer_id = computer\n" % master_url)


def set_up_client_test(test):
    administrator.reset()
    administrator.create_computer("computer")
    test.server_url = master_url
    test.slap = slapos.slap.slap()
    test.partition_id = test.id()


test_slapproxy.time = types.SimpleNamespace(time=seconds_to_microseconds, sleep=time.sleep)
test_slapproxy.BasicMixin.startProxy = start_proxy
test_slapproxy.CliMasterMixin.startProxy = start_proxy
test_slapproxy.CliMasterMixin.createSlapOSConfigurationFile = write_command_line_configuration
test_slapproxy.CliMasterMixin.tearDown = test_slapproxy.MasterMixin.tearDown
test_slap.SlapMixin.setUp = set_up_client_test
test_slap.SlapMixin._getTestComputerId = lambda test: "computer"


class Report(unittest.TestResult):
    def say(self, test, outcome, message=""):
        print(json.dumps({"id": test.id().removeprefix(PACKAGE), "outcome": outcome, "message": message}), flush=True)

    def addSuccess(self, test):
        self.say(test, "ok")

    def addSkip(self, test, reason):
        self.say(test, "skip", reason)

    def addFailure(self, test, error):
        self.say(test, "fail", describe(error))

    def addError(self, test, error):
        self.say(test, "error", describe(error))


def describe(error):
    """The error, and the last line of upstream's own tests on the way to it."""
    lines = [frame for frame in traceback.extract_tb(error[2]) if "/slapos/tests/" in frame.filename]
    where = "%s:%d: %s" % (lines[-1].filename.rpartition("/")[2], lines[-1].lineno, lines[-1].line) if lines else ""
    text = str(error[1])
    # What a command line said, which the exception's text leaves out.
    text += "\n" + error[1].output if getattr(error[1], "output", None) else ""
    return "%s\n%s: %s" % (where, error[0].__name__, text[:1500])


def all_tests():
    loader = unittest.TestLoader()
    for module in test_slapproxy, test_slapproxy_json_rpc:
        for suite in loader.loadTestsFromModule(module):
            yield from suite
    for name in FROM_TEST_SLAP:
        yield from loader.loadTestsFromName(name, test_slap)


def main():
    report = Report()
    for test in all_tests():
        name = test.id().removeprefix(PACKAGE)
        if name.rpartition(".")[0] in settings["leftOut"]:
            continue
        if not settings["only"] or any(part in name for part in settings["only"]):
            test.run(report)


main()
