//! What a definition asks for that not everybody may have: accounts to act as, and ways out of a container. The policies of
//! the chart (`charts/batchyard/files/policies`) read the same members by the same rules, for those who write objects
//! themselves.

use std::collections::BTreeSet;

use batchyard_core::definition::docker_options::HOST_NETWORK;
use serde_json::Value;

use super::JobDefinitionSpec;

/// The options of `awslogs`, and of Fluent Bit's output to CloudWatch Logs, that name log groups.
const LOG_GROUPS: [&str; 3] = ["awslogs-group", "log_group_name", "log_group_template"];

/// What a definition asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `jobRoleArn`, `taskRoleArn` and `serviceAccountName`, as they are written.
    pub accounts: BTreeSet<String>,
    /// The log groups that options name, as they are written.
    pub log_groups: BTreeSet<String>,
    /// Names of privileges.
    pub privileges: BTreeSet<&'static str>,
}

impl Asked {
    /// Reads a definition.
    pub fn by(definition: &JobDefinitionSpec) -> Self {
        let spec = serde_json::to_value(definition).unwrap_or_default();
        let mut asked = Self::default();
        asked.runs(&spec, "containerProperties");
        for range in list(&spec["nodeProperties"]["nodeRangeProperties"]) {
            asked.runs(range, "container");
        }
        let options = spec["parameters"]["command"].as_str().unwrap_or_default();
        asked.privilege("host-network", options.contains(HOST_NETWORK));
        asked
    }

    /// What stands in a definition itself, or in one of its node ranges.
    fn runs(&mut self, place: &Value, container: &str) {
        self.account(&place[container]["jobRoleArn"]);
        self.aws_container(&place[container]);
        self.aws_volumes(&place[container]);
        for task in list(&place["ecsProperties"]["taskProperties"]) {
            self.account(&task["taskRoleArn"]);
            self.aws_volumes(task);
            self.privilege("host-network", task["networkMode"] == "host");
            self.privilege("host-namespaces", task["pidMode"] == "host" || task["ipcMode"] == "host");
            list(&task["containers"]).iter().for_each(|container| self.aws_container(container));
        }
        self.pod(&place["eksProperties"]["podProperties"]);
    }

    fn aws_container(&mut self, container: &Value) {
        self.privilege("privileged", container["privileged"] == true);
        self.privilege("devices", !list(&container["linuxParameters"]["devices"]).is_empty());
        let options = container["logConfiguration"]["options"].as_object();
        for (option, group) in options.into_iter().flatten() {
            if LOG_GROUPS.contains(&option.to_ascii_lowercase().as_str()) {
                self.log_groups.extend(group.as_str().filter(|group| !group.is_empty()).map(str::to_owned));
            }
        }
    }

    fn aws_volumes(&mut self, place: &Value) {
        let of_host =
            |volume: &Value| volume["host"]["sourcePath"].as_str().is_some_and(|path| !path.is_empty());
        self.privilege("host-path", list(&place["volumes"]).iter().any(of_host));
    }

    fn pod(&mut self, pod: &Value) {
        self.account(&pod["serviceAccountName"]);
        self.privilege("host-network", pod["hostNetwork"] == true);
        self.privilege("host-path", list(&pod["volumes"]).iter().any(|volume| !volume["hostPath"].is_null()));
        for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
            let security = &container["securityContext"];
            self.privilege("privileged", security["privileged"] == true);
            self.privilege("capabilities", !list(&security["capabilities"]["add"]).is_empty());
        }
    }

    fn account(&mut self, stated: &Value) {
        self.accounts.extend(stated.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
    }

    fn privilege(&mut self, name: &'static str, is_asked_for: bool) {
        self.privileges.extend(is_asked_for.then_some(name));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(spec: Value) -> (Vec<String>, Vec<&'static str>) {
        let spec = serde_json::from_value(spec).expect("a definition");
        let Asked { accounts, privileges, log_groups } = Asked::by(&spec);
        assert!(log_groups.is_empty(), "{log_groups:?}");
        (accounts.into_iter().collect(), privileges.into_iter().collect())
    }

    #[test]
    fn each_member_that_leads_out_of_a_container_is_seen() {
        for (container, privilege) in [
            (json!({"image": "i", "privileged": true}), "privileged"),
            (json!({"image": "i", "linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}}), "devices"),
            (json!({"image": "i", "volumes": [{"name": "v", "host": {"sourcePath": "/x"}}]}), "host-path"),
        ] {
            let alone = asked(json!({"type": "container", "containerProperties": container}));
            assert_eq!(alone, (vec![], vec![privilege]));
            let range = json!({"targetNodes": "0:", "container": container});
            let nodes = json!({"numNodes": 2, "mainNode": 0, "nodeRangeProperties": [range]});
            assert_eq!(
                asked(json!({"type": "multinode", "nodeProperties": nodes})),
                (vec![], vec![privilege])
            );
        }
        for (task, privilege) in [
            (json!({"containers": [{"image": "i", "privileged": true}]}), "privileged"),
            (
                json!({"containers": [{"image": "i", "linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}}]}),
                "devices",
            ),
            (
                json!({"volumes": [{"name": "v", "host": {"sourcePath": "/x"}}], "containers": []}),
                "host-path",
            ),
            (json!({"networkMode": "host", "containers": []}), "host-network"),
            (json!({"pidMode": "host", "containers": []}), "host-namespaces"),
            (json!({"ipcMode": "host", "containers": []}), "host-namespaces"),
        ] {
            let spec = json!({"type": "container", "ecsProperties": {"taskProperties": [task]}});
            assert_eq!(asked(spec), (vec![], vec![privilege]));
        }
        for (pod, privilege) in [
            (
                json!({"initContainers": [{"image": "i", "securityContext": {"privileged": true}}]}),
                "privileged",
            ),
            (
                json!({"containers": [{"image": "i", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}),
                "capabilities",
            ),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}), "host-path"),
            (json!({"hostNetwork": true}), "host-network"),
        ] {
            let spec = json!({"type": "container", "eksProperties": {"podProperties": pod}});
            assert_eq!(asked(spec), (vec![], vec![privilege]));
        }
        let spec = json!({"type": "container", "parameters": {"command": "--rm --network=host"}});
        assert_eq!(asked(spec), (vec![], vec!["host-network"]));
    }

    #[test]
    fn log_groups_are_found_in_each_container_whatever_the_case_of_the_option() {
        let container = |option: &str, group: &str| json!({"image": "i", "logConfiguration": {"logDriver": "awslogs", "options": {option: group, "x": "y"}}});
        let spec = json!({"type": "container",
            "containerProperties": container("awslogs-group", "/a"),
            "ecsProperties": {"taskProperties": [{"containers": [
                container("Log_Group_Name", "/b"), container("log_group_template", "/c/$x"), {"image": "i"}]}]},
            "nodeProperties": {"numNodes": 1, "mainNode": 0, "nodeRangeProperties": [
                {"targetNodes": "0:", "container": container("awslogs-group", "/d")}]}});
        let spec = serde_json::from_value(spec).expect("a definition");
        let groups: Vec<String> = Asked::by(&spec).log_groups.into_iter().collect();
        assert_eq!(groups, ["/a", "/b", "/c/$x", "/d"]);
    }

    #[test]
    fn accounts_are_found_as_they_are_written_and_nothing_else_is_asked_for() {
        let spec = json!({"type": "container",
            "containerProperties": {"image": "i", "jobRoleArn": "arn:aws:iam::1:role/r", "privileged": false,
                "linuxParameters": {"devices": []}, "volumes": [{"name": "v", "host": {"sourcePath": ""}}]},
            "ecsProperties": {"taskProperties": [{"taskRoleArn": "t", "networkMode": "none", "containers": []}]},
            "eksProperties": {"podProperties": {"serviceAccountName": "s", "hostNetwork": false}}});
        assert_eq!(asked(spec), (vec!["arn:aws:iam::1:role/r".into(), "s".into(), "t".into()], vec![]));
    }
}
