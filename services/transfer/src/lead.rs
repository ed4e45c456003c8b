//! Who leads: of several transfer services on one bus, the one that began last. It alone serves the contract; another waits
//! until nothing is heard of it, and then takes its pulls up.

use std::{sync::Arc, time::Duration};

use berth_bus::{Bus, Serving};
use berth_model::{Code, Status};
use tokio_util::sync::CancellationToken;

use crate::{Config, Service};

/// How often the leader says that it is there.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// One that was not heard for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Before metadata is asked again.
const PAUSE: Duration = Duration::from_millis(300);

/// Leads whenever it can, until `stop`.
pub(crate) async fn run(bus: Bus, config: Config, stop: CancellationToken) {
    // Who starts takes over at once; who was replaced waits.
    let mut silent_for = Duration::ZERO;
    while !stop.is_cancelled() {
        let service = Arc::new(Service::new(bus.clone(), config.clone()));
        let led = tokio::select! {
            begun = service.book.begin(silent_for) => begun.map(drop),
            () = stop.cancelled() => return,
        };
        let led = match led {
            Ok(()) => lead(&bus, &service, &stop).await,
            Err(status) => Err(status),
        };
        match led {
            Ok(()) => return,
            Err(status) if status.code == Code::Aborted => {
                if silent_for.is_zero() {
                    tracing::warn!("another transfer service leads; this one stands by");
                }
                silent_for = SILENCE;
            }
            Err(status) => tracing::warn!(%status, "the transfer service cannot begin yet"),
        }
        stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.unwrap_or_default();
    }
}

/// Serves for as long as this service leads. `Ok`: it was stopped.
async fn lead(bus: &Bus, service: &Arc<Service>, stop: &CancellationToken) -> Result<(), Status> {
    let serving = berth_api::transfer::serve(bus, Arc::<Service>::clone(service)).await?;
    let led = stop.run_until_cancelled(hold(service)).await;
    // What waits here is answered, so that it is asked of who leads next.
    service.book.closing.cancel();
    leave(serving).await;
    service.book.close().await;
    led.map_or(Ok(()), Err)
}

async fn leave(serving: Vec<Serving>) {
    futures::future::join_all(serving.into_iter().map(Serving::stop)).await;
}

/// Ends when another leads.
async fn hold(service: &Arc<Service>) -> Status {
    loop {
        tokio::time::sleep(HOLD_EVERY).await;
        let held = match service.book.journal().await {
            Ok(journal) => journal.hold(false).await,
            Err(status) => Err(status),
        };
        match held {
            Err(status) if status.code == Code::Aborted => return status,
            Err(status) => tracing::debug!(%status, "metadata does not answer; this service goes on"),
            Ok(()) => {}
        }
    }
}
