use super::*;
use serde_json::json;

fn pod(uid: &str, job: Option<&str>, node: &str, cpu: &str, phase: &str) -> Arc<Pod> {
    let owners = job.map(|job| {
        json!([{"apiVersion": "batchyard.io/v1alpha1", "kind": "BatchJob", "name": job, "uid": job,
                "controller": true}])
    });
    let pod = serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid, "ownerReferences": owners},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": phase},
    }));
    let mut pod = pod.expect("a pod");
    trim(&mut pod);
    Arc::new(pod)
}

#[test]
fn counts_the_room_that_pods_take() {
    let index = PodIndex::default();
    let used = || index.taken().by_node["n1"].cpu_milli;
    let running = pod("a", Some("job"), "n1", "500m", "Running");
    assert_eq!(index.take(&Change::Applied(running)).as_deref(), Some("job"));
    assert_eq!(index.take(&Change::Applied(pod("b", None, "n1", "250m", "Running"))), None);
    assert_eq!(used(), 750);
    let ended = pod("a", Some("job"), "n1", "500m", "Succeeded");
    index.take(&Change::Applied(ended.clone()));
    assert_eq!(used(), 250, "an ended pod takes no room");
    assert_eq!(index.of_job("job").len(), 1);
    assert_eq!(index.take(&Change::Deleted(ended)).as_deref(), Some("job"));
    assert!(index.of_job("job").is_empty() && index.owners().is_empty());
    index.take(&Change::Deleted(pod("b", None, "n1", "250m", "Running")));
    assert!(index.taken().by_node.is_empty(), "an empty node is forgotten");
}

/// A tenant may write any uid there is into an owner reference of a pod.
#[test]
fn a_pod_of_another_namespace_belongs_to_no_job_that_is_known() {
    let homes = Homes::default();
    let index = PodIndex::marking(Marks::default(), homes.clone());
    let (key, is_there) = (name::part("job", None), |index: &PodIndex, key: &str| {
        [
            index.of_job("job").len(),
            index.of_part(key).len(),
            index.count_work("job"),
            index.has_work("job").into(),
            index.has_node("job").into(),
        ]
    });
    index.take(&Change::Applied(pod("a", Some("job"), "n1", "1", "Running")));
    for (home, is_believed) in [(None, true), (Some("ns"), true), (Some("other"), false)] {
        let job = home.map(|home| ("job".to_owned(), ObjectRef::new("job").within(home)));
        *homes.write().expect("a lock") = job.into_iter().collect();
        assert_eq!(is_there(&index, &key), [usize::from(is_believed); 5], "{home:?}");
    }
    assert_eq!(index.owners(), ["job"], "what is to be cleared away is found all the same");
}

#[test]
fn a_pod_of_a_job_has_a_node_until_it_has_ended() {
    let index = PodIndex::default();
    index.take(&Change::Applied(pod("waits", Some("job"), "", "1", "Pending")));
    for (node, phase, works) in [("", "Pending", false), ("n1", "Running", true), ("n1", "Succeeded", false)]
    {
        index.take(&Change::Applied(pod("a", Some("job"), node, "1", phase)));
        assert_eq!((index.has_node("job"), index.has_work("job")), (works, true), "{node} {phase}");
    }
}

#[test]
fn of_probes_only_that_of_a_log_sidecar_is_kept() {
    for (job, want) in [(Some("job"), vec!["batchyard-log"]), (None, vec![])] {
        let mut pod = Pod::clone(&pod("a", job, "n1", "1", "Running"));
        let spec = pod.spec.as_mut().expect("a spec");
        let probe = json!({"httpGet": {"port": 1}});
        let inits = json!([{"name": "batchyard-log", "readinessProbe": probe}, {"name": "x", "readinessProbe": probe}]);
        spec.init_containers = serde_json::from_value(inits).expect("containers");
        trim(&mut pod);
        let inits = pod.spec.and_then(|spec| spec.init_containers).expect("containers");
        let kept = inits.iter().filter(|one| one.readiness_probe.is_some()).map(|one| one.name.as_str());
        assert_eq!(kept.collect::<Vec<_>>(), want);
    }
}

#[test]
fn ports_of_nodes_are_counted_as_pods_come_and_go() {
    let index = PodIndex::default();
    let with = |uid: &str, node: &str, ports: serde_json::Value, phase: &str| {
        let mut pod = Pod::clone(&pod(uid, None, node, "1", phase));
        let spec = pod.spec.as_mut().expect("a spec");
        spec.containers[0].ports = serde_json::from_value(ports).expect("ports");
        trim(&mut pod);
        Change::Applied(Arc::new(pod))
    };
    let session = json!([{"containerPort": 8443, "hostPort": 8443, "protocol": "TCP"}]);
    let others = json!([{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}, {"containerPort": 8443},
        {"containerPort": 8443, "hostPort": 8443}]);
    let taken = || {
        let taken = index.taken();
        taken.ports.into_iter().map(|(node, ports)| format!("{node} {ports:?}")).collect::<Vec<_>>()
    };
    index.take(&with("a", "n1", session.clone(), "Running"));
    assert_eq!(taken(), ["n1 {8443: 1}"]);
    index.take(&with("b", "n1", others, "Running"));
    assert_eq!(taken(), ["n1 {8443: 2}"], "UDP and ports of pods are no matter");
    index.take(&with("a", "n1", session.clone(), "Succeeded"));
    assert_eq!(taken(), ["n1 {8443: 1}"], "an ended pod has none");
    index.take(&with("c", "", session, "Pending"));
    index.take(&Change::Deleted(pod("b", None, "n1", "1", "Running")));
    assert!(taken().is_empty(), "a node without any is forgotten");
}

/// An attempt pod of a job in an environment that takes so many vCPUs and a token.
fn placed(uid: &str, environment: &str, vcpus_milli: &str, node: &str, phase: &str) -> Change<Pod> {
    let mut pod = Pod::clone(&pod(uid, Some(uid), node, "1", phase));
    let annotations = [
        (meta::COMPUTE_ENVIRONMENT, environment),
        (meta::VCPUS_MILLI, vcpus_milli),
        (meta::CONSUMABLE_RESOURCES, r#"{"licence": 1}"#),
    ];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    pod.metadata.annotations = Some(annotations.into());
    Change::Applied(Arc::new(pod))
}

/// What is kept is what a look at all pods would find, whatever becomes of them.
#[test]
fn what_pods_take_is_counted_as_they_change() {
    let index = PodIndex::default();
    let told = |index: &PodIndex| {
        let taken = index.taken();
        let unbound: Vec<_> =
            taken.unbound.iter().map(|(pod, takes)| (&*pod.job_uid, takes.cpu_milli)).collect();
        let used = ["spot", "ec2"].map(|name| taken.vcpus_milli.get(name).map(|used| used["ns"]));
        format!("{used:?} {unbound:?} {}", taken.holders.len())
    };
    for (change, want) in [
        (placed("a", "spot", "1000", "", "Pending"), r#"[Some(1000), None] [("a", 1000)] 1"#),
        (placed("a", "spot", "1000", "n1", "Pending"), "[Some(1000), None] [] 1"),
        (placed("b", "spot", "500", "", "Pending"), r#"[Some(1500), None] [("b", 1000)] 2"#),
        (placed("b", "ec2", "500", "", "Pending"), r#"[Some(1000), Some(500)] [("b", 1000)] 2"#),
        (placed("c", "ec2", "0", "n1", "Running"), r#"[Some(1000), Some(500)] [("b", 1000)] 3"#),
        (placed("a", "spot", "1000", "n1", "Succeeded"), r#"[None, Some(500)] [("b", 1000)] 3"#),
        (Change::Deleted(pod("a", None, "", "1", "Succeeded")), r#"[None, Some(500)] [("b", 1000)] 2"#),
        (placed("b", "ec2", "500", "", "Failed"), "[None, None] [] 2"),
        (Change::Deleted(pod("b", None, "", "1", "Failed")), "[None, None] [] 1"),
        (Change::Deleted(pod("c", None, "", "1", "Failed")), "[None, None] [] 0"),
    ] {
        index.take(&change);
        assert_eq!(told(&index), want, "{change:?}");
    }
    assert!(index.taken().vcpus_milli.is_empty(), "what is not used is forgotten");
}

/// GPUs of another name than the usual one, which the summary of a pod's requests does not hold.
#[test]
fn resources_of_other_names_are_counted_too() {
    let mig = "nvidia.com/mig-1g.5gb";
    let with = |uid: &str, count: &str, phase: &str| {
        let mut pod = Pod::clone(&pod(uid, Some(uid), "n1", "1", phase));
        let container =
            json!({"name": "c", "resources": {"limits": {mig: count, "nvidia.com/gpu": "9", "cpu": "1"}}});
        pod.spec.as_mut().expect("a spec").containers =
            vec![serde_json::from_value(container).expect("a container")];
        Change::Applied(Arc::new(pod))
    };
    let index = PodIndex::default();
    let used = || index.taken().others_by_node.get("n1").map(|used| used[mig]);
    for (change, want) in [
        (with("a", "2", "Running"), Some(2)),
        (with("b", "1", "Pending"), Some(3)),
        (with("a", "2", "Succeeded"), Some(1)),
        (Change::Deleted(pod("b", None, "n1", "1", "Failed")), None),
    ] {
        index.take(&change);
        assert_eq!(used(), want, "{change:?}");
    }
    assert!(index.taken().others_by_node.is_empty(), "what is not used is forgotten");
}

#[test]
fn remembers_pods_that_lost_their_owner() {
    let index = PodIndex::default();
    let mut orphan = Pod::clone(&pod("a", None, "n1", "1", "Running"));
    orphan.metadata.finalizers = Some(vec![meta::ATTEMPT_FINALIZER.to_owned()]);
    let orphan = Arc::new(orphan);
    index.take(&Change::Applied(orphan.clone()));
    assert_eq!(index.orphans().len(), 1);
    index.take(&Change::Applied(pod("a", None, "n1", "1", "Running")));
    assert!(index.orphans().is_empty(), "released");
    index.take(&Change::Applied(orphan.clone()));
    index.take(&Change::Deleted(orphan));
    assert!(index.orphans().is_empty(), "gone");
}

/// G10: somebody takes the owner reference off a pod that no record speaks of yet.
#[test]
fn g10_a_pod_without_its_owner_reference_still_belongs_to_its_job() {
    let made_for = |pod: &Arc<Pod>, name: &str| {
        let mut pod = Pod::clone(pod);
        let annotations = [(meta::JOB, "render/job"), (meta::ATTEMPT, "2"), (meta::PLACEMENT, "0")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        pod.metadata.annotations = Some(annotations.into());
        pod.metadata.finalizers = Some(vec![meta::ATTEMPT_FINALIZER.to_owned()]);
        pod.metadata.name = Some(name.to_owned());
        Arc::new(pod)
    };
    let name = name::pod("render", "job", None, 2, 0);
    let index = PodIndex::default();
    index.take(&Change::Applied(made_for(&pod("a", Some("job"), "n1", "1", "Running"), &name)));
    let bare = made_for(&pod("a", None, "n1", "1", "Running"), &name);
    assert_eq!(index.take(&Change::Applied(bare.clone())).as_deref(), Some("job"));
    assert_eq!(index.of_job("job").len(), 1);
    assert!(index.orphans().is_empty());
    assert_eq!(job_of(&bare), Some(("render", "job")));
    let mut unheld = Pod::clone(&bare);
    unheld.metadata.finalizers = None;
    assert_eq!(owner(&unheld), Some("job"), "also without our finalizer");
    // A controller's word outranks an annotation, and a copy of the pod is nobody's.
    let of_another = made_for(&pod("a", Some("another"), "n1", "1", "Running"), &name);
    assert_eq!(owner(&of_another), Some("another"));
    assert_eq!(owner(&made_for(&bare, "copy")), None);
}
