//! Files in a folder of their own, which is written once.

use std::path::Path;

use super::super::error::{Error, Kind, Result};

/// Refuses a folder that has something in it.
///
/// # Errors
/// When it has.
pub(super) fn must_be_empty(folder: &Path) -> Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!("{} is not empty", folder.display()))
            .with_hint("What an earlier run left there would count, too: give another folder."));
    }
    Ok(())
}

/// Writes a file, and makes its folder.
///
/// # Errors
/// When that is impossible.
pub(super) fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let failed = |path: &Path, error: &std::io::Error| {
        Error::new(Kind::Failed, format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let path = folder.join(file);
    std::fs::write(&path, text).map_err(|error| failed(&path, &error))
}
