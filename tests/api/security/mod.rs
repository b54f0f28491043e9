//! Who may do what: each test is named by what it denies, or by what is granted. People are ServiceAccounts with tokens of
//! their own and the roles of the chart; the policies of the chart hold in the namespaces of these tests alone.

mod canaries;
mod definitions;
mod door;
mod jobs;
mod log_groups;
mod metrics;
mod people;
mod pods;
mod privileges;
mod reserved;
mod roles;
mod runner;
mod sizes;
mod submitters;
