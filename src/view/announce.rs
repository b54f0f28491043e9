//! Says where the leader is, and how to know it.
//!
//! The chart makes a Service without a selector and the APIService that points to it. Whoever leads fills in
//! the Service's EndpointSlice and the APIService's `caBundle`, so that no question ever reaches a stand-by.

use std::net::IpAddr;

use anyhow::Result;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ObjectMeta;
use kube::{Api, Resource as _};

use crate::crd::waiting_job::{VIEW_GROUP, VIEW_VERSION};
use crate::k8s::apply::Writer;
use crate::k8s::meta;
use crate::k8s::read::read;

/// The port's name in the Service.
const PORT: &str = "view";

/// Where the leader is.
pub(super) struct Announcement {
    /// The Service, and the name of its one EndpointSlice.
    pub(super) service: String,
    pub(super) namespace: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// PEM.
    pub(super) authority: String,
}

impl Announcement {
    /// Writes what does not stand there yet.
    pub(super) async fn keep(&self, writer: &Writer) -> Result<()> {
        let services: Api<Service> = Api::namespaced(writer.client().clone(), &self.namespace);
        let what = format!("get Service {}/{}", self.namespace, self.service);
        let service = read(what, || services.get(&self.service)).await?;
        let slices: Api<EndpointSlice> = Api::namespaced(writer.client().clone(), &self.namespace);
        let what = format!("get EndpointSlice {}/{}", self.namespace, self.service);
        // It goes with the Service.
        let wanted = self.endpoint_slice(service.owner_ref(&()));
        let found = read(what, || slices.get_opt(&self.service)).await?;
        let stands =
            |slice: EndpointSlice| slice.endpoints == wanted.endpoints && slice.ports == wanted.ports;
        if !found.is_some_and(stands) {
            writer.apply_endpoint_slice(&wanted).await?;
        }
        let services: Api<APIService> = Api::all(writer.client().clone());
        let name = format!("{VIEW_VERSION}.{VIEW_GROUP}");
        let found = read(format!("get APIService {name}"), || services.get(&name)).await?;
        let authority = ByteString(self.authority.clone().into_bytes());
        if found.spec.and_then(|spec| spec.ca_bundle).as_ref() != Some(&authority) {
            writer.set_ca_bundle(&name, &authority).await?;
        }
        Ok(())
    }

    fn endpoint_slice(&self, owner: Option<OwnerReference>) -> EndpointSlice {
        let labels = [
            ("kubernetes.io/service-name", self.service.as_str()),
            ("endpointslice.kubernetes.io/managed-by", meta::OPERATOR),
        ];
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(self.service.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            address_type: if self.address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
            endpoints: vec![Endpoint {
                addresses: vec![self.address.to_string()],
                conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
                ..Endpoint::default()
            }],
            ports: Some(vec![EndpointPort {
                name: Some(PORT.to_owned()),
                port: Some(self.port.into()),
                protocol: Some("TCP".to_owned()),
                ..EndpointPort::default()
            }]),
        }
    }
}
