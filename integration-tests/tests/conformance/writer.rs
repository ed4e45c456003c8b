//! A client's side of a writer's stream, as containerd's Go client has it: one message, one answer.

use berth_wire::containerd::content as api;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::home::{Home, Wire};

pub(crate) struct Writer {
    messages: mpsc::Sender<api::WriteContentRequest>,
    answers: Streaming<api::WriteContentResponse>,
}

/// A message about nothing yet.
pub(crate) fn message(action: api::WriteAction) -> api::WriteContentRequest {
    api::WriteContentRequest { action: action.into(), ..Default::default() }
}

/// The first message of Go's client.
pub(crate) fn stat(reference: &str, expected: &str, total: i64) -> api::WriteContentRequest {
    let (r#ref, expected) = (reference.to_owned(), expected.to_owned());
    api::WriteContentRequest { r#ref, expected, total, ..message(api::WriteAction::Stat) }
}

pub(crate) fn write(offset: usize, data: &[u8]) -> api::WriteContentRequest {
    let offset = i64::try_from(offset).unwrap();
    api::WriteContentRequest { offset, data: data.to_vec(), ..message(api::WriteAction::Write) }
}

pub(crate) fn commit(offset: usize, total: usize, expected: &str) -> api::WriteContentRequest {
    api::WriteContentRequest {
        offset: i64::try_from(offset).unwrap(),
        total: i64::try_from(total).unwrap(),
        expected: expected.to_owned(),
        ..message(api::WriteAction::Commit)
    }
}

impl Writer {
    pub(crate) async fn start(home: &Home, namespace: &str) -> Self {
        Self::on(home.wire(namespace, "")).await.unwrap()
    }

    pub(crate) async fn on(wire: Wire) -> Result<Self, Status> {
        let mut client = api::content_client::ContentClient::new(wire).max_encoding_message_size(64 << 20);
        let (messages, outbound) = mpsc::channel(1);
        let answers = client.write(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Self { messages, answers })
    }

    /// Sends a message and waits for its answer.
    pub(crate) async fn say(&mut self, message: api::WriteContentRequest) -> Result<api::WriteContentResponse, Status> {
        // A stream that has ended says why below.
        let _sent = self.messages.send(message).await;
        self.answers.message().await?.ok_or_else(|| Status::cancelled("the stream ended without an answer"))
    }

    /// Opens a ref: the first answer.
    pub(crate) async fn open(
        home: &Home,
        namespace: &str,
        first: api::WriteContentRequest,
    ) -> Result<(Self, api::WriteContentResponse), Status> {
        let mut writer = Self::start(home, namespace).await;
        let answer = writer.say(first).await?;
        Ok((writer, answer))
    }

    /// Says that it is done, and waits until the other side is: its place is free then.
    pub(crate) async fn close(self) {
        let Self { messages, mut answers } = self;
        drop(messages);
        assert_eq!(answers.message().await.unwrap(), None);
    }

    /// What comes when nothing was asked.
    pub(crate) async fn rest(mut self) -> Result<Option<api::WriteContentResponse>, Status> {
        self.answers.message().await
    }
}

/// Writes a blob as `content.WriteBlob` does.
pub(crate) async fn put(home: &Home, namespace: &str, reference: &str, bytes: &[u8]) -> String {
    let (digest, total) = (crate::home::digest(bytes), i64::try_from(bytes.len()).unwrap());
    let (mut writer, at) = Writer::open(home, namespace, stat(reference, &digest, total)).await.unwrap();
    // Another namespace may lend them.
    let mut offset = usize::try_from(at.offset).unwrap();
    for piece in bytes[offset..].chunks(8 << 20) {
        let answer = writer.say(write(offset, piece)).await.unwrap();
        offset += piece.len();
        assert_eq!(answer.offset, i64::try_from(offset).unwrap());
    }
    let answer = writer.say(commit(offset, bytes.len(), &digest)).await.unwrap();
    assert_eq!(answer.digest, digest);
    digest
}
