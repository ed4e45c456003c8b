//! The stream of a writer: its messages one after the other, each answered; a sign of life while it is silent; and its
//! place given up when it ends, however it ends.

use std::time::Duration;

use berth_model::Status;
use berth_wire::containerd::content::{self as api, WriteAction};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{Scope, Stream_, plugin, session::Session};
use crate::{Backend, to_grpc};

/// The content service gives the place of a writer that is silent for 30 s to another. As long as the stream is open, its
/// writer is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(8);

/// Begins to serve a writer. What it does is finished, a commit above all, also when the client goes away meanwhile.
pub(super) fn write(
    backend: &Backend,
    request: Request<Streaming<api::WriteContentRequest>>,
) -> Result<Stream_<api::WriteContentResponse>, Status> {
    let scope = Scope::of(&request);
    // A client sends its next message when it has the answer to the last one: there is nothing to queue.
    let (answers, outbound) = mpsc::channel(1);
    let writer = Writer { backend: backend.clone(), scope, inbound: request.into_inner(), answers, session: None };
    tokio::spawn(writer.run());
    Ok(ReceiverStream::new(outbound).boxed())
}

struct Writer {
    backend: Backend,
    /// Of the stream, until its first message says more.
    scope: Result<Scope, Status>,
    inbound: Streaming<api::WriteContentRequest>,
    answers: mpsc::Sender<Result<api::WriteContentResponse, tonic::Status>>,
    session: Option<Session>,
}

/// Whether the stream goes on.
enum Next {
    More,
    Done,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let step = self.step().await;
            // The place is free before the client hears of the end: it may come back at once.
            if !matches!(step, Ok((Next::More, _)))
                && let Some(session) = self.session.take()
            {
                session.release().await;
            }
            let (next, answer) = match step {
                Ok((next, answer)) => (next, answer.map(Ok)),
                Err(status) => (Next::Done, Some(Err(to_grpc(status)))),
            };
            if let Some(answer) = answer
                && self.answers.send(answer).await.is_err()
            {
                break;
            }
            if matches!(next, Next::Done) {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.release().await;
        }
    }

    /// One message and its answer.
    async fn step(&mut self) -> Result<(Next, Option<api::WriteContentResponse>), Status> {
        let Some(message) = self.next().await? else { return Ok((Next::Done, None)) };
        let action = message.action();
        if self.session.is_none() {
            self.scope = plugin::scope_of_ref(self.scope.clone(), &message.r#ref);
        }
        let scope = self.scope.clone()?;
        let session = match &mut self.session {
            Some(session) => {
                session.learn(&self.backend, &scope, &message).await?;
                session
            }
            empty => empty.insert(Session::begin(&self.backend, &scope, &message).await?),
        };
        let mut answer = match action {
            WriteAction::Stat => session.stat().await?,
            WriteAction::Write => {
                session.write(&self.backend, &message).await?;
                session.stat().await?
            }
            WriteAction::Commit => {
                session.write(&self.backend, &message).await?;
                session.commit(&self.backend, &scope, message.labels).await?
            }
        };
        answer.set_action(action);
        if action == WriteAction::Commit {
            self.session = None;
            return Ok((Next::Done, Some(answer)));
        }
        Ok((Next::More, Some(answer)))
    }

    /// The next message; none when the client closed its side, or went away.
    async fn next(&mut self) -> Result<Option<api::WriteContentRequest>, Status> {
        loop {
            tokio::select! {
                message = self.inbound.message() => return Ok(message.unwrap_or_else(|status| {
                    tracing::debug!(%status, "a writer went away");
                    None
                })),
                () = tokio::time::sleep(SIGN_OF_LIFE) => {
                    if let Some(session) = &mut self.session {
                        session.alive().await?;
                    }
                }
                () = self.answers.closed() => return Ok(None),
            }
        }
    }
}
