//! The `batchyard` program.

use std::process::ExitCode;

use batchyard::k8s::error::chain;
use batchyard::settings::{NotifierSettings, Settings};
use batchyard::{crd, gateway, log_follow, notifier, operator, telemetry};
use clap::{Parser, Subcommand};

/// AWS Batch semantics for any Kubernetes cluster.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controllers and the dispatcher.
    Operator {
        #[command(flatten)]
        settings: Box<Settings>,
        /// How log lines look.
        #[arg(long, env = "BATCHYARD_LOG_FORMAT", default_value = "json")]
        log_format: telemetry::Format,
    },
    /// Send what happens to jobs where NotificationRules say.
    Notifier {
        #[command(flatten)]
        settings: Box<NotifierSettings>,
        /// How log lines look.
        #[arg(long, env = "BATCHYARD_LOG_FORMAT", default_value = "json")]
        log_format: telemetry::Format,
    },
    /// Serve the API of AWS Batch.
    Gateway {
        #[command(flatten)]
        settings: Box<gateway::settings::Settings>,
        /// How log lines look.
        #[arg(long, env = "BATCHYARD_LOG_FORMAT", default_value = "json")]
        log_format: telemetry::Format,
    },
    /// Follow the output of a pod's containers for its log sidecar.
    LogFollow {
        #[command(flatten)]
        settings: Box<log_follow::Settings>,
        /// How log lines look.
        #[arg(long, env = "BATCHYARD_LOG_FORMAT", default_value = "json")]
        log_format: telemetry::Format,
    },
    /// Print the CustomResourceDefinitions as YAML, one document each.
    Crds,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Operator { settings, log_format } => {
            telemetry::start(log_format);
            operator::operate(*settings).await
        }
        Command::Notifier { settings, log_format } => {
            telemetry::start(log_format);
            notifier::operate(*settings).await
        }
        Command::Gateway { settings, log_format } => {
            telemetry::start(log_format);
            gateway::run(*settings).await
        }
        Command::LogFollow { settings, log_format } => {
            telemetry::start(log_format);
            log_follow::run(*settings).await
        }
        Command::Crds => print_crds(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("batchyard: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> anyhow::Result<()> {
    for (_, yaml) in crd::render() {
        println!("---\n{yaml}");
    }
    Ok(())
}
