//! What the aws CLI printed: which objects it tells of.

use std::io::Read as _;

use serde_json::{Map, Value};

use super::super::error::{Error, Kind, Result};
use super::family::{self, Family};

/// Beside a list of objects.
const AROUND: [&str; 3] = ["nextToken", "NextToken", "ResponseMetadata"];

/// An object as AWS tells of it, or as its JSON makes one.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) family: &'static Family,
    pub(super) stated: Map<String, Value>,
    /// The file that tells of it.
    pub(super) file: String,
}

impl Item {
    /// A member that is a text.
    pub(super) fn text(&self, member: &str) -> &str {
        self.stated.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// AWS's name.
    pub(super) fn name(&self) -> &str {
        self.text(self.family.name)
    }

    /// True if AWS tells of an object that it has; else somebody wrote this to make one.
    pub(super) fn is_described(&self) -> bool {
        self.stated.contains_key(self.family.arn)
    }

    /// What all ARNs of its account begin with, if AWS tells of it.
    pub(super) fn owner(&self) -> Option<&str> {
        owner(self.text(self.family.arn))
    }

    /// The number of a revision.
    pub(super) fn revision(&self) -> Option<u32> {
        u32::try_from(self.stated.get("revision")?.as_u64()?).ok().filter(|number| *number > 0)
    }
}

/// `arn:aws:batch:eu-west-1:123456789012`, of an ARN.
pub(super) fn owner(arn: &str) -> Option<&str> {
    let end = arn.match_indices(':').nth(4)?.0;
    arn.starts_with("arn:").then(|| &arn[..end])
}

/// The files that are meant, for a folder those in it that hold JSON or YAML, in the order of their names.
///
/// # Errors
/// When a folder cannot be read, or holds none.
pub(super) fn files(named: &[String]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for name in named {
        if !std::path::Path::new(name).is_dir() {
            files.push(name.clone());
            continue;
        }
        let unreadable = |error: std::io::Error| Error::new(Kind::NotFound, format!("{name}: {error}"));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(name).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if path.is_file() && ["json", "yaml", "yml"].contains(&ending) {
                found.push(path.display().to_string());
            }
        }
        if found.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("{name} holds no .json, .yaml or .yml file")));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// What a file holds, `-` being standard input.
///
/// # Errors
/// When it cannot be read.
pub(super) fn file(file: &str) -> Result<String> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| Error::new(Kind::NotFound, format!("{file}: {error}")))
}

/// The documents in a text: JSON, one behind the other, or YAML.
///
/// # Errors
/// When it is neither.
pub(super) fn documents(file: &str, text: &str) -> Result<Vec<Value>> {
    let read: std::result::Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(text).into_iter().collect();
    let unreadable = |why: String| Error::new(Kind::Invalid, format!("{file}: {why}"));
    match read {
        Ok(documents) => Ok(documents),
        Err(error) if text.trim_start().starts_with(['{', '[']) => Err(unreadable(error.to_string())),
        Err(_) => serde_saphyr::from_multiple(text).map_err(|error| unreadable(error.to_string())),
    }
}

/// The objects that a text tells of, and what should be known about the text.
///
/// # Errors
/// When something in it is not of AWS Batch, or of a kind that is not known here.
pub(super) fn items(file: &str, text: &str, notes: &mut Vec<String>) -> Result<Vec<Item>> {
    let mut found = Vec::new();
    for document in documents(file, text)? {
        let unknown = |what: &str| {
            Error::new(Kind::Invalid, format!("{file}: {what}")).with_hint(
                "Give the output of aws batch describe-compute-environments, describe-job-queues, \
                 describe-scheduling-policies, describe-job-definitions or list-consumable-resources, or JSON for \
                 create-… and register-job-definition.",
            )
        };
        let Value::Object(document) = document else { return Err(unknown("a document is no JSON object")) };
        if let Some(family) = single(&document) {
            found.push(Item { family, stated: document, file: file.to_owned() });
            continue;
        }
        if document.get("nextToken").or(document.get("NextToken")).is_some_and(Value::is_string) {
            notes.push(format!("{file} has a nextToken: it is one page of several; give the others too"));
        }
        let mut lists = 0;
        for (member, value) in document {
            let family = family::ALL.into_iter().find(|family| family.list == member);
            match (family, value) {
                (Some(family), Value::Array(list)) => {
                    lists += 1;
                    for (index, element) in list.into_iter().enumerate() {
                        let Value::Object(stated) = element else {
                            return Err(unknown(&format!("{member}[{index}] is no JSON object")));
                        };
                        let item = Item { family, stated, file: file.to_owned() };
                        if item.name().is_empty() {
                            return Err(unknown(&format!("{member}[{index}] has no {}", family.name)));
                        }
                        found.push(item);
                    }
                }
                (Some(_), _) => return Err(unknown(&format!("{member} is no list"))),
                (None, _) if AROUND.contains(&member.as_str()) => {}
                (None, _) => return Err(unknown(&format!("{member} is not known here"))),
            }
        }
        if lists == 0 {
            return Err(unknown("a document tells of nothing"));
        }
    }
    Ok(found)
}

/// The family of a document that is one object.
fn single(document: &Map<String, Value>) -> Option<&'static Family> {
    let is_text = |member: &str| {
        document.get(member).is_some_and(|name| name.as_str().is_some_and(|name| !name.is_empty()))
    };
    // Many things have a name: a policy has nothing that policies have not.
    let of_policies = |member: &String| {
        let member = member.as_str();
        family::POLICY.members.contains(&member) || family::POLICY.told.contains(&member)
    };
    let is_policy = document.keys().all(of_policies);
    family::ALL
        .into_iter()
        .find(|family| is_text(family.name) && (family.kind != family::POLICY.kind || is_policy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> (Vec<(&'static str, String)>, Vec<String>) {
        let mut notes = Vec::new();
        let items = items("f", text, &mut notes).expect("it can be read");
        (items.iter().map(|item| (item.family.kind, item.name().to_owned())).collect(), notes)
    }

    #[test]
    fn a_document_is_known_by_its_members() {
        let queues = json!({"jobQueues": [{"jobQueueName": "a"}, {"jobQueueName": "b"}]}).to_string();
        let policy = json!({"name": "p", "fairsharePolicy": {}}).to_string();
        let (found, notes) = read(&format!("{queues}\n{policy}"));
        assert_eq!(
            found,
            [("JobQueue", "a".into()), ("JobQueue", "b".into()), ("SchedulingPolicy", "p".into())]
        );
        assert_eq!(notes, [""; 0]);
        let page = json!({"jobDefinitions": [{"jobDefinitionName": "d", "revision": 2}], "nextToken": "x"});
        assert_eq!(
            read(&page.to_string()).1,
            ["f has a nextToken: it is one page of several; give the others too"]
        );
        assert_eq!(
            read("computeEnvironments:\n- computeEnvironmentName: e\n").0,
            [("ComputeEnvironment", "e".into())]
        );
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        for (text, says) in [
            (json!({"serviceEnvironments": []}).to_string(), "f: serviceEnvironments is not known here"),
            (json!({"jobs": []}).to_string(), "f: jobs is not known here"),
            (json!({"jobQueues": {}}).to_string(), "f: jobQueues is no list"),
            (json!({"jobQueues": [{}]}).to_string(), "f: jobQueues[0] has no jobQueueName"),
            (json!({}).to_string(), "f: a document tells of nothing"),
            ("[]".to_owned(), "f: a document is no JSON object"),
            ("{".to_owned(), "f: EOF"),
        ] {
            let error = items("f", &text, &mut Vec::new()).expect_err(says).to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn an_arn_tells_whose_it_is() {
        let queue = "arn:aws:batch:eu-west-1:123456789012:job-queue/q";
        assert_eq!(owner(queue), Some("arn:aws:batch:eu-west-1:123456789012"));
        assert_eq!(owner("a:b:c:d:e:f"), None);
        assert_eq!(owner("arn:aws"), None);
    }

    #[test]
    fn a_folder_stands_for_its_files() {
        let folder = std::env::temp_dir().join(format!("batchyard-import-{}", std::process::id()));
        let at = folder.display().to_string();
        std::fs::create_dir_all(folder.join("deeper.json")).expect("a folder can be made");
        let nothing = files(std::slice::from_ref(&at)).expect_err("no file").to_string();
        assert_eq!(nothing, format!("{at} holds no .json, .yaml or .yml file"));
        for name in ["b.json", "a.yaml", "notes.txt"] {
            std::fs::write(folder.join(name), "{}").expect("it can be written");
        }
        let found = files(&["-".to_owned(), at.clone()]).expect("files");
        std::fs::remove_dir_all(&folder).expect("it can be removed");
        assert_eq!(found, ["-".to_owned(), format!("{at}/a.yaml"), format!("{at}/b.json")]);
    }
}
