use super::*;
use crate::k8s::pods;

fn session(patch: Value) -> Session {
    let mut all = json!({"port": 8443});
    all.as_object_mut().expect("an object").extend(patch.as_object().cloned().unwrap_or_default());
    serde_json::from_value(all).expect("a session")
}

fn at(address: Value) -> Session {
    session(json!({"address": address}))
}

/// As the operator's cache has it.
fn pod(container: Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "desk-0f8b3c1a-1", "namespace": "team", "uid": "11aa",
            "finalizers": [meta::ATTEMPT_FINALIZER], "labels": {
            "batchyard.io/job-id": "0f8b", "batchyard.io/attempt": "1", "batchyard.io/job-name": "desk"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "log"},
            {"name": "default", "ports": [{"name": "session", "containerPort": 8443}]}]},
        "status": {"podIP": "10.1.0.7", "containerStatuses": [container]},
    });
    let mut pod = serde_json::from_value(pod).expect("a pod");
    pods::trim(&mut pod);
    pod
}

fn running(ready: bool, started: bool) -> Value {
    json!({"name": "default", "image": "", "imageID": "", "restartCount": 0, "ready": ready, "started": started,
        "state": {"running": {}}})
}

fn node(addresses: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}))
        .expect("a node")
}

/// Of a container without the probes it would be said that somebody is connected, for ever.
#[test]
fn an_annotation_does_not_say_which_container_is_asked() {
    let idle = session(json!({"idleTimeoutSeconds": 60, "idleProbe": {"tcpSocket": {}}}));
    let mut pod = pod(running(false, true));
    let log = json!({"name": "log", "image": "", "imageID": "", "restartCount": 0, "ready": true, "started": true,
        "state": {"running": {}}});
    let log = serde_json::from_value(log).expect("a status");
    pod.status.as_mut().and_then(|status| status.container_statuses.as_mut()).expect("statuses").push(log);
    for forged in ["", "log", "default", "default,log"] {
        pod.metadata.annotations = Some([(meta::AUXILIARY.to_owned(), forged.to_owned())].into());
        let sight = sight(&pod, &idle);
        assert_eq!((sight.progress, sight.connected), (Progress::Passing, false), "{forged}");
    }
}

#[test]
fn which_probe_answers_where() {
    let plain = session(json!({}));
    let idle = session(json!({"idleTimeoutSeconds": 60, "idleProbe": {"tcpSocket": {}}}));
    let ended = json!({"name": "default", "image": "", "imageID": "", "restartCount": 0, "ready": false,
        "state": {"terminated": {"exitCode": 0}}});
    use Progress::{Absent, Passing, Starting};
    for (name, session, container, progress, connected) in [
        ("starting", &plain, running(false, true), Starting, true),
        ("ready", &plain, running(true, true), Passing, true),
        ("ended", &plain, ended.clone(), Absent, true),
        ("starting, with an idle probe", &idle, running(false, false), Starting, false),
        ("nobody is connected", &idle, running(false, true), Passing, false),
        ("somebody is", &idle, running(true, true), Passing, true),
        ("ended, with an idle probe", &idle, ended, Absent, false),
    ] {
        let seen = sight(&pod(container), session);
        assert_eq!((seen.progress, seen.connected), (progress, connected), "{name}");
    }
    let mut going = pod(running(true, true));
    going.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-02T03:04:05Z")).expect("a time");
    assert_eq!(sight(&going, &plain).progress, Absent, "a pod that is being deleted takes nobody");
    assert_eq!(sight(&Pod::default(), &plain).progress, Absent);
}

/// The URL of a session on a node with these addresses, with what was made for it.
fn url(session: &Session, addresses: &Value, made: &[DynamicObject]) -> Result<String, String> {
    let (pod, node) = (pod(running(true, true)), node(addresses.clone()));
    Place { pod: &pod, session, node: Some(&node), host: "desk.example.com", made }.url()
}

#[test]
fn urls_by_address() {
    let both = json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}]);
    let internal =
        json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
    for (session, addresses, want) in [
        (session(json!({})), both.clone(), Ok("https://192.0.2.1:8443/")),
        (session(json!({})), internal.clone(), Ok("https://10.0.0.1:8443/")),
        (at(json!({"type": "NodeExternalIP"})), internal.clone(), Err("Node n1 has no ExternalIP")),
        (at(json!({"type": "NodeInternalIP", "port": 443})), both.clone(), Ok("https://10.0.0.1/")),
        (at(json!({"type": "PodIP"})), both.clone(), Ok("https://10.1.0.7:8443/")),
        (
            session(json!({"scheme": "http", "path": "/lab?x=1", "address": {"type": "PodIP"}})),
            both.clone(),
            Ok("http://10.1.0.7:8443/lab?x=1"),
        ),
        (at(json!({"type": "Ingress", "host": "h"})), both.clone(), Ok("https://desk.example.com/")),
        (
            session(
                json!({"scheme": "http", "address": {"type": "Ingress", "host": "h", "scheme": "https"}}),
            ),
            both.clone(),
            Ok("https://desk.example.com/"),
        ),
        (
            at(json!({"type": "Gateway", "host": "h", "gateway": {"name": "g"}})),
            both.clone(),
            Err("The session's route is not made yet"),
        ),
    ] {
        assert_eq!(
            url(&session, &addresses, &[]),
            want.map(str::to_owned).map_err(str::to_owned),
            "{session:?}"
        );
    }
}

#[test]
fn urls_of_services() {
    let addresses = json!([{"type": "ExternalIP", "address": "192.0.2.1"}]);
    let service = |spec: Value, status: Value| {
        let service = json!({"metadata": {"name": "session-11aa"}, "spec": spec, "status": status});
        vec![serde_json::from_value::<DynamicObject>(service).expect("an object")]
    };
    let balanced = |ingress: Value| {
        service(json!({"ports": [{"port": 443}]}), json!({"loadBalancer": {"ingress": [ingress]}}))
    };
    let ports = service(json!({"ports": [{"port": 8443, "nodePort": 30_001}]}), json!({}));
    for (session, made, want) in [
        (at(json!({"type": "Service"})), vec![], Err("The session's Service is not made yet")),
        (at(json!({"type": "Service"})), balanced(json!({"ip": "192.0.2.9"})), Ok("https://192.0.2.9/")),
        (
            at(json!({"type": "Service"})),
            balanced(json!({"hostname": "lb.example"})),
            Ok("https://lb.example/"),
        ),
        (
            at(json!({"type": "Service"})),
            ports.clone(),
            Err("The load balancer of the session's Service has no address yet"),
        ),
        (
            at(json!({"type": "Service", "serviceType": "NodePort"})),
            ports.clone(),
            Ok("https://192.0.2.1:30001/"),
        ),
        // The stated port is the Service's own; people come by the node's.
        (
            at(json!({"type": "Service", "serviceType": "NodePort", "port": 443})),
            ports.clone(),
            Ok("https://192.0.2.1:30001/"),
        ),
        (
            at(json!({"type": "Service", "serviceType": "ClusterIP"})),
            ports,
            Ok("https://session-11aa.team.svc:8443/"),
        ),
    ] {
        assert_eq!(
            url(&session, &addresses, &made),
            want.map(str::to_owned).map_err(str::to_owned),
            "{session:?}"
        );
    }
}

#[test]
fn a_route_counts_once_a_gateway_has_accepted_it() {
    let session = at(json!({"type": "Gateway", "host": "h", "gateway": {"name": "g"}}));
    let told = |conditions: Value| {
        let route = json!({"metadata": {"name": "r"}, "spec": {}, "status": {"parents": [{"conditions": conditions}]}});
        let route: DynamicObject = serde_json::from_value(route).expect("an object");
        let pod = pod(running(true, true));
        let made = [route.clone(), route];
        Place { pod: &pod, session: &session, node: None, host: "a.example", made: &made }.url()
    };
    assert_eq!(told(json!([{"type": "Accepted", "status": "True"}])).as_deref(), Ok("https://a.example/"));
    let refused = told(json!([{"type": "Accepted", "status": "False", "message": "no listener"}]));
    assert_eq!(refused, Err("No Gateway has accepted the session's route: no listener".to_owned()));
    assert!(told(json!([])).is_err_and(|why| why.ends_with("yet")));
}

#[test]
fn objects_belong_to_the_pod_and_lead_to_it_alone() {
    let route = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(GATEWAY_API, "v1", "HTTPRoute"));
    let made = |session: &Session| {
        let pod = pod(running(true, true));
        let kind = session.made_for().expect("objects are made");
        let made = Made { pod: &pod, session, host: "desk.example.com" };
        let objects =
            kinds(kind, Some(route.clone())).iter().map(|kind| made.object(kind)).collect::<Vec<_>>();
        serde_json::to_value(objects).expect("plain data")
    };
    let service = made(&at(json!({"type": "Service", "port": 443, "annotations": {"a": "b"}})));
    assert_eq!(service.as_array().map(Vec::len), Some(1));
    let service = &service[0];
    assert_eq!((&service["kind"], &service["apiVersion"]), (&json!("Service"), &json!("v1")));
    assert_eq!(service["metadata"]["name"], "session-11aa");
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "11aa");
    assert_eq!(service["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        service["spec"],
        json!({"type": "LoadBalancer", "publishNotReadyAddresses": false,
            "selector": {"batchyard.io/job-id": "0f8b", "batchyard.io/attempt": "1"},
            "ports": [{"name": "https-session", "appProtocol": "https", "protocol": "TCP", "port": 443,
                "targetPort": 8443}]})
    );
    let idle = session(
        json!({"idleTimeoutSeconds": 60, "idleProbe": {"tcpSocket": {}}, "address": {"type": "Service"}}),
    );
    assert_eq!(made(&idle)[0]["spec"]["publishNotReadyAddresses"], true);
    let ingress =
        made(&at(json!({"type": "Ingress", "host": "h", "tlsSecret": "cert", "ingressClassName": "nginx",
        "port": 444, "annotations": {"a": "b"}})));
    assert_eq!(ingress[0]["spec"]["type"], "ClusterIP");
    assert_eq!(ingress[0]["metadata"]["annotations"], Value::Null);
    assert_eq!(ingress[1]["metadata"]["annotations"], json!({"a": "b"}));
    let backend = json!({"service": {"name": "session-11aa", "port": {"number": 8443}}});
    assert_eq!(
        ingress[1]["spec"],
        json!({"ingressClassName": "nginx", "tls": [{"hosts": ["desk.example.com"], "secretName": "cert"}],
            "rules": [{"host": "desk.example.com",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]})
    );
    let route =
        made(&at(json!({"type": "Gateway", "host": "h", "gateway": {"name": "g", "namespace": "infra"}})));
    assert_eq!(
        route[1]["spec"],
        json!({"parentRefs": [{"group": GATEWAY_API, "kind": "Gateway", "name": "g", "namespace": "infra"}],
            "hostnames": ["desk.example.com"], "rules": [{"backendRefs": [{"name": "session-11aa", "port": 8443}]}]})
    );
    assert_eq!(route_kind(&session(json!({}))), "TLSRoute");
    assert_eq!(route_kind(&session(json!({"scheme": "http"}))), "HTTPRoute");
}

/// Whoever may submit a job may not make Services: the environment says what is made for sessions.
#[test]
fn an_environment_says_what_is_made() {
    let check = |policy: Value, session: &Session, host: Option<&str>| {
        let spec = json!({"type": "MANAGED", "sessions": policy});
        check_policy("ce", &serde_json::from_value(spec).expect("an environment"), session, "team", host)
    };
    let service = at(json!({"type": "Service"}));
    let ingress = at(json!({"type": "Ingress", "host": "h"}));
    let annotated = at(json!({"type": "Service", "annotations": {"a": "b"}}));
    let fine = json!({"objects": ["Service", "Ingress"], "hosts": ["*.example.com"], "annotations": ["a"]});
    for (policy, session, host, want) in [
        (Value::Null, &session(json!({})), None, Ok(())),
        (Value::Null, &at(json!({"type": "PodIP"})), None, Ok(())),
        (
            Value::Null,
            &service,
            None,
            Err("sessions.objects of ComputeEnvironment ce does not allow Service"),
        ),
        (
            json!({"objects": ["Ingress"]}),
            &service,
            None,
            Err("sessions.objects of ComputeEnvironment ce does not allow Service"),
        ),
        (fine.clone(), &service, None, Ok(())),
        (fine.clone(), &ingress, Some("a.example.com"), Ok(())),
        (
            fine.clone(),
            &ingress,
            Some("bank.org"),
            Err("sessions.hosts of ComputeEnvironment ce does not allow bank.org"),
        ),
        (fine, &annotated, None, Ok(())),
        (
            json!({"objects": ["Service"]}),
            &annotated,
            None,
            Err("sessions.annotations of ComputeEnvironment ce does not allow a"),
        ),
    ] {
        assert_eq!(check(policy.clone(), session, host), want.map_err(str::to_owned), "{policy} {session:?}");
    }
}

/// Of those who share an environment nobody gets another's host names, and where people may come in is the environment's
/// to say.
#[test]
fn an_environment_says_where_people_may_come_in() {
    let check = |more: Value, session: &Session, host: Option<&str>| {
        let mut policy =
            json!({"objects": ["Service", "Ingress", "Gateway"], "hosts": ["*.{namespace}.example.com"]});
        policy.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        let spec = json!({"type": "MANAGED", "sessions": policy});
        let spec = serde_json::from_value(spec).expect("an environment");
        check_policy("ce", &spec, session, "team", host).map_err(|why| {
            let why = why.strip_prefix("sessions.").expect("a member").to_owned();
            why.replace(" of ComputeEnvironment ce does not allow", ":")
        })
    };
    let service = |kind: Value| at(json!({"type": "Service", "serviceType": kind}));
    let ingress = |class: Value| at(json!({"type": "Ingress", "host": "h", "ingressClassName": class}));
    let route = |namespace: Value| {
        at(json!({"type": "Gateway", "host": "h", "gateway": {"name": "g", "namespace": namespace}}))
    };
    let none = Value::Null;
    let (any, inside) = (json!({}), json!({"serviceTypes": ["ClusterIP"]}));
    let nginx = json!({"ingressClassNames": ["nginx"]});
    let (infra, own) = (json!({"gateways": ["infra/g", "infra/h"]}), json!({"gateways": ["{namespace}/g"]}));
    let mine = Some("a.team.example.com");
    for (policy, session, host, want) in [
        (&any, ingress(none.clone()), mine, Ok(())),
        (&any, ingress(none.clone()), Some("a.other.example.com"), Err("hosts: a.other.example.com")),
        (&any, ingress(none.clone()), Some("a.b.team.example.com"), Err("hosts: a.b.team.example.com")),
        (&any, ingress(none.clone()), Some("team.example.com"), Err("hosts: team.example.com")),
        (&any, service(json!("NodePort")), None, Ok(())),
        (&inside, service(json!("ClusterIP")), None, Ok(())),
        (&inside, service(none.clone()), None, Err("serviceTypes: LoadBalancer")),
        (&inside, ingress(none.clone()), mine, Ok(())),
        (&nginx, ingress(json!("nginx")), mine, Ok(())),
        (&nginx, ingress(json!("other")), mine, Err("ingressClassNames: other")),
        (&nginx, ingress(none.clone()), mine, Err("ingressClassNames: an Ingress without a class")),
        (&any, route(json!("infra")), mine, Ok(())),
        (&infra, route(json!("infra")), mine, Ok(())),
        (&infra, route(none.clone()), mine, Err("gateways: team/g")),
        (&own, route(none.clone()), mine, Ok(())),
        (&own, route(json!("infra")), mine, Err("gateways: infra/g")),
    ] {
        let want = want.map_err(str::to_owned);
        assert_eq!(check(policy.clone(), &session, host), want, "{policy} {session:?} {host:?}");
    }
}
