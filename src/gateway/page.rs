//! Lists by pages (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ListJobs.html>): a token says behind which
//! entry the next page begins, whatever came or went meanwhile.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::failure::Failure;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
}

impl Wanted {
    /// The page of entries that stand sorted by their keys.
    ///
    /// # Errors
    /// When `maxResults` is out of its bounds, or the token is none of this list's.
    pub(super) fn page<T>(
        &self,
        list: &str,
        most: usize,
        entries: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Failure> {
        let size = match self.max_results {
            None => most,
            Some(asked) => usize::try_from(asked)
                .ok()
                .filter(|asked| (1..=most).contains(asked))
                .ok_or_else(|| Failure::client(format!("maxResults must be between 1 and {most}")))?,
        };
        let after = match self.next_token.as_deref().filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => Some(open(list, token).ok_or_else(|| Failure::client("Invalid nextToken"))?),
        };
        let mut rest: Vec<T> = entries
            .into_iter()
            .filter(|entry| after.as_ref().is_none_or(|after| key(entry) > *after))
            .collect();
        let has_more = rest.len() > size;
        rest.truncate(size);
        let token = rest.last().filter(|_| has_more).map(|last| seal(list, &key(last)));
        Ok((rest, token))
    }
}

/// A token that says where a list goes on.
pub(super) fn seal(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}\n{key}"))
}

/// Where a list goes on, if the token is one of its own.
pub(super) fn open(list: &str, token: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (of, key) = text.split_once('\n')?;
    (of == list).then(|| key.to_owned())
}

/// A key by which the newest comes first.
pub(super) fn newest_first(millis: i64, id: &str) -> String {
    format!("{:020}/{id}", i64::MAX - millis.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n6_pages_together_are_the_list() {
        let all: Vec<String> = (0..25).map(|n| format!("{n:03}")).collect();
        let (mut wanted, mut seen) = (Wanted { max_results: Some(10), next_token: None }, Vec::new());
        loop {
            let (page, token) = wanted.page("a", 100, all.clone(), String::clone).expect("a page");
            seen.extend(page);
            match token {
                Some(token) => wanted.next_token = Some(token),
                None => break,
            }
        }
        assert_eq!(seen, all);
        let mut some = all.clone();
        some.retain(|entry| entry != "009");
        let first = Wanted { max_results: Some(10), next_token: None };
        let token = first.page("a", 100, all, String::clone).expect("a page").1;
        let next = Wanted { max_results: Some(10), next_token: token };
        assert_eq!(next.page("a", 100, some.clone(), String::clone).expect("a page").0[0], "010");
        next.page("b", 100, some.clone(), String::clone).expect_err("a token of another list");
        for wrong in [0, -1, 101] {
            let wanted = Wanted { max_results: Some(wrong), next_token: None };
            wanted.page("a", 100, some.clone(), String::clone).expect_err("out of bounds");
        }
        let nonsense = Wanted { max_results: None, next_token: Some("%%%".into()) };
        nonsense.page("a", 100, some, String::clone).expect_err("no token");
        assert!(newest_first(5, "a") < newest_first(4, "a"));
    }
}
