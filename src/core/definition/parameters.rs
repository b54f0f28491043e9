//! `Ref::name` in a command stands for a parameter: the job's, else the definition's
//! (<https://docs.aws.amazon.com/batch/latest/userguide/job_definition_parameters.html#parameters>).
//!
//! AWS documents elements that are a reference and nothing else. Inside a longer element, as in `--in=Ref::input`, a
//! reference counts as well: its name is the longest run of letters, digits, `_` and `-` that follows. What a value
//! says is not looked at again. A parameter that nothing refers to is no error.
//!
//! The same goes for every list of words that AWS calls a command or the arguments of one.

use std::collections::BTreeMap;

use crate::reason;

/// Names and values.
pub type Parameters = BTreeMap<String, String>;

/// What stands before a parameter's name.
const REFERENCE: &str = "Ref::";

/// The longest command, in bytes, that values may make: few words can say a lot if they all repeat a long value. More
/// than Linux takes for one word, and far less than a pod may hold.
pub const LONGEST_COMMAND: usize = 256 * 1024;

/// The definition's parameters with the job's over them.
pub fn merge(definition: &Parameters, job: &Parameters) -> Parameters {
    let mut merged = definition.clone();
    merged.extend(job.iter().map(|(name, value)| (name.clone(), value.clone())));
    merged
}

/// The command with values in the place of references.
///
/// # Errors
/// AWS's sentence if a parameter is missing; one of ours if the values make the command too long.
pub fn substitute(command: &[String], parameters: &Parameters) -> Result<Vec<String>, String> {
    let mut room = LONGEST_COMMAND;
    command.iter().map(|element| element_of(element, parameters, &mut room)).collect()
}

/// One element; `room` is what is left of [`LONGEST_COMMAND`] for values.
fn element_of(element: &str, parameters: &Parameters, room: &mut usize) -> Result<String, String> {
    // An element that is one reference may name any parameter, whatever characters its name has.
    if let Some(name) = element.strip_prefix(REFERENCE).filter(|name| parameters.contains_key(*name)) {
        return value_of(name, parameters, room).map(str::to_owned);
    }
    let mut substituted = String::with_capacity(element.len());
    let mut rest = element;
    while let Some((before, after)) = rest.split_once(REFERENCE) {
        substituted.push_str(before);
        let end = after.find(|c: char| !is_of_name(c)).unwrap_or(after.len());
        let (name, behind) = after.split_at(end);
        // Without a name it is no reference.
        substituted.push_str(if name.is_empty() { REFERENCE } else { value_of(name, parameters, room)? });
        rest = behind;
    }
    substituted.push_str(rest);
    Ok(substituted)
}

fn value_of<'p>(name: &str, parameters: &'p Parameters, room: &mut usize) -> Result<&'p str, String> {
    let value = parameters.get(name).ok_or_else(|| reason::parameter_missing(name))?;
    *room = room.checked_sub(value.len()).ok_or_else(|| reason::command_too_long(LONGEST_COMMAND))?;
    Ok(value)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn references() {
        let known = parameters(&[
            ("codec", "mp4"),
            ("in", "a b.avi"),
            ("with.dot and space", "odd"),
            ("recursive", "Ref::codec"),
            ("empty", ""),
            ("a-1", "dash"),
            ("a", "plain"),
        ]);
        for (element, want) in [
            ("ffmpeg", Ok("ffmpeg")),
            ("Ref::codec", Ok("mp4")),
            ("Ref::in", Ok("a b.avi")),
            ("--in=Ref::in", Ok("--in=a b.avi")),
            ("Ref::in.Ref::codec", Ok("a b.avi.mp4")),
            // A colon ends a name.
            ("Ref::codecRef::codec", Err("codecRef")),
            ("Ref::with.dot and space", Ok("odd")),
            ("Ref::recursive", Ok("Ref::codec")),
            ("Ref::empty", Ok("")),
            ("[Ref::empty]", Ok("[]")),
            ("Ref::a-1", Ok("dash")),
            ("Ref::a/1", Ok("plain/1")),
            ("Ref::", Ok("Ref::")),
            ("Ref:: codec", Ok("Ref:: codec")),
            ("ref::codec", Ok("ref::codec")),
            ("Ref:codec", Ok("Ref:codec")),
            ("Ref::missing", Err("missing")),
            ("x Ref::codec Ref::missing.x", Err("missing")),
            ("Ref::codec2", Err("codec2")),
            ("--x=Ref::with.dot and space", Err("with")),
        ] {
            let got = substitute(&[element.to_owned()], &known);
            let want = want.map(|text| vec![text.to_owned()]).map_err(|name| {
                format!("Unable to substitute value. No parameter found for reference {name}")
            });
            assert_eq!(got, want, "{element}");
        }
    }

    #[test]
    fn a_job_s_values_come_first() {
        let definition = parameters(&[("codec", "mp4"), ("in", "a.avi")]);
        let merged = merge(&definition, &parameters(&[("codec", "webm"), ("out", "b")]));
        assert_eq!(merged, parameters(&[("codec", "webm"), ("in", "a.avi"), ("out", "b")]));
    }

    #[test]
    fn a_long_value_cannot_be_repeated_for_ever() {
        let known = parameters(&[("long", &"x".repeat(32_768))]);
        let repeated = "Ref::long ".repeat(3000);
        let error = substitute(&[repeated], &known).expect_err("too long");
        assert_eq!(error, "command: its parameters make it longer than 262144 bytes");
        let fits = vec!["Ref::long".to_owned(); LONGEST_COMMAND / 32_768];
        assert!(substitute(&fits, &known).is_ok());
    }
}
