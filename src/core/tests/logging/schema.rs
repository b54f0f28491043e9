//! Each configuration is held against what Fluent Bit's plugins take.

use batchyard_core::logging::fluent_bit::facts::{Kind, all_properties, outputs, properties};
use batchyard_core::logging::fluent_bit::{Document, Plugin};
use batchyard_core::logging::sidecar::{Member, Part, Settings, Source, plan};

use super::{SETTINGS, honoured, least, options, read};

/// What a configuration has that Fluent Bit does not know.
pub(crate) fn unknown(document: &Document) -> Vec<String> {
    let service = all_properties(Kind::Service, "*").expect("the section service");
    let mut wrong: Vec<String> = document
        .service
        .iter()
        .filter(|(name, _)| !service.contains_key(name))
        .map(|(name, _)| format!("service: {name}"))
        .collect();
    let pipeline = &document.pipeline;
    let plugins = [
        (Kind::Input, &pipeline.inputs),
        (Kind::Filter, &pipeline.filters),
        (Kind::Output, &pipeline.outputs),
    ];
    for (kind, plugin) in
        plugins.into_iter().flat_map(|(kind, plugins)| plugins.iter().map(move |one| (kind, one)))
    {
        wrong.extend(of_plugin(kind, plugin));
    }
    wrong
}

fn of_plugin(kind: Kind, plugin: &Plugin) -> Vec<String> {
    let Some(known) = all_properties(kind, plugin.name) else {
        return vec![format!("{kind:?} {}", plugin.name)];
    };
    let names: Vec<&str> = plugin.properties.iter().map(|(name, _)| name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let twice = (sorted.len() < names.len()).then(|| format!("{}: a property twice", plugin.name));
    let unknown = names.iter().filter(|name| !known.contains_key(*name));
    twice.into_iter().chain(unknown.map(|name| format!("{kind:?} {}: {name}", plugin.name))).collect()
}

#[test]
fn the_list_itself() {
    assert_eq!(outputs().count(), 37, "{:?}", outputs().collect::<Vec<_>>());
    assert!(properties(Kind::Output, "splunk").expect("an output").any(|(name, _)| name == "splunk_token"));
    assert!(all_properties(Kind::Output, "splunk").expect("an output").contains_key("net.connect_timeout"));
    assert!(all_properties(Kind::Input, "tail").expect("an input").contains_key("multiline.parser"));
    let has_group = |name: &&str| {
        all_properties(Kind::Output, name).is_some_and(|all| all.contains_key("log_group_name"))
    };
    assert_eq!(outputs().filter(has_group).collect::<Vec<_>>(), ["cloudwatch_logs"]);
    assert!(properties(Kind::Output, "exit").is_none() && properties(Kind::Filter, "lua").is_none());
}

#[test]
fn fluent_bit_knows_all_that_each_option_becomes() {
    let mut looked_at = 0;
    for driver in honoured() {
        for options in options::each(driver).into_iter().chain([least(driver).to_vec()]) {
            let route = read(driver, &options).unwrap_or_else(|refusals| panic!("{options:?}: {refusals:?}"));
            for (part, source) in
                [(Part::Whole, Source::Folder), (Part::Child, Source::Api), (Part::Node, Source::Folder)]
            {
                let settings = Settings { source, ..SETTINGS };
                let sidecar = plan(&[Member { container: "default", route: &route }], part, &settings);
                assert_eq!(
                    unknown(&sidecar.expect("a container").document),
                    [] as [&str; 0],
                    "{driver:?} {options:?}"
                );
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 200, "only {looked_at}");
}
