//! `kubectl batch import-aws` and `export-aws`: from an account to a namespace, and back. No call to AWS is made: files
//! of the aws CLI are read, and written.

mod build;
mod changes;
mod export;
mod family;
mod folder;
mod import;
mod read;
mod report;
mod revisions;
#[cfg(test)]
mod tests;
mod why;

use serde_json::Value;

pub(super) use export::{ExportArgs, run as export};
pub(super) use import::{ImportArgs, run as import};

use super::error::{Error, Kind, Result};
use report::Report;

/// How the report is written.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Reporting {
    /// The file for the report; default: standard error.
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// How the report is written.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    report_format: String,
}

impl Reporting {
    /// Writes the report.
    ///
    /// # Errors
    /// When its file cannot be written.
    fn tell(&self, report: &Report) -> Result<()> {
        let text = if self.report_format == "json" { report.json() } else { report.text() };
        match &self.report {
            None => eprint!("{text}"),
            Some(file) => std::fs::write(file, text)
                .map_err(|error| Error::new(Kind::Failed, format!("{file}: {error}")))?,
        }
        Ok(())
    }
}

fn yaml(manifest: &Value) -> Result<String> {
    serde_saphyr::to_string(manifest)
        .map_err(|error| Error::new(Kind::Failed, format!("cannot print: {error}")))
}
