//! Waiting for a pull: its progress as it comes, and its end as ours. A daemon that goes away meanwhile is waited for.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use berth_model::{Code, Status};
use berth_wire::transfer::{AttachPullRequest, PullState, StartPullRequest, pull_state::Phase};
use tonic::Streaming;

use crate::{client::Client, commands::refused, failure, output, progress};

/// A pull that took longer says why.
const WORTH_A_WORD_US: u64 = 1_000_000;
/// Before it is asked again.
const PAUSE: Duration = Duration::from_millis(300);

/// How we come to the pull.
pub(crate) enum Way {
    Start(StartPullRequest),
    Attach(AttachPullRequest),
}

/// What is shown of it.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) chain_ids: bool,
}

impl Way {
    async fn states(&self, client: &Client) -> Result<Streaming<PullState>, tonic::Status> {
        let states = match self {
            Self::Start(request) => client.transfer().pull(request.clone()).await?,
            Self::Attach(request) => client.pulls().attach(request.clone()).await?,
        };
        Ok(states.into_inner())
    }

    /// The next time it is this pull that is meant.
    fn remember(&mut self, pull_id: &str) {
        match self {
            Self::Start(request) => pull_id.clone_into(&mut request.pull_id),
            Self::Attach(request) => pull_id.clone_into(&mut request.pull),
        }
    }
}

/// States of one pull, over as many connections as it takes.
struct Follower<'a> {
    client: &'a Client,
    way: Way,
    states: Streaming<PullState>,
}

impl Follower<'_> {
    async fn next(&mut self) -> anyhow::Result<Option<PullState>> {
        let mut since = None;
        loop {
            let lost = match self.states.message().await {
                Ok(Some(state)) => {
                    self.way.remember(&state.pull_id);
                    return Ok(Some(state));
                }
                Ok(None) => return Ok(None),
                Err(status) => status,
            };
            self.find(lost, *since.get_or_insert_with(Instant::now)).await?;
        }
    }

    /// Asks again, and again, as only a daemon can come back. It had taken the request: also before its first word of the pull, the same
    /// request finds the pull that it began, or, if that is over, what it brought.
    async fn find(&mut self, mut why: tonic::Status, since: Instant) -> anyhow::Result<()> {
        loop {
            let passing = matches!(
                why.code(),
                tonic::Code::Unavailable
                    | tonic::Code::Unknown
                    | tonic::Code::Cancelled
                    | tonic::Code::DeadlineExceeded
            );
            let patience = self.client.settings.pulls.wait_for_daemon;
            if !passing || self.client.is_local || since.elapsed() >= patience {
                return Err(refused(why));
            }
            tracing::debug!(status = %why, "the daemon went away; asking again");
            tokio::time::sleep(PAUSE).await;
            match self.way.states(self.client).await {
                Ok(states) => {
                    self.states = states;
                    return Ok(());
                }
                Err(status) => why = status,
            }
        }
    }
}

/// Follows a pull to its end; the exit code is the pull's.
pub(crate) async fn follow(client: &Client, way: Way, shown: Shown) -> anyhow::Result<ExitCode> {
    let states = way.states(client).await.map_err(refused)?;
    let mut follower = Follower { client, way, states };
    let mut progress = progress::choose(shown.json, shown.quiet, std::io::stderr().is_terminal());
    let mut last = PullState::default();
    loop {
        let next = tokio::select! {
            next = follower.next() => next,
            _ = tokio::signal::ctrl_c() => {
                progress.end();
                // Leaving the stream leaves the pull; an in-process one ends with us. Either way the bytes stay.
                drop(follower);
                eprintln!("interrupted; what was fetched is kept, run the same command to go on");
                return Ok(ExitCode::from(failure::INTERRUPTED));
            }
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                progress.end();
                return Err(error);
            }
        };
        let Some(state) = next else { break };
        progress.show(&state)?;
        last = state;
    }
    progress.end();
    match last.phase() {
        Phase::Done => {
            summary(shown, &last)?;
            Ok(ExitCode::SUCCESS)
        }
        Phase::Failed => {
            let status = Status::new(Code::from_number(last.code), last.message);
            let named = status.message.contains(&last.reference);
            let error = anyhow::Error::from(status);
            Err(if named { error } else { error.context(format!("pull {}", last.reference)) })
        }
        _ => Err(Status::unavailable(format!(
            "the pull of {} ended without an answer: the service that ran it went away; run the same command to go on",
            last.reference
        ))
        .into()),
    }
}

fn summary(shown: Shown, state: &PullState) -> anyhow::Result<()> {
    if shown.json {
        return Ok(());
    }
    if shown.quiet {
        let target = state.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default();
        output::print(&target)?;
    } else {
        writeln!(std::io::stderr().lock(), "{}", progress::total(state))?;
        if let Some(verdict) = state.verdict.as_ref().filter(|verdict| verdict.total_us >= WORTH_A_WORD_US) {
            writeln!(std::io::stderr().lock(), "{} (berth pulls explain {})", verdict.sentence, state.pull_id)?;
        }
    }
    if shown.chain_ids {
        state.chain_ids.iter().try_for_each(|chain_id| output::print(chain_id))?;
    }
    Ok(())
}
