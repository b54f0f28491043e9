"""Every operation once or more, in the order in which people use them. Jobs go to an environment that was made before
and has no node, ever: one of ours without a provisioner has all nodes of the cluster, those of other tests, too."""

import sys

from common import CONTAINER, SEEN, client, refused, until

NOWHERE = sys.argv[1]
batch = client()

# Environments, with AWS's names.
made = batch.create_compute_environment(
    computeEnvironmentName="randomEC", type="MANAGED", state="ENABLED", tags={"team": "a"},
    computeResources={"type": "EC2", "minvCpus": 0, "maxvCpus": 8, "desiredvCpus": 0, "instanceTypes": ["optimal"],
                      "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"], "instanceRole": "ecsInstanceRole"})
environment_arn = made["computeEnvironmentArn"]
assert made["computeEnvironmentName"] == "randomEC" and environment_arn.endswith(":compute-environment/randomEC")
account = environment_arn.split(":")[4]
refused("ClientException", lambda: batch.create_compute_environment(computeEnvironmentName="randomEC", type="UNMANAGED"),
        "Object already exists")
for reference in ("randomEC", environment_arn):
    found = batch.describe_compute_environments(computeEnvironments=[reference])["computeEnvironments"]
    assert [one["computeEnvironmentName"] for one in found] == ["randomEC"], found
assert found[0]["computeResources"]["type"] == "EC2" and found[0]["state"] == "ENABLED", found
assert batch.describe_compute_environments(computeEnvironments=["absent"])["computeEnvironments"] == []
until("a VALID environment", lambda: batch.describe_compute_environments(
    computeEnvironments=["randomEC"])["computeEnvironments"][0]["status"] in ("VALID", "INVALID"))
batch.update_compute_environment(computeEnvironment="randomEC", computeResources={"maxvCpus": 16})
found = batch.describe_compute_environments(computeEnvironments=["randomEC"])["computeEnvironments"][0]
assert found["computeResources"]["maxvCpus"] == 16 and found["computeResources"]["instanceTypes"] == ["optimal"], found
refused("ClientException", lambda: batch.update_compute_environment(computeEnvironment="absent", state="ENABLED"), "not found")
refused("ClientException", lambda: batch.create_compute_environment(computeEnvironmentName="x", type="MANAGED"), "computeResources")

# Policies and queues.
policy = batch.create_scheduling_policy(name="Fair", fairsharePolicy={
    "shareDecaySeconds": 60, "computeReservation": 10,
    "shareDistribution": [{"shareIdentifier": "A*", "weightFactor": 0.5}]}, tags={"x": "y"})
batch.update_scheduling_policy(arn=policy["arn"], fairsharePolicy={"shareDecaySeconds": 120})
found = batch.describe_scheduling_policies(arns=[policy["arn"]])["schedulingPolicies"]
assert found[0]["fairsharePolicy"]["shareDecaySeconds"] == 120 and found[0]["tags"] == {"x": "y"}, found
assert {"arn": policy["arn"]} in batch.list_scheduling_policies()["schedulingPolicies"]
refused("ClientException", lambda: batch.update_scheduling_policy(arn="Fair"), "ARN")

order = [{"order": 1, "computeEnvironment": f"{environment_arn.rsplit('/', 1)[0]}/{NOWHERE}"}]
batch.create_job_queue(jobQueueName="related", priority=1,
                       computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment_arn}])
queue = batch.create_job_queue(jobQueueName="Queue_1", priority=5, computeEnvironmentOrder=order, tags={"q": "1"})
fair = batch.create_job_queue(jobQueueName="fair", priority=1, computeEnvironmentOrder=order,
                              schedulingPolicyArn=policy["arn"], state="ENABLED",
                              jobStateTimeLimitActions=[{"reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
                                                         "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}])
for reference in ("Queue_1", queue["jobQueueArn"]):
    found = batch.describe_job_queues(jobQueues=[reference])["jobQueues"]
    assert found[0]["jobQueueName"] == "Queue_1" and found[0]["computeEnvironmentOrder"] == order, found
found = batch.describe_job_queues(jobQueues=["fair"])["jobQueues"][0]
assert found["schedulingPolicyArn"] == policy["arn"], found
until("a VALID queue", lambda: batch.describe_job_queues(jobQueues=["Queue_1"])["jobQueues"][0]["status"] == "VALID")
batch.update_job_queue(jobQueue="Queue_1", priority=7)
assert batch.describe_job_queues(jobQueues=["Queue_1"])["jobQueues"][0]["priority"] == 7
refused("ClientException", lambda: batch.create_job_queue(
    jobQueueName="x", priority=1, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "absent"}]), "not found")
refused("ClientException", lambda: batch.create_job_queue(
    jobQueueName="x", priority=1, computeEnvironmentOrder=order,
    jobStateTimeLimitActions=[{"reason": "x", "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}]),
    "Invalid job reason")
refused("ClientException", lambda: batch.delete_scheduling_policy(arn=policy["arn"]), "uses this scheduling policy")

# Definitions.
first = batch.register_job_definition(jobDefinitionName="DCV-GPU-JD", type="container", containerProperties=CONTAINER,
                                      tags={"a": "1"}, retryStrategy={"attempts": 2}, timeout={"attemptDurationSeconds": 60},
                                      parameters={"p": "v"})
assert (first["jobDefinitionName"], first["revision"]) == ("DCV-GPU-JD", 1), first
second = batch.register_job_definition(jobDefinitionName="DCV-GPU-JD", type="container", containerProperties=CONTAINER)
assert second["revision"] == 2 and second["jobDefinitionArn"].endswith(":job-definition/DCV-GPU-JD:2"), second
def revisions(**asked):
    return [one["revision"] for one in batch.describe_job_definitions(**asked)["jobDefinitions"]]
assert revisions(jobDefinitionName="DCV-GPU-JD") == [2, 1]
assert revisions(jobDefinitions=["DCV-GPU-JD:1", second["jobDefinitionArn"]]) == [2, 1]
batch.deregister_job_definition(jobDefinition="DCV-GPU-JD:2")
assert revisions(jobDefinitionName="DCV-GPU-JD", status="ACTIVE") == [1]
assert revisions(jobDefinitionName="DCV-GPU-JD", status="INACTIVE") == [2]
third = batch.register_job_definition(jobDefinitionName="DCV-GPU-JD", type="container", containerProperties=CONTAINER)
assert third["revision"] == 3, third
assert revisions(jobDefinitionName="absent") == []
refused("ClientException", lambda: batch.register_job_definition(jobDefinitionName="x", type="container"), "exactly one of")
refused("ClientException", lambda: batch.register_job_definition(
    jobDefinitionName="x", type="container", containerProperties=CONTAINER,
    retryStrategy={"evaluateOnExit": [{"onExitCode": "1", "action": "retry"}]}), "RetryAttempts must be provided")
refused("ClientException", lambda: batch.register_job_definition(
    jobDefinitionName="x", type="container", containerProperties=CONTAINER, tags={"a": ";"}), "Tags can only contain")

# Tokens.
licence = batch.create_consumable_resource(consumableResourceName="Licence", totalQuantity=3, resourceType="REPLENISHABLE")
for token in ("one", "one", "two"):
    changed = batch.update_consumable_resource(consumableResource="Licence", operation="ADD", quantity=2, clientToken=token)
assert changed["totalQuantity"] == 7, "a try more changes nothing more"
refused("ClientException", lambda: batch.update_consumable_resource(
    consumableResource="Licence", operation="ADD", quantity=3, clientToken="two"), "clientToken")
refused("ClientException", lambda: batch.update_consumable_resource(consumableResource="Licence", operation="SET"),
        "'quantity' is a required field")
found = batch.describe_consumable_resource(consumableResource=licence["consumableResourceArn"])
assert (found["totalQuantity"], found["inUseQuantity"], found["availableQuantity"]) == (7, 0, 7), found
assert [one["consumableResourceName"] for one in batch.list_consumable_resources()["consumableResources"]] == ["Licence"]
assert batch.list_consumable_resources(filters=[{"name": "CONSUMABLE_RESOURCE_NAME", "values": ["X*"]}])["consumableResources"] == []
for name in ("licence", "LIC*"):
    found = batch.list_consumable_resources(filters=[{"name": "CONSUMABLE_RESOURCE_NAME", "values": [name]}])
    assert [one["consumableResourceName"] for one in found["consumableResources"]] == ["Licence"], name
refused("ClientException", lambda: batch.list_consumable_resources(
    filters=[{"name": "CONSUMABLE_RESOURCE_NAME", "values": []}]), "needs values")

# Jobs.
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="absent", jobDefinition="DCV-GPU-JD"),
        "JobQueue absent not found.")
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="Queue_1", jobDefinition="absent"), "not found")
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD:2"), "INACTIVE")
batch.register_job_definition(jobDefinitionName="refs", type="container",
                              containerProperties={**CONTAINER, "command": ["echo", "Ref::nobody"]})
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="Queue_1", jobDefinition="refs"),
        "Unable to substitute value. No parameter found for reference nobody")
job = batch.submit_job(jobName="refs", jobQueue="Queue_1", jobDefinition="refs", parameters={"nobody": "you"})
found = batch.describe_jobs(jobs=[job["jobId"]])["jobs"][0]
assert (found["container"]["command"], found["parameters"]) == (["echo", "Ref::nobody"], {"nobody": "you"}), found
batch.terminate_job(jobId=job["jobId"], reason="seen")
until("the end of the job", lambda: batch.describe_jobs(jobs=[job["jobId"]])["jobs"][0]["status"] == "FAILED")
refused("ClientException", lambda: batch.submit_job(jobName="-", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD"),
        "Job name should match valid pattern")
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD",
        shareIdentifier="A"), "onlybe submitted")
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="fair", jobDefinition="DCV-GPU-JD"), "shareIdentifier")
refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD",
        dependsOn=[{"jobId": "0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e"}]), "not found")
job = batch.submit_job(
    jobName="My_Job", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD", parameters={"x": "y"}, tags={"t": "1"},
    containerOverrides={"command": ["echo", "hi"], "environment": [{"name": "A", "value": "B"}],
                        "resourceRequirements": [{"type": "MEMORY", "value": "128"}]},
    retryStrategy={"attempts": 3}, timeout={"attemptDurationSeconds": 90},
    consumableResourcePropertiesOverride={"consumableResourceList": [{"consumableResource": "Licence", "quantity": 1}]})
assert job["jobName"] == "My_Job" and job["jobArn"].endswith(":job/" + job["jobId"]), job
def jobs(*ids):
    return batch.describe_jobs(jobs=list(ids))["jobs"]
found = jobs(job["jobId"])[0]
assert found["jobName"] == "My_Job" and found["jobQueue"] == queue["jobQueueArn"], found
assert found["jobDefinition"] == third["jobDefinitionArn"], found
assert found["container"]["command"] == ["echo", "hi"] and found["container"]["image"] == "busybox", found
assert {"type": "MEMORY", "value": "128"} in found["container"]["resourceRequirements"], found
assert found["retryStrategy"]["attempts"] == 3 and found["timeout"] == {"attemptDurationSeconds": 90}, found
assert found["parameters"] == {"x": "y"} and found["tags"] == {"t": "1"} and found["attempts"] == [], found
assert jobs(job["jobArn"])[0]["jobId"] == job["jobId"]
assert jobs("0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e", "nonsense", "x:1") == []
refused("ClientException", lambda: batch.describe_jobs(jobs=["x"] * 101), "Maximum number of jobs supported is  100")
until("a RUNNABLE job", lambda: jobs(job["jobId"])[0]["status"] == "RUNNABLE")
after = batch.submit_job(jobName="after", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD:1", dependsOn=[{"jobId": job["jobId"]}])
shared = batch.submit_job(jobName="shared", jobQueue="fair", jobDefinition="DCV-GPU-JD", shareIdentifier="A1",
                          schedulingPriorityOverride=3)
until("a PENDING job", lambda: jobs(after["jobId"])[0]["status"] == "PENDING")
assert jobs(after["jobId"])[0]["dependsOn"] == [{"jobId": job["jobId"]}]
def listed(**asked):
    return [one["jobName"] for one in batch.list_jobs(**asked)["jobSummaryList"]]
assert listed(jobQueue="Queue_1") == [], "RUNNING ones by default"
# A list may be some milliseconds behind the jobs that were submitted.
until("all jobs in lists", lambda: len(listed(jobQueue="Queue_1", jobStatus="ALL")) == 3
      and listed(jobQueue="fair", jobStatus="ALL") and listed(jobQueue="Queue_1", jobStatus="PENDING"))
assert listed(jobQueue=queue["jobQueueArn"], jobStatus="RUNNABLE") == ["My_Job"]
assert sorted(listed(jobQueue="Queue_1", jobStatus="ALL")) == ["My_Job", "after", "refs"]
assert listed(jobQueue="Queue_1", filters=[{"name": "JOB_NAME", "values": ["my_*"]}]) == ["My_Job"]
assert listed(jobQueue="Queue_1", filters=[{"name": "JOB_DEFINITION", "values": [first["jobDefinitionArn"]]}]) == ["after"]
assert listed(jobQueue="fair", filters=[{"name": "SHARE_IDENTIFIER", "values": ["A1"]}]) == ["shared"]
assert listed(jobQueue="fair", filters=[{"name": "AFTER_CREATED_AT", "values": ["1"]}]) == ["shared"]
assert listed(jobQueue="fair", filters=[{"name": "BEFORE_CREATED_AT", "values": ["1"]}]) == []
for name, values, says in [("AFTER_CREATED_AT", ["1", "2"], "takes one value"), ("JOB_NAME", [], "needs values"),
                           ("SHARE_IDENTIFIER", [], "needs values"), ("BEFORE_CREATED_AT", ["soon"], "is no time"),
                           ("JOB_STATUS", ["RUNNING"], "is none of")]:
    refused("ClientException", lambda: batch.list_jobs(jobQueue="fair", filters=[{"name": name, "values": values}]), says)
refused("ClientException", lambda: batch.list_jobs(), "jobQueue, arrayJobId and multiNodeJobId")
refused("ClientException", lambda: batch.list_jobs(jobQueue="absent"), "not found")
held = batch.list_jobs_by_consumable_resource(consumableResource="Licence")["jobs"]
assert [one["jobName"] for one in held] == ["My_Job"] and held[0]["quantity"] == 1, held
for filters, names in [([{"name": "JOB_NAME", "values": ["MY_*"]}], ["My_Job"]),
                       ([{"name": "JOB_STATUS", "values": ["RUNNING", "FAILED"]}], [])]:
    held = batch.list_jobs_by_consumable_resource(consumableResource="Licence", filters=filters)["jobs"]
    assert [one["jobName"] for one in held] == names, (filters, held)
for name, values in [("JOB_STATUS", ["RUN*"]), ("JOB_STATUS", []), ("JOB_NAME", []), ("SHARE_IDENTIFIER", ["A"])]:
    refused("ClientException", lambda: batch.list_jobs_by_consumable_resource(
        consumableResource="Licence", filters=[{"name": name, "values": values}]))
until("a front", lambda: batch.get_job_queue_snapshot(jobQueue="fair")["frontOfQueue"]["jobs"])

# Arrays.
array = batch.submit_job(jobName="array", jobQueue="Queue_1", jobDefinition="DCV-GPU-JD", arrayProperties={"size": 3})
until("a PENDING array", lambda: jobs(array["jobId"])[0]["status"] == "PENDING")
found = jobs(array["jobId"])[0]["arrayProperties"]
assert found["size"] == 3 and sum(found["statusSummary"].values()) == 3 and len(found["statusSummary"]) == 7, found
child = array["jobId"] + ":1"
found = jobs(child, array["jobId"] + ":7")
assert len(found) == 1 and found[0]["jobId"] == child and found[0]["arrayProperties"] == {"index": 1}, found
until("three RUNNABLE children", lambda: len(batch.list_jobs(
    arrayJobId=array["jobId"], jobStatus="RUNNABLE")["jobSummaryList"]) == 3)
refused("ClientException", lambda: batch.list_jobs(
    arrayJobId=array["jobId"], filters=[{"name": "JOB_NAME", "values": ["array"]}]), "filters")
refused("ClientException", lambda: batch.list_jobs(jobQueue="Queue_1", arrayJobId=array["jobId"]), "only one")
batch.terminate_job(jobId=child, reason="not this one")
until("the end of a child", lambda: jobs(child)[0]["status"] == "FAILED")
assert jobs(child)[0]["statusReason"] == "not this one", jobs(child)

# The ends.
batch.cancel_job(jobId=after["jobId"], reason="no more")
until("a cancelled job", lambda: jobs(after["jobId"])[0].get("isCancelled"))
batch.terminate_job(jobId=job["jobId"], reason="enough")
found = until("a FAILED job", lambda: [one for one in jobs(job["jobId"]) if one["status"] == "FAILED"])
assert found[0]["statusReason"] == "enough", found
for end in (batch.cancel_job, batch.terminate_job):
    end(jobId=job["jobId"], reason="again")
    end(jobId="0f8b3c1a-77aa-4bde-9c1d-2f3a4b5c6d7e", reason="nobody")
refused("ClientException", lambda: batch.cancel_job(jobId="", reason="x"), "'jobId' is a required field")
refused("ClientException", lambda: batch.terminate_job(jobId=job["jobId"], reason=""), "'reason' is a required field")
batch.terminate_job(jobId=array["jobId"], reason="enough")

# Tags of everything.
for arn, before in [(environment_arn, {"team": "a"}), (queue["jobQueueArn"], {"q": "1"}), (policy["arn"], {"x": "y"}),
                    (licence["consumableResourceArn"], {}), (job["jobArn"], {"t": "1"}),
                    (first["jobDefinitionArn"], {"a": "1"})]:
    assert batch.list_tags_for_resource(resourceArn=arn)["tags"] == before, arn
    batch.tag_resource(resourceArn=arn, tags={"new one": "v=1", "other": ""})
    batch.untag_resource(resourceArn=arn, tagKeys=["other", "new one"][:1] + ["absent"])
    assert batch.list_tags_for_resource(resourceArn=arn)["tags"] == {**before, "new one": "v=1"}, arn
    refused("ClientException", lambda: batch.tag_resource(resourceArn=arn, tags={"aws:x": "y"}), "reserved")
assert jobs(job["jobId"])[0]["tags"] == {"t": "1", "new one": "v=1"}
refused("ClientException", lambda: batch.list_tags_for_resource(resourceArn=f"arn:aws:batch:us-east-1:{account}:job-queue/absent"), "not found")

# Taking it all down, in the order that AWS wants.
refused("ClientException", lambda: batch.delete_job_queue(jobQueue="Queue_1"), "DISABLED")
refused("ClientException", lambda: batch.delete_compute_environment(computeEnvironment="randomEC"), "DISABLED")
batch.update_compute_environment(computeEnvironment="randomEC", state="DISABLED")
refused("ClientException", lambda: batch.delete_compute_environment(computeEnvironment="randomEC"),
        "Cannot delete, found existing JobQueue relationship")
for name in ("Queue_1", "fair", "related"):
    batch.update_job_queue(jobQueue=name, state="DISABLED")
    refused("ClientException", lambda: batch.submit_job(jobName="j", jobQueue=name, jobDefinition="DCV-GPU-JD"), "DISABLED")
    batch.delete_job_queue(jobQueue=name)
    until("the end of a queue", lambda: batch.describe_job_queues(jobQueues=[name])["jobQueues"] == [])
batch.delete_compute_environment(computeEnvironment=environment_arn)
until("the end of an environment", lambda: batch.describe_compute_environments(
    computeEnvironments=["randomEC"])["computeEnvironments"] == [])
batch.delete_scheduling_policy(arn=policy["arn"])
batch.delete_consumable_resource(consumableResource="Licence")
for gone in (batch.delete_job_queue, ):
    gone(jobQueue="Queue_1")
print(f"{len(SEEN)} members of answers seen")
