//! Options of `docker run` in a definition's parameter `command`.
//!
//! The post about interactive sessions registers its definition with the parameter `command: --network=host` and says
//! that this equals the option of the same name of `docker run`
//! (<https://aws.amazon.com/blogs/compute/how-to-run-3d-interactive-applications-with-nice-dcv-in-aws-batch/>).
//! A parameter is read that way only where it cannot be meant for `Ref::command`, and only in a definition: what a job
//! states about its parameters never decides about the network of its node.

/// The one option that has an effect.
pub const HOST_NETWORK: &str = "--network=host";
/// Where a command takes the parameter's value.
const REFERENCE: &str = "Ref::command";

/// What a definition's parameter `command` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerOptions {
    /// The containers have their node's network.
    pub host_network: bool,
    /// Options without effect, each with its value, in order.
    pub without_effect: Vec<String>,
}

/// Reads the parameter, given all elements of the definition's commands.
///
/// Nothing if it is no list of options, or if a command refers to it.
pub fn read<'a>(parameter: &str, mut commands: impl Iterator<Item = &'a str>) -> Option<DockerOptions> {
    if !parameter.trim_start().starts_with("--") || commands.any(refers_to_it) {
        return None;
    }
    let mut options: Vec<String> = Vec::new();
    for word in parameter.split_whitespace() {
        match options.last_mut() {
            // The value of the option before it; one that has its value takes no other.
            Some(option) if !word.starts_with('-') && option != HOST_NETWORK => {
                option.push(' ');
                option.push_str(word);
            }
            _ => options.push(word.to_owned()),
        }
    }
    let host_network = options.iter().any(|option| option == HOST_NETWORK);
    options.retain(|option| option != HOST_NETWORK);
    Some(DockerOptions { host_network, without_effect: options })
}

/// True if the element takes the parameter `command`, and not one whose name only begins like it.
fn refers_to_it(element: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    element.match_indices(REFERENCE).any(|(at, found)| !element[at + found.len()..].starts_with(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_hosts_network_has_an_effect() {
        for (parameter, command, want) in [
            ("--network=host", &[] as &[&str], Some((true, &[] as &[&str]))),
            ("  --network=host ", &["run"], Some((true, &[]))),
            ("--network=host --shm-size 1g --rm", &[], Some((true, &["--shm-size 1g", "--rm"]))),
            ("--gpus all -p 80:80 --network=host", &[], Some((true, &["--gpus all", "-p 80:80"]))),
            ("--network host", &[], Some((false, &["--network host"]))),
            ("--network=bridge", &[], Some((false, &["--network=bridge"]))),
            ("--network=hosts", &[], Some((false, &["--network=hosts"]))),
            ("--NETWORK=host", &[], Some((false, &["--NETWORK=host"]))),
            ("--", &[], Some((false, &["--"]))),
            ("-v /:/host", &[], None),
            ("echo --network=host", &[], None),
            ("", &[], None),
            ("--network=host", &["Ref::command"], None),
            ("--network=host", &["sh", "-c", "docker run Ref::command alpine"], None),
            ("--network=host", &["Ref::commands", "Ref::command-line"], Some((true, &[]))),
            ("--network=host", &["Ref::commands Ref::command"], None),
        ] {
            let got = read(parameter, command.iter().copied());
            let want = want.map(|(host_network, rest)| DockerOptions {
                host_network,
                without_effect: rest.iter().map(|option| (*option).to_owned()).collect(),
            });
            assert_eq!(got, want, "{parameter:?} {command:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::cases::config(256))]

        /// Nothing of the parameter is lost: it has its effect or it is named.
        #[test]
        fn each_word_has_an_effect_or_is_named(
            words in prop::collection::vec("(--network=host|--?[a-z]{1,3}(=[a-z]{1,3})?|[a-z]{1,3})", 0..6),
        ) {
            let parameter = format!("--x {}", words.join(" "));
            let options = read(&parameter, std::iter::empty()).expect("it begins with --");
            prop_assert_eq!(options.host_network, words.iter().any(|word| word == HOST_NETWORK));
            let named: Vec<_> = options.without_effect.iter().flat_map(|option| option.split(' ')).collect();
            let plain: Vec<_> = words.iter().map(String::as_str).filter(|word| *word != HOST_NETWORK).collect();
            prop_assert_eq!(&named[1..], &plain[..]);
        }
    }
}
