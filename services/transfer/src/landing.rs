//! Documents that were read while they arrived, and are still on their way to the disk. The pull goes on meanwhile; what
//! goes wrong with one of them ends it, and its records wait for all of them.

use std::pin::pin;

use berth_model::Status;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

/// What is under way beside the rest.
#[derive(Default)]
pub(crate) struct Landing<'a>(FuturesUnordered<BoxFuture<'a, Result<(), Status>>>);

impl<'a> Landing<'a> {
    pub(crate) fn add(&self, fetch: BoxFuture<'a, Result<(), Status>>) {
        self.0.push(fetch);
    }

    /// Does this beside it. A document that fails says better what is wrong than whoever reads it.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(landed) = self.0.next() => landed?,
                done = &mut work => return done,
            }
        }
    }

    /// Waits for all.
    pub(crate) async fn all(mut self) -> Result<(), Status> {
        while let Some(landed) = self.0.next().await {
            landed?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_until_one_fails() {
        let mut landing = Landing::default();
        assert_eq!(landing.beside(async { Ok(1) }).await, Ok(1));
        let (land, lands) = oneshot::channel();
        landing.add(lands.map(|told| told.unwrap()).boxed());
        assert_eq!(landing.beside(async { Ok(2) }).await, Ok(2), "it waits for nothing");
        land.send(Err(Status::not_found("no such manifest"))).unwrap();
        let failed = landing.beside(async { Err::<(), _>(Status::internal("it ended")) }).await;
        assert_eq!(failed, Err(Status::not_found("no such manifest")));
    }

    #[tokio::test]
    async fn the_end_waits_for_all() {
        let landing = Landing::default();
        let (land, lands) = oneshot::channel();
        landing.add(lands.map(|told| told.unwrap()).boxed());
        let mut all = Box::pin(landing.all());
        assert!((&mut all).now_or_never().is_none());
        land.send(Ok(())).unwrap();
        assert_eq!(all.await, Ok(()));
        assert_eq!(Landing::default().all().await, Ok(()));
    }
}
