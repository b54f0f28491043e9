"""A client for the door, and a check of every answer against AWS's own model."""

import atexit
import json
import os
import sys
import time

import boto3
from botocore.config import Config

ENDPOINT = os.environ["DOOR"]
SEEN = set()  # (structure, member) that an answer had
ASKED = set()  # operations that were answered


def keep():
    """What was seen is for those who come after this script, too."""
    with open(os.environ["SEEN"], "a") as file:
        file.writelines(f"{structure}.{member}\n" for structure, member in sorted(SEEN))


atexit.register(keep)


def client(**config):
    settings = dict(retries={"max_attempts": 1}, max_pool_connections=50)
    settings.update(config)
    made = boto3.client(
        "batch",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id=os.environ["KEY"],
        aws_secret_access_key=os.environ["SECRET"],
        aws_session_token=os.environ.get("TOKEN"),
        config=Config(**settings),
    )
    made.meta.events.register("before-parse.batch.*", check)
    return made


def check(operation_model, response_dict, **_):
    assert response_dict["headers"].get("x-amzn-requestid"), response_dict["headers"]
    if response_dict["status_code"] >= 300:
        return
    ASKED.add(operation_model.name)
    body = json.loads(response_dict["body"] or b"{}")
    walk(operation_model.output_shape, body, operation_model.name)


def walk(shape, value, path):
    """Every member is one of the model's, and of its type; enums have AWS's values."""
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), (path, value)
        for member, below in value.items():
            assert member in shape.members, f"{path}.{member} is no member of {shape.name}"
            SEEN.add((shape.name, member))
            walk(shape.members[member], below, f"{path}.{member}")
        for member in shape.required_members:
            # startedAt is required in the model, and absent before a job runs.
            assert member in value or member == "startedAt", f"{path}.{member} is missing"
    elif kind == "list":
        assert isinstance(value, list), (path, value)
        for index, below in enumerate(value):
            walk(shape.member, below, f"{path}[{index}]")
    elif kind == "map":
        assert isinstance(value, dict), (path, value)
        for key, below in value.items():
            walk(shape.value, below, f"{path}.{key}")
    elif kind in ("integer", "long"):
        assert isinstance(value, int) and not isinstance(value, bool), (path, value)
    elif kind in ("float", "double"):
        assert isinstance(value, (int, float)), (path, value)
    elif kind == "boolean":
        assert isinstance(value, bool), (path, value)
    elif kind == "string":
        assert isinstance(value, str), (path, value)
        if getattr(shape, "enum", None):
            assert value in shape.enum, f"{path}: {value} is none of {shape.enum}"
    else:
        raise AssertionError(f"{path}: {kind}")


def until(what, ask, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        found = ask()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"waited in vain for {what}; last: {found!r}")


def refused(kind, call, says=""):
    from botocore.exceptions import ClientError

    try:
        answer = call()
    except ClientError as error:
        told = error.response["Error"]
        assert told["Code"] == kind, told
        assert says in told["Message"], told
        return error
    raise AssertionError(f"not refused: {answer}")


CONTAINER = {"image": "busybox", "command": ["true"],
             "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]}
