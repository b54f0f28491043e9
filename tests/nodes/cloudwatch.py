"""Reads what a job wrote from the door, as tools that know CloudWatch Logs do."""

import os
import sys
import time
from collections import defaultdict

import boto3
from botocore.exceptions import ClientError

GROUP = "/aws/batch/job"
logs = boto3.client("logs", region_name="us-east-1")
# Nothing is asked of anybody but the door.
assert logs.meta.endpoint_url.startswith("http://127.0.0.1:"), logs.meta.endpoint_url


def follow(stream):
    """What `aws logs tail --follow` of the aws CLI asks, until the last line."""
    asked = dict(logGroupName=GROUP, logStreamNames=[stream], interleaved=True, startTime=0)
    known = defaultdict(set)
    end = time.time() + 100
    while time.time() < end:
        answer = logs.filter_log_events(**asked)
        for event in answer["events"]:
            if event["eventId"] not in known[event["timestamp"]]:
                known[event["timestamp"]].add(event["eventId"])
                print(event["message"], flush=True)
                if event["message"] == "the end":
                    return
        if known:
            newest = max(known)
            known = defaultdict(set, {newest: known[newest]})
        asked.pop("nextToken", None)
        if "nextToken" in answer:
            asked["nextToken"] = answer["nextToken"]
        else:
            asked["startTime"] = max(known, default=0)
            time.sleep(0.3)
    sys.exit("the last line did not come")


def walk(stream, token, **more):
    """All pages in one direction; the last one's token comes again."""
    asked = dict(logGroupName=GROUP, logStreamName=stream, limit=70, **more)
    pages, last = [], None
    while True:
        answer = logs.get_log_events(**asked)
        pages.append([event["message"] for event in answer["events"]])
        if answer[token] == last:
            return [page for page in pages if page]
        last = asked["nextToken"] = answer[token]


def read(stream):
    forward = [line for page in walk(stream, "nextForwardToken", startFromHead=True) for line in page]
    pages = walk(stream, "nextBackwardToken")
    assert len(pages) > 1, pages
    backward = [line for page in reversed(pages) for line in page]
    assert forward == backward, (forward, backward)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, logStreamNamePrefix=stream, PaginationConfig={"PageSize": 70})
    filtered = [event["message"] for page in pages for event in page["events"]]
    assert sorted(filtered) == sorted(forward), (filtered, forward)
    some = logs.filter_log_events(logGroupName=GROUP, filterPattern='"line 10" -100')
    wanted = [line for line in forward if "line 10" in line and "100" not in line]
    assert [event["message"] for event in some["events"]] == wanted and wanted, some
    middle = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)["events"]
    assert all(event["timestamp"] > 1_700_000_000_000 for event in middle), middle
    told = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]
    assert stream in [one["logStreamName"] for one in told], told
    print("\n".join(forward))


def gone(stream):
    try:
        logs.get_log_events(logGroupName=GROUP, logStreamName=stream)
    except ClientError as error:
        print(error.response["Error"]["Code"], error.response["Error"]["Message"])
        return
    sys.exit("it is there")


{"follow": follow, "read": read, "gone": gone}[sys.argv[1]](sys.argv[2])
