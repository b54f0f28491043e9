//! A story: pods, what happens to them, and the pictures that are taken of it.

use anyhow::Result;
use serde_json::Value;

use super::moment::Moment;
use super::stage::Stage;

type Tell = Box<dyn Fn(&Stage<'_>) -> Result<()> + Send + Sync>;

/// Something that is made to happen, and the fixtures that it gives.
pub(super) struct Story {
    /// The fixtures' files without `.json`.
    pub(super) makes: Vec<&'static str>,
    /// Makes it happen.
    pub(super) tell: Tell,
}

/// Any story.
pub(super) fn story<const N: usize>(
    makes: [&'static str; N],
    tell: impl Fn(&Stage<'_>) -> Result<()> + Send + Sync + 'static,
) -> Story {
    Story { makes: makes.to_vec(), tell: Box::new(tell) }
}

/// A pod to which nothing is done, and its picture at one moment.
pub(super) fn one(fixture: &'static str, spec: Value, moment: fn() -> Moment) -> Story {
    story([fixture], move |stage| {
        let pod = stage.pod(&fixture.to_lowercase(), spec.clone())?;
        stage.picture(fixture, &pod, moment())
    })
}
