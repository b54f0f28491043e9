//! Filter patterns for text
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html>): terms that must all be there,
//! phrases in quotes, `?` before terms of which one is enough, `-` before those that may not be there.

use super::super::failure::Failure;

/// So long a pattern may be.
const LONGEST: usize = 1024;

/// What an event must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; an empty one lets everything through.
    ///
    /// # Errors
    /// When it is none, or one for JSON, for fields between spaces, or a regular expression.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        if text.chars().count() > LONGEST {
            return Err(refused(&format!("it may be {LONGEST} characters long")));
        }
        let mut found = Self::default();
        let mut rest = text.trim_start();
        for (sign, what) in [('{', "JSON"), ('[', "fields between spaces"), ('%', "regular expressions")] {
            if rest.starts_with(sign) {
                return Err(refused(&format!(
                    "patterns for {what} are not supported, only terms and phrases"
                )));
            }
        }
        while !rest.is_empty() {
            let (list, behind) = match rest.strip_prefix(['?', '-']) {
                Some(behind) if rest.starts_with('?') => (&mut found.any, behind),
                Some(behind) => (&mut found.none, behind),
                None => (&mut found.all, rest),
            };
            let (term, behind) = term(behind)?;
            list.push(term);
            rest = behind.trim_start();
        }
        // AWS ignores the `?` then, which nobody can have meant.
        let has_others = !found.all.is_empty() || !found.none.is_empty();
        if has_others && !found.any.is_empty() {
            return Err(refused("terms with ? cannot stand beside others"));
        }
        Ok(found)
    }

    /// True for the text of an event that is wanted. Capitals count.
    pub(super) fn matches(&self, text: &str) -> bool {
        let is_there = |term: &String| text.contains(term.as_str());
        self.all.iter().all(is_there)
            && (self.any.is_empty() || self.any.iter().any(is_there))
            && !self.none.iter().any(is_there)
    }
}

fn refused(why: &str) -> Failure {
    Failure::client(format!("filterPattern: {why}"))
}

/// The first term of a text, and what follows it.
fn term(text: &str) -> Result<(String, &str), Failure> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (term, rest) = text.split_at(end);
        if term.is_empty() || !term.chars().all(|c| c.is_alphanumeric() || c == '_') {
            // As AWS has it: what is no word needs quotes.
            return Err(refused(&format!("Invalid character(s) in term '{term}'; put it in double quotes")));
        }
        return Ok((term.to_owned(), rest));
    };
    let (mut term, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => {
                if term.is_empty() {
                    return Err(refused("a phrase cannot be empty"));
                }
                return Ok((term, &quoted[at + 1..]));
            }
            _ => {
                if escaped && !matches!(c, '"' | '\\') {
                    term.push('\\');
                }
                term.push(c);
                escaped = false;
            }
        }
    }
    Err(refused("a double quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching<'t>(pattern: &str, texts: &[&'t str]) -> Vec<&'t str> {
        let pattern = Pattern::read(pattern).expect(pattern);
        texts.iter().copied().filter(|text| pattern.matches(text)).collect()
    }

    #[test]
    fn terms_choose_events() {
        let texts = ["[ERROR 400] BAD REQUEST", "ERROR: no such file", "all is well", "error"];
        for (pattern, chosen) in [
            ("", &[0, 1, 2, 3][..]),
            ("  ", &[0, 1, 2, 3]),
            ("ERROR", &[0, 1]),
            ("ERROR 400", &[0]),
            ("\"no such file\"", &[1]),
            ("?400 ?well", &[0, 2]),
            ("?\"BAD REQUEST\"   ?error", &[0, 3]),
            ("ERROR -400", &[1]),
            ("-ERROR", &[2, 3]),
            ("-\"is well\"", &[0, 1, 3]),
            ("\"[ERROR\"", &[0]),
        ] {
            let expected: Vec<&str> = chosen.iter().map(|at| texts[*at]).collect();
            assert_eq!(matching(pattern, &texts), expected, "{pattern}");
        }
        assert_eq!(matching(r#""say \"hi\\\n\"""#, &[r#"say "hi\\n""#, "say hi"]), [r#"say "hi\\n""#]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (pattern, says) in [
            ("{ $.level = \"error\" }", "JSON"),
            ("[ip, user, status=4*]", "fields between spaces"),
            ("%ERR.*%", "regular expressions"),
            ("a.b", "Invalid character(s) in term 'a.b'"),
            ("a %b%", "Invalid character(s) in term '%b%'"),
            ("- a", "Invalid character(s) in term ''"),
            ("?a b", "cannot stand beside"),
            ("?a -b", "cannot stand beside"),
            ("\"a", "not closed"),
            ("\"\"", "cannot be empty"),
            (&"a ".repeat(600), "1024"),
        ] {
            let failure = Pattern::read(pattern).expect_err(pattern);
            assert!(failure.message().contains(says), "{pattern}: {failure:?}");
        }
    }
}
