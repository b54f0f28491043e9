//! What changed since somebody looked last.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Uids of objects about which something changed. Cheap to clone: all clones are one.
///
/// Mark after the change can be seen, and look after the marks were taken: then nothing is missed.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Mutex<HashSet<String>>>);

impl Marks {
    /// Something changed about this object.
    pub fn mark(&self, uid: &str) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !marks.contains(uid) {
            marks.insert(uid.to_owned());
        }
    }

    /// The marks that were set since they were taken last.
    pub fn take(&self) -> HashSet<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
