//! `varve cluster quorum add-voter` and `remove-voter`: who votes in the metadata quorum.

use clap::Subcommand;

use super::super::connection::ConnectionArgs;
use super::super::exit::CliError;
use super::super::output::print_text;
use super::super::topic::failed;

/// The commands about the quorum's voters.
#[derive(Debug, Subcommand)]
pub(crate) enum VoterCommand {
    /// Let a broker vote in the metadata quorum
    AddVoter(VoterArgs),
    /// Take a broker's vote in the metadata quorum; it goes on getting the metadata
    RemoveVoter(VoterArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VoterArgs {
    /// The broker's number
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: i32,
    /// Let the number of voters become even, on the way to another odd number
    #[arg(long)]
    allow_even: bool,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    command: &VoterCommand,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    match command {
        VoterCommand::AddVoter(VoterArgs { broker, allow_even }) => {
            admin.add_voter(*broker, *allow_even).await.map_err(failed)?;
            print_text(&format!("broker {broker} votes in the metadata quorum\n"))
        }
        VoterCommand::RemoveVoter(VoterArgs { broker, allow_even }) => {
            admin.remove_voter(*broker, *allow_even).await.map_err(failed)?;
            print_text(&format!("broker {broker} does not vote in the metadata quorum any more\n"))
        }
    }
}
