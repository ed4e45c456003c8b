//! Who makes a stream or a consumer: one at a time.
//!
//! A server (seen with 2.9.10) that is asked twice at the same moment to make the same stream makes it twice: one of the two
//! is then found by nobody, but takes messages, and work that is in it waits for ever. So whoever finds something missing
//! says so to the others, listens for a moment, and makes it only if nobody with a smaller claim wants to.

use std::{future::Future, time::Duration};

use berth_model::Status;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::Nats;
use crate::backoff::Backoff;

/// How long claims are listened for: much longer than a message is on its way.
const LISTEN: Duration = Duration::from_millis(100);
/// So often it is tried; whoever has the smaller claim may die before it has made anything.
const TRIES: u32 = 10;

impl Nats {
    /// Finds a thing, or makes it when no other does.
    pub(super) async fn find_or_make<T, Found, Made>(
        &self,
        name: &str,
        find: impl Fn() -> Found,
        make: impl Fn() -> Made,
    ) -> Result<T, Status>
    where
        Found: Future<Output = Result<Option<T>, Status>>,
        Made: Future<Output = Result<T, Status>>,
    {
        let mut backoff = Backoff::quick();
        for _ in 0..TRIES {
            if let Some(found) = find().await? {
                return Ok(found);
            }
            if self.may_make(name).await? {
                // Somebody may have made it while nobody had claims to tell of.
                return match find().await? {
                    Some(found) => Ok(found),
                    None => make().await,
                };
            }
            tokio::time::sleep(backoff.next()).await;
        }
        Err(Status::unavailable(format!("{name} at {} is being made by others, and does not appear", self.link.url)))
    }

    /// Claims to be the one that makes it; `false`: somebody else is.
    async fn may_make(&self, name: &str) -> Result<bool, Status> {
        let subject = self.names.making(name);
        let silent = |error: &dyn std::fmt::Display| {
            Status::unavailable(format!("{} at {} cannot be made: {error}", name, self.link.url))
        };
        let mut claims = self.link.client.subscribe(subject.clone()).await.map_err(|error| silent(&error))?;
        let claim = uuid::Uuid::new_v4().simple().to_string();
        let publish = || self.link.client.publish(subject.clone(), claim.clone().into());
        publish().await.map_err(|error| silent(&error))?;
        self.flush().await;
        let until = Instant::now() + LISTEN;
        while let Ok(Some(other)) = timeout_at(until, claims.next()).await {
            match other.payload.as_ref().cmp(claim.as_bytes()) {
                std::cmp::Ordering::Less => return Ok(false),
                std::cmp::Ordering::Equal => {}
                // It began to listen after our claim went by.
                std::cmp::Ordering::Greater => publish().await.map_err(|error| silent(&error))?,
            }
        }
        Ok(true)
    }
}
