//! What stands between two programs and loses answers: the request has arrived, and whoever asked does not learn it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

/// Carries connections to one address, until it is told to lose answers.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let to_lose = Arc::<AtomicUsize>::default();
        let left = to_lose.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, left.clone()));
            }
        });
        Self { address, to_lose }
    }

    /// The next answers are lost, each with its connection.
    pub(crate) fn lose(&self, answers: usize) {
        self.to_lose.store(answers, Ordering::SeqCst);
    }

    /// How many answers are still to be lost.
    pub(crate) fn left(&self) -> usize {
        self.to_lose.load(Ordering::SeqCst)
    }
}

/// Both ways; either end closes both.
async fn carry(mut client: TcpStream, target: SocketAddr, to_lose: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let back = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let fewer = |left: usize| left.checked_sub(1);
            let is_lost = to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok();
            if is_lost || to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = back => {}
    }
}
