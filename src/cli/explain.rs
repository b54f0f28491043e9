//! `kubectl batch explain-reason`: what a status reason means.

use std::fmt::Write as _;
use std::process::ExitCode;

use batchyard_core::reason::explain::{Explanation, all, explain};

use super::error::{Error, Kind, Result};
use super::print;

/// Which text.
#[derive(clap::Args, Debug)]
pub(super) struct ExplainArgs {
    /// A statusReason or a container's reason, or its beginning. Lists all that are known if it is left out.
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

pub(super) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    if args.text.is_empty() {
        let list = all().fold(String::new(), |mut list, known| {
            let _ = writeln!(list, "{}\n    {}", known.text, known.meaning);
            list
        });
        print(&list);
        return Error::done();
    }
    let text = args.text.join(" ");
    // Half a text is enough if it means one thing only.
    let begun: Vec<_> = all().filter(|known| !text.is_empty() && known.text.starts_with(&text)).collect();
    let only = match begun.as_slice() {
        [known] => Some(*known),
        _ => None,
    };
    let known = explain(&text).or(only).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("nothing is known of {text:?}")).with_hint(
            "kubectl batch explain-reason lists what is. Texts of the kubelet or of a registry are told as they came.",
        )
    })?;
    print(&page(known));
    Error::done()
}

fn page(known: &Explanation) -> String {
    format!(
        "{}\n\n  What it says   {}\n  Where from     {}\n  What to do     {}\n",
        known.text, known.meaning, known.cause, known.advice
    )
}
