//! Reading the output of a container, through the API server, from the kubelet.

use std::time::Duration;

use futures::AsyncBufRead;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::time::timeout;
use tracing::warn;

use super::super::call::Call;
use super::super::failure::Failure;
use super::super::limits::Turn;
use super::lines::Lines;
use super::streams::Stream;
use crate::k8s::error::{Error, chain};

/// How long the first byte is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why an output is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is about this stream.
    Stream(Failure),
    /// No other stream could be read either.
    Any(Failure),
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Stream(failure) | Unread::Any(failure) => failure,
        }
    }
}

impl Call {
    /// The output of a stream from a second on. Few are read at a time, fewer for one key.
    pub(super) async fn read(
        &self,
        stream: &Stream,
        from: i64,
    ) -> Result<(Lines<impl AsyncBufRead + Unpin + use<>>, Turn<'_>), Unread> {
        let turn = self.gateway.log_reads.take(&self.key.id).await;
        let pods: Api<Pod> = self.api();
        let params = LogParams {
            container: Some(stream.container.clone()),
            timestamps: true,
            since_time: Timestamp::from_second(from).ok().filter(|_| from > 0),
            ..LogParams::default()
        };
        let source = match timeout(DEADLINE, pods.log_stream(&stream.pod, &params)).await {
            Ok(Ok(source)) => source,
            Ok(Err(error)) => return Err(unread(stream, error)),
            Err(_) => return Err(Unread::Stream(unreachable(stream))),
        };
        Ok((Lines::of(Box::pin(source), from, stream.stopped.is_some()), turn))
    }
}

fn unread(stream: &Stream, source: kube::Error) -> Unread {
    let code = match &source {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    let error = Error::Api { what: format!("read the log of pod {}", stream.pod), source: Box::new(source) };
    match code {
        404 => Unread::Stream(Failure::absent(format!(
            "The output of log stream {} is gone with its pod.",
            stream.name
        ))),
        400 => Unread::Stream(Failure::absent(format!("Log stream {} has not begun.", stream.name))),
        // What the API server says then names addresses of the cluster.
        500 | 502 | 503 | 504 => {
            warn!(error = chain(&error), "a kubelet did not answer");
            Unread::Stream(unreachable(stream))
        }
        _ => Unread::Any(error.into()),
    }
}

fn unreachable(stream: &Stream) -> Failure {
    Failure::server(format!("The node that has the output of log stream {} does not answer.", stream.name))
}

/// The output of a stream broke off.
pub(super) fn broken(stream: &Stream, error: &std::io::Error) -> Unread {
    warn!(stream = stream.name, %error, "an output broke off");
    Unread::Stream(unreachable(stream))
}
