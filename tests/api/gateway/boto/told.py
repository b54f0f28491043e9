"""Every member of an answer was told once by the scripts before this one and by this one, or is listed in docs/aws-api.md as
never told; what is listed was not told."""

import json
import os
import re
import sys

import botocore.session

from common import SEEN, client, until

DOCS, RUNS = open(sys.argv[1]).read(), json.loads(sys.argv[2])
batch = client()


def listed(heading):
    part = DOCS.split(f"<!-- {heading} -->")[1].split("<!-- end -->")[0]
    return set(re.findall(r"`([A-Za-z.0-9]+)`", part))


until("a child that runs", lambda: batch.describe_jobs(jobs=[RUNS["array"] + ":1"])["jobs"][0]["status"] == "RUNNING")
until("its part of the queue", lambda: batch.get_job_queue_snapshot(
    jobQueue="shared")["queueUtilization"]["totalCapacityUsage"][0]["quantity"] > 0)
for paged in ("describe_job_definitions", "describe_job_queues", "describe_compute_environments", "list_consumable_resources"):
    list(batch.get_paginator(paged).paginate(PaginationConfig={"PageSize": 1}))
for queue in ("still", "shared"):
    pages = batch.get_paginator("list_jobs").paginate(jobQueue=queue, jobStatus="ALL", PaginationConfig={"PageSize": 2})
    ids = [one["jobId"] for page in pages for one in page["jobSummaryList"]]
    for job in batch.describe_jobs(jobs=ids + [f"{job}#0" for job in ids] + [f"{job}:0" for job in ids])["jobs"]:
        batch.list_tags_for_resource(resourceArn=re.sub("[:#]0$", "", job["jobArn"]))
    batch.get_job_queue_snapshot(jobQueue=queue)
for whole in ({"arrayJobId": RUNS["array"]}, {"multiNodeJobId": RUNS["gang"]}):
    assert batch.list_jobs(jobStatus="ALL", **whole)["jobSummaryList"], whole
for page in ("list_jobs_by_consumable_resource", {"consumableResource": "seat"}), ("list_scheduling_policies", {}):
    list(batch.get_paginator(page[0]).paginate(**page[1], PaginationConfig={"PageSize": 1}))
batch.describe_scheduling_policies(arns=[one["arn"] for one in batch.list_scheduling_policies()["schedulingPolicies"]])

model = botocore.session.get_session().get_service_model("batch")
members = {}


def walk(shape):
    if shape.type_name == "structure" and shape.name not in members:
        members[shape.name] = list(shape.members)
        for below in shape.members.values():
            walk(below)
    elif shape.type_name in ("list", "map"):
        walk(shape.member if shape.type_name == "list" else shape.value)


absent = listed("missing operations")
for name in model.operation_names:
    if name not in absent and model.operation_model(name).output_shape:
        walk(model.operation_model(name).output_shape)
every = {f"{structure}.{member}" for structure, all in members.items() for member in all}
told = {f"{structure}.{member}" for structure, member in SEEN} | set(open(os.environ["SEEN"]).read().split())
never = listed("members that are never told")
# A structure that is never told takes its members along.
gone = {member for member in every if member.split(".")[0] in never}
untold, wrong = every - told - never - gone, (never & told) | (gone & told)
assert not untold, f"neither told nor listed in docs/aws-api.md: {sorted(untold)}"
assert not wrong, f"listed as never told, and told: {sorted(wrong)}"
unknown = {one for one in never if one not in every and one not in members}
assert not unknown, f"no members of AWS's model: {sorted(unknown)}"
print(f"{len(every & told)} of {len(every)} members of answers were told")
