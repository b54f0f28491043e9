//! What `cargo xtask` is made of, as a library: the command line and the tests call the same
//! functions.

pub mod bench;
pub mod capture;
pub mod cluster;
mod crate_tool;
pub mod crds;
mod debian;
pub mod demo;
pub mod faults;
pub mod install;
pub mod interrupt;
pub mod package;
pub mod process;
pub mod rights;
pub mod sbom;
pub mod step;
pub mod test;
