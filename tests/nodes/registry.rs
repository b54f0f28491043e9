//! A registry that a case has for itself: a door to the cluster's, which opens and closes.
//!
//! containerd is told to ask here for images of a host name that only the case uses, so that
//! nobody else notices.

use std::io::{Read as _, Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use anyhow::{Context, Result};
use xtask::cluster;

use crate::scenario::Scenario;

/// What the registry does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nobody listens.
    Down,
    /// Takes requests and answers none until its mood changes.
    Silent,
    /// Answers everything with this status.
    Says(&'static str),
    /// Works.
    Well,
}

/// A registry of a case.
pub(crate) struct Registry {
    cluster: String,
    host: String,
    door: String,
    mood: Arc<(Mutex<Mood>, Condvar)>,
}

impl Registry {
    /// Opens one with this host name; it goes with the process.
    pub(crate) fn open(scenario: &Scenario<'_>, host: &str, mood: Mood) -> Result<Self> {
        let real = scenario.cluster.cluster.registry.clone().context("the cluster has a registry")?;
        let address = real.split(':').next().unwrap_or_default();
        let listener = TcpListener::bind((address, 0))?;
        let door = listener.local_addr()?.to_string();
        let registry = Self {
            cluster: scenario.cluster.cluster.name.clone(),
            host: format!("{host}.{}", scenario.namespace),
            door,
            mood: Arc::new((Mutex::new(mood), Condvar::new())),
        };
        let mood = Arc::clone(&registry.mood);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let (mood, real) = (Arc::clone(&mood), real.clone());
                // A caller who hangs up is no error.
                thread::spawn(move || drop(serve(caller, &mood, &real)));
            }
        });
        registry.become_(mood_of(&registry.mood))?;
        Ok(registry)
    }

    /// The name of an image of the cluster's registry, to be had here.
    pub(crate) fn image(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Changes its mood, also towards those who wait for an answer.
    pub(crate) fn become_(&self, mood: Mood) -> Result<()> {
        // Nothing listens on port 9 (discard) of the machine.
        let closed = self.door.split(':').next().map(|address| format!("{address}:9")).unwrap_or_default();
        let address = if mood == Mood::Down { &closed } else { &self.door };
        cluster::redirect_pulls(&self.cluster, &self.host, address)?;
        *self.mood.0.lock().expect("nobody panicked") = mood;
        self.mood.1.notify_all();
        Ok(())
    }
}

fn mood_of(mood: &(Mutex<Mood>, Condvar)) -> Mood {
    *mood.0.lock().expect("nobody panicked")
}

fn serve(mut caller: TcpStream, mood: &(Mutex<Mood>, Condvar), real: &str) -> std::io::Result<()> {
    let silent = mood.0.lock().expect("nobody panicked");
    let awake = mood.1.wait_while(silent, |mood| *mood == Mood::Silent).expect("nobody panicked");
    let mood = *awake;
    drop(awake);
    match mood {
        Mood::Down | Mood::Silent => Ok(()),
        Mood::Says(status) => {
            let mut request = [0; 4096];
            let _ = caller.read(&mut request)?;
            write!(caller, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Mood::Well => {
            let mut registry = TcpStream::connect(real)?;
            let (mut request, mut target) = (caller.try_clone()?, registry.try_clone()?);
            thread::spawn(move || {
                let _ = copy(&mut request, &mut target);
                target.shutdown(Shutdown::Write)
            });
            copy(&mut registry, &mut caller)?;
            caller.shutdown(Shutdown::Both)
        }
    }
}
