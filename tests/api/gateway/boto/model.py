"""Walks AWS's model: every operation is served or listed as missing, and every member that a caller can state is taken or
listed. The lists are those of docs/aws-api.md. told.py does the same for the members of answers."""

import json
import re
import sys

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
import os

DOCS = open(sys.argv[1]).read()
model = botocore.session.get_session().get_service_model("batch")
keys = Credentials(os.environ["KEY"], os.environ["SECRET"])
session = URLLib3Session()


def listed(heading):
    part = DOCS.split(f"<!-- {heading} -->")[1].split("<!-- end -->")[0]
    return set(re.findall(r"`([A-Za-z.]+)`", part))


def ask(operation, body):
    path = operation.http["requestUri"].replace("{resourceArn}", "x")
    method = operation.http["method"]
    data = b"" if method != "POST" else json.dumps(body).encode()
    request = AWSRequest(method, os.environ["DOOR"] + path, data=data, headers={"Content-Type": "application/json"})
    SigV4Auth(keys, "batch", "us-east-1").add_auth(request)
    answer = session.send(request.prepare())
    return answer.status_code, json.loads(answer.content or b"{}")


def samples(shape, depth=0):
    """Values that together have every member and every enum value of a shape."""
    kind = shape.type_name
    if kind == "structure":
        required = {name: samples(shape.members[name], depth + 1)[0] for name in shape.required_members}
        values = [required]
        for name, below in shape.members.items():
            values += [{**required, name: value} for value in samples(below, depth + 1)]
        return values
    if kind == "list":
        return [[value] for value in samples(shape.member, depth + 1)]
    if kind == "map":
        return [{"k": value} for value in samples(shape.value, depth + 1)]
    if kind == "string":
        return list(getattr(shape, "enum", None) or ["x"])
    if kind in ("integer", "long"):
        return [1]
    if kind in ("float", "double"):
        return [1.5]
    return [True]


missing = listed("missing operations")
untaken = listed("members that are not taken")
served, members, refused = 0, 0, {}
DOUBTS = ("no such member", ": unknown", "must be of type", "unsupported value", "unknown field", "invalid type")
for name in model.operation_names:
    operation = model.operation_model(name)
    status, answer = ask(operation, {})
    text = answer.get("message", "")
    is_served = "no such operation" not in text and "SageMaker, and is not supported" not in text
    assert is_served != (name in missing), f"{name}: {text}"
    assert status < 500, (name, answer)
    if not is_served:
        continue
    served += 1
    if operation.http["method"] != "POST" or "{" in operation.http["requestUri"] or operation.input_shape is None:
        continue
    # What changes nothing if it is refused for a reason of its own: each body lacks something, or names nothing.
    for value in samples(operation.input_shape):
        status, answer = ask(operation, value)
        members += 1
        assert status < 500, (name, value, answer)
        if status != 200 and any(doubt in answer.get("message", "") for doubt in DOUBTS):
            refused.setdefault(f"{name}: {answer['message']}", value)
refused = {text: value for text, value in refused.items() if not any(member in text for member in untaken)}
for text, value in refused.items():
    print(text, json.dumps(value)[:300])
assert not refused, f"{len(refused)} members of the model are not taken"
print(f"{served} of {len(model.operation_names)} operations, {members} requests with members and enums of the model")
