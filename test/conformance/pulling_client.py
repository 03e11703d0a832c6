"""What the real client does at a cache that has upstreams; a line of JSON for each step."""
import io
import json
import sys

from slapos.libnetworkcache import NetworkcacheClient

settings = json.loads(sys.argv[1])
client = NetworkcacheClient(
    {
        "download-cache-url": settings["url"] + "/shacache",
        "download-dir-url": settings["url"] + "/shadir",
        "upload-cache-url": settings["uploadUrl"] + "/shacache",
        "upload-dir-url": settings["uploadUrl"] + "/shadir",
    },
    signature_certificate_list=[settings["certificate"]],
)


def step(name, work):
    try:
        outcome, message = "ok", work()
    except Exception as error:  # What it was is what the test is about.
        outcome, message = "error", repr(error)
    print(json.dumps({"id": name, "outcome": outcome, "message": message}))


def download(sha512):
    response = client.download(sha512)
    size = 0
    while True:
        data = response.read(65536)
        if not data:
            return str(size)
        size += len(data)


step("select", lambda: ",".join(entry["name"] for entry in client.select(settings["key"])))
step("download", lambda: download(settings["good"]))
step("download again", lambda: download(settings["good"]))
step("download lies", lambda: download(settings["lie"]))
step("download nothing", lambda: download("0" * 128))
with open(settings["file"], "rb") as upstreams:
    step("upload what upstream has", lambda: client.upload(io.BytesIO(upstreams.read())))
