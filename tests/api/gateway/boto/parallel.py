"""Many callers at a time, paginators, and the tries of one call."""

import concurrent.futures as futures
import os
import uuid

import common
from common import CONTAINER, client, until

batch = client()
QUEUE = "queue"
made = batch.register_job_definition(jobDefinitionName="many", type="container", containerProperties=CONTAINER)


def work(number):
    mine = client()
    ids = [mine.submit_job(jobName=f"job-{number}", jobQueue=QUEUE, jobDefinition="many")["jobId"] for _ in range(10)]
    found = mine.describe_jobs(jobs=ids)["jobs"]
    assert [one["jobId"] for one in found] == ids, "a job can be described as soon as it is submitted"
    revision = mine.register_job_definition(jobDefinitionName="raced", type="container", containerProperties=CONTAINER)["revision"]
    return ids, revision


with futures.ThreadPoolExecutor(10) as pool:
    done = list(pool.map(work, range(10)))
ids = [one for some, _ in done for one in some]
assert len(set(ids)) == 100, "each call makes a job"
assert sorted(revision for _, revision in done) == list(range(1, 11)), "each call makes a revision"

until("all jobs in the queue", lambda: len(batch.list_jobs(jobQueue=QUEUE, jobStatus="RUNNABLE")["jobSummaryList"]) == 100)
pages = list(batch.get_paginator("list_jobs").paginate(jobQueue=QUEUE, jobStatus="RUNNABLE", PaginationConfig={"PageSize": 7}))
listed = [one for page in pages for one in page["jobSummaryList"]]
assert len(pages) == 15 and sorted(one["jobId"] for one in listed) == sorted(ids)
times = [one["createdAt"] for one in listed]
assert times == sorted(times, reverse=True), "the newest first"
pages = list(batch.get_paginator("describe_job_definitions").paginate(jobDefinitionName="raced", PaginationConfig={"PageSize": 3}))
assert [one["revision"] for page in pages for one in page["jobDefinitions"]] == list(range(10, 0, -1))

# The second door has other caches: what one made, the other knows.
if "DOOR_2" in os.environ:
    common.ENDPOINT = os.environ["DOOR_2"]
    second = client()
    common.ENDPOINT = os.environ["DOOR"]
    for number in range(5):
        job = batch.submit_job(jobName=f"seen-{number}", jobQueue=QUEUE, jobDefinition="many")["jobId"]
        assert [one["jobId"] for one in second.describe_jobs(jobs=[job])["jobs"]] == [job]
        name = f"defined-{number}"
        batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=CONTAINER)
        second.submit_job(jobName="next", jobQueue=QUEUE, jobDefinition=name)
    for number in range(5):
        name = f"numbered-{number}"
        made = batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=CONTAINER)
        second.submit_job(jobName="next", jobQueue=QUEUE, jobDefinition=made["jobDefinitionArn"])
        told = second.describe_job_definitions(jobDefinitions=[f"{name}:1"], status="ACTIVE")["jobDefinitions"]
        assert [one["revision"] for one in told] == [1], told

# All tries of one call have the same invocation id, and make one job.
invocation = str(uuid.uuid4())


def named(request, **_):
    # boto3 adds it behind the signature.
    request.headers["amz-sdk-invocation-id"] = invocation


again = client()
again.meta.events.register("before-send.batch.*", named)
tries = [again.submit_job(jobName="once", jobQueue=QUEUE, jobDefinition="many")["jobId"] for _ in range(3)]
assert len(set(tries)) == 1, tries
revisions = [again.register_job_definition(jobDefinitionName="once", type="container", containerProperties=CONTAINER)["revision"]
             for _ in range(3)]
assert revisions == [1, 1, 1], revisions

# boto3 signs the same call twice within a second alike: jobs are told apart all the same, and anything else it signs once
# more for the second one.
for _ in range(3):
    batch.update_job_queue(jobQueue=QUEUE, priority=4)
alike = {batch.submit_job(jobName="alike", jobQueue=QUEUE, jobDefinition="many")["jobId"] for _ in range(5)}
assert len(alike) == 5, alike
print("done")
