//! Docker's tags: text with `{{.Name}}` and the like in it
//! (<https://docs.docker.com/engine/logging/log_tags/>).
//!
//! | in the tag | becomes |
//! | --- | --- |
//! | `{{.ID}}` | the first 12 characters of the job's id |
//! | `{{.FullID}}` | the job's id, with the index of a child or a node |
//! | `{{.Name}}` | `<pod>_<container>` |
//! | `{{.ImageName}}` | the image, as the definition has it |

/// A part of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    ShortId,
    Id,
    Name,
    Image,
}

/// A tag, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(Vec<Part>);

/// What a tag tells of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The job's id, with the index of a child or a node.
    pub job_id: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// The image.
    pub image: &'a str,
}

/// Characters that mean themselves in a tag: it becomes a word in a list of Fluent Bit, and the name of an application
/// in a syslog message.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:#/@+=,".contains(c)
}

/// What a template may name.
const KNOWN: [(&str, Part); 4] =
    [(".ID", Part::ShortId), (".FullID", Part::Id), (".Name", Part::Name), (".ImageName", Part::Image)];

impl Tag {
    /// Reads a tag.
    ///
    /// # Errors
    /// What is wrong with it, without the option's name.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or("has a {{ without its }}")?;
            let known = KNOWN.iter().find(|(name, _)| *name == inside.trim()).map(|(_, part)| part.clone());
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(known.ok_or_else(|| {
                format!("has {{{{{inside}}}}}; known are {{{{.ID}}}}, {{{{.FullID}}}}, {{{{.Name}}}} and {{{{.ImageName}}}}")
            })?);
            rest = behind;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if !text.chars().all(is_plain))) {
            return Err("has more than letters, digits and - _ . : # / @ + = , beside what stands in {{…}}"
                .to_owned());
        }
        Ok(Self(parts))
    }

    /// Docker's default.
    pub fn id() -> Self {
        Self(vec![Part::ShortId])
    }

    /// The tag of a container.
    pub fn of(&self, subject: &Subject<'_>) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::ShortId => subject.job_id.chars().take(12).collect(),
            Part::Id => subject.job_id.to_owned(),
            Part::Name => format!("{}_{}", subject.pod, subject.container),
            Part::Image => subject.image.to_owned(),
        };
        self.0.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        job_id: "0f8b3c1a-77aa-4d5e-9b1c-2f3a4b5c6d7e:3",
        pod: "render-0f8b3c1a-3-1",
        container: "default",
        image: "alpine:3.20",
    };

    #[test]
    fn tags() {
        for (text, want) in [
            ("plain", "plain"),
            ("docker.{{.ID}}", "docker.0f8b3c1a-77a"),
            ("{{.FullID}}", "0f8b3c1a-77aa-4d5e-9b1c-2f3a4b5c6d7e:3"),
            ("{{.ImageName}}/{{ .Name }}/x", "alpine:3.20/render-0f8b3c1a-3-1_default/x"),
        ] {
            assert_eq!(Tag::read(text).expect(text).of(&SUBJECT), want, "{text}");
        }
        for text in [
            "",
            "a b",
            "a\"b",
            "a'b",
            "a\\b",
            "{{.Name",
            "{{.Hostname}}",
            "{{.DaemonName}}",
            "{{}}",
            "a}b",
            "{a",
            "{{.ID}}}",
            "${A}",
            "$x",
            "a\nb",
        ] {
            assert!(Tag::read(text).is_err(), "{text:?}");
        }
        assert_eq!(Tag::id().of(&SUBJECT), "0f8b3c1a-77a");
    }
}
