//! Lines that make one record: a record begins with each line that matches, and the lines up to the next one belong to
//! it, as the driver awslogs of Docker has it
//! (<https://docs.docker.com/engine/logging/drivers/awslogs/#awslogs-multiline-pattern>).
//!
//! On AWS patterns are those of Go (RE2); Fluent Bit matches with Onigmo, in Ruby's syntax. What both read alike is
//! taken, groups with names are rewritten, and the rest is refused.

use regex_syntax::ast::{self, Ast};

use super::value::Literal;

/// What the sequences of `awslogs-datetime-format` stand for
/// (<https://docs.docker.com/engine/logging/drivers/awslogs/#awslogs-datetime-format>).
const SEQUENCES: [(char, &str); 18] = [
    ('A', "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"),
    ('a', "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"),
    ('B', "(?:January|February|March|April|May|June|July|August|September|October|November|December)"),
    ('b', "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"),
    ('d', "(?:0[1-9]|[12][0-9]|3[01])"),
    ('f', "[0-9]{6}"),
    ('H', "(?:[01][0-9]|2[0-3])"),
    ('I', "(?:0[0-9]|1[0-2])"),
    ('j', "(?:[0-2][0-9]{2}|3[0-5][0-9]|36[0-6])"),
    ('L', "\\.[0-9]{3}"),
    ('M', "[0-5][0-9]"),
    ('m', "(?:0[1-9]|1[0-2])"),
    ('p', "[AP]M"),
    ('S', "[0-5][0-9]"),
    ('w', "[0-6]"),
    ('Y', "[0-9]{4}"),
    ('y', "[0-9]{2}"),
    ('z', "[+-][0-9]{4}"),
];
/// `%Z`, a time zone's name.
const ZONE: &str = "[A-Z]{1,4}T";

/// How the first line of a record looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiline(Literal);

impl Multiline {
    /// From `awslogs-multiline-pattern`.
    ///
    /// # Errors
    /// What is wrong with it, without the option's name.
    pub fn pattern(text: &str) -> Result<Self, String> {
        expression(text).map(Self)
    }

    /// From `awslogs-datetime-format`. As with Docker, what is no sequence is a part of a regular expression, so that
    /// brackets need a backslash.
    ///
    /// # Errors
    /// What is wrong with it, without the option's name.
    pub fn datetime(text: &str) -> Result<Self, String> {
        Literal::read(text)?;
        let mut pattern = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                pattern.push(c);
                continue;
            }
            match rest.next() {
                Some('%') => pattern.push('%'),
                Some('Z') => pattern.push_str(ZONE),
                sequence => {
                    let known = SEQUENCES.iter().find(|(known, _)| Some(*known) == sequence);
                    let (_, stands_for) = known.ok_or_else(|| {
                        format!(
                            "has %{}, which is no part of a date",
                            sequence.map_or_else(String::new, String::from)
                        )
                    })?;
                    pattern.push_str(stands_for);
                }
            }
        }
        Self::pattern(&pattern)
    }

    /// The regular expression of a first line. It never begins with a slash, which Fluent Bit would take for the
    /// beginning of `/…/options`.
    pub fn first(&self) -> String {
        format!("(?:{})", self.0.as_str())
    }

    /// The regular expression of all other lines.
    pub fn other(&self) -> String {
        format!("^(?!.*(?:{}))", self.0.as_str())
    }
}

/// A regular expression that Go and Onigmo read alike, as Onigmo wants it written.
///
/// # Errors
/// What is wrong with it, without the option's name.
pub(super) fn expression(text: &str) -> Result<Literal, String> {
    Literal::read(text)?;
    let wrong = |error: String| format!("{text:?} is no regular expression: {error}");
    let tree = ast::parse::Parser::new().parse(text).map_err(|error| wrong(error.kind().to_string()))?;
    let named = ast::visit(&tree, Survey::default()).map_err(wrong)?;
    let mut written = text.to_owned();
    // From the back, so that what stands before keeps its place.
    for at in named.into_iter().rev() {
        written.replace_range(at..at + "(?P<".len(), "(?<");
    }
    Literal::read(&written)
}

/// What in an expression Onigmo would not read as Go does.
#[derive(Default)]
struct Survey {
    /// Where groups with names begin as Go writes them, in their order.
    named: Vec<usize>,
}

impl Survey {
    fn flags(flags: &ast::Flags) -> Result<(), String> {
        let strange = flags.items.iter().find(|item| {
            !matches!(
                item.kind,
                ast::FlagsItemKind::Negation | ast::FlagsItemKind::Flag(ast::Flag::CaseInsensitive)
            )
        });
        match strange {
            None => Ok(()),
            Some(_) => Err("of the flags only (?i) is understood".to_owned()),
        }
    }
}

impl ast::Visitor for Survey {
    type Output = Vec<usize>;
    type Err = String;

    fn finish(self) -> Result<Vec<usize>, String> {
        Ok(self.named)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Flags(set) => Self::flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::CaptureName { starts_with_p: true, .. } => {
                    self.named.push(group.span.start.offset);
                    Ok(())
                }
                ast::GroupKind::NonCapturing(flags) => Self::flags(flags),
                _ => Ok(()),
            },
            Ast::ClassUnicode(class) if matches!(class.kind, ast::ClassUnicodeKind::OneLetter(_)) => {
                Err("classes of Unicode are written with braces, as in \\p{L}".to_owned())
            }
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("the boundaries that are understood are ^, $, \\A, \\z, \\b and \\B".to_owned()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, want) in [
            ("^INFO", "^INFO"),
            ("^\\[\\d{4}/\\d{2}", "^\\[\\d{4}/\\d{2}"),
            ("(?i)error", "(?i)error"),
            ("(?P<level>INFO|WARN) \\(?P<x", "(?<level>INFO|WARN) \\(?P<x"),
            ("(?P<a>(?P<b>x))ü(?P<c>y)", "(?<a>(?<b>x))ü(?<c>y)"),
            ("[[:alpha:]]+\\p{L}", "[[:alpha:]]+\\p{L}"),
        ] {
            let multiline = Multiline::pattern(text).expect(text);
            assert_eq!(multiline.first(), format!("(?:{want})"), "{text}");
            assert_eq!(multiline.other(), format!("^(?!.*(?:{want}))"), "{text}");
        }
        for (text, what) in [
            ("", "empty"),
            ("(", "no regular expression"),
            ("[a", "no regular expression"),
            ("a**?{", "no regular expression"),
            ("(?=look)", "no regular expression"),
            ("(?s)a", "only (?i)"),
            ("(?x:a b)", "only (?i)"),
            ("\\pL", "\\p{L}"),
            ("\\b{start}a", "boundaries"),
            ("^${HOME}", "${"),
            ("a\nb", "line break"),
        ] {
            let error = Multiline::pattern(text).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn dates() {
        // As Docker's page has it.
        let multiline = Multiline::datetime("\\[%b %d, %Y %H:%M:%S\\]").expect("a format");
        assert_eq!(
            multiline.first(),
            "(?:\\[(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?:0[1-9]|[12][0-9]|3[01]), [0-9]{4} \
             (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\])"
        );
        let all: String = SEQUENCES.iter().map(|(letter, _)| format!("%{letter}")).collect();
        Multiline::datetime(&format!("{all}%Z%%")).expect("all sequences are read");
        for text in ["", "%", "%Q", "[%Y", "%Y\n"] {
            assert!(Multiline::datetime(text).is_err(), "{text:?}");
        }
    }
}
