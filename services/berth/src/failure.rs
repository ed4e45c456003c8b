//! How a command fails: one line that says what, where and what to do; and an exit code.

use std::{io, process::ExitCode};

use berth_model::{Code, Status};

/// The command was interrupted (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// Tells a person, and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(status) = error.chain().find_map(|cause| cause.downcast_ref::<Status>())
        && status.code == Code::Cancelled
    {
        eprintln!("error: {error:#}");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Whoever reads our output has had enough (`berth content ls | head`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe))
}
