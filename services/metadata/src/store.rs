//! The store: changes and reads of the tables, and the horizon up to which events may be read.
//!
//! Events are shown up to the last one whose change is on disk (the horizon), never further: what a reader or NATS
//! has seen cannot be taken back by a power cut, so a sequence never names two events. It also wakes who waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_failpoint::{Point, pass};
use berth_kv::{Db, Options, View};
use berth_model::Status;
use berth_wire::{metadata as msg, types};
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    Config,
    activity::Counter,
    change::{Change, Retention},
    collection::Collection,
    condemnation::{self, Lasts},
    page::Page,
    pulls::Keep,
    tables::{self, meta, outbox},
};

/// Asks for the newest sequence without waiting.
const NEWEST: u64 = u64::MAX;

/// No event has to wait for a relay before it is dropped.
const NOBODY_RELAYS: u64 = u64::MAX;

/// How long a change that is made may take to be told.
const SETTLES: Duration = Duration::from_secs(20);

/// The open tables.
pub(crate) struct Store {
    db: Db,
    outbox_id: String,
    horizon: Arc<watch::Sender<u64>>,
    event_retention: u64,
    /// The last relayed event, or [`NOBODY_RELAYS`].
    relayed: Arc<AtomicU64>,
    collection: Arc<Collection>,
    condemnation: Lasts,
    keep_pulls: Keep,
    activity: Arc<Counter>,
}

impl Store {
    /// Opens the tables, or makes them.
    pub(crate) async fn open(config: Config) -> Result<Self, Status> {
        let patience = config.patience();
        let options = Options { durability: config.durability, tables: tables::TABLES, holder: config.holder };
        let root = config.root.clone();
        let alone = config.alone;
        let (db, left) = berth_api::blocking(move || {
            let db = Db::open(&root, options)?;
            let left = alone.map(|alone| Ok((db.read_here(tables::condemned::all)?, alone))).transpose()?;
            Ok((db, left))
        })
        .await?;
        if let Some((left, alone)) = left.filter(|(left, _)| !left.is_empty()) {
            tokio::spawn(condemnation::end_left(db.clone(), left, alone).in_current_span());
        }
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        let (outbox_id, last) =
            db.write(move |txn| Ok::<_, Status>((meta::outbox_id_or(txn, fresh)?, meta::last_event(txn)?))).await?;
        Ok(Self {
            db,
            outbox_id,
            horizon: Arc::new(watch::Sender::new(last)),
            event_retention: config.event_retention,
            relayed: Arc::new(AtomicU64::new(NOBODY_RELAYS)),
            collection: Arc::new(Collection::new(config.fences, patience)),
            condemnation: Lasts { leave: config.condemnation_leave, grace: config.condemnation_grace },
            keep_pulls: Keep { most: config.ended_pulls, seconds: config.ended_pulls_age.as_secs() },
            activity: Arc::default(),
        })
    }

    /// The round of collection that is in force.
    pub(crate) fn collection(&self) -> &Arc<Collection> {
        &self.collection
    }

    /// How long a condemnation lasts.
    pub(crate) fn condemnation(&self) -> Lasts {
        self.condemnation
    }

    /// Which records of ended pulls stay.
    pub(crate) fn keep_pulls(&self) -> Keep {
        self.keep_pulls
    }

    /// How much others than a collector changed.
    pub(crate) fn activity(&self) -> &Counter {
        &self.activity
    }

    /// Random, and stays: of the outbox, and so of all records.
    pub(crate) fn id(&self) -> &str {
        &self.outbox_id
    }

    /// Where it is on the disk.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.db.path()
    }

    /// Reads one state of all tables.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        self.db.read(question).await
    }

    /// Reads one state of all tables, and says which event was the newest in it. That event can be read by then.
    pub(crate) async fn read_at<R: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<(R, u64), Status> {
        let (answer, sequence) = self.db.read(move |view| Ok((question(view)?, meta::last_event(view)?))).await?;
        // The state may be newer than the horizon, for as long as a change takes to be told.
        let mut horizon = self.horizon.subscribe();
        let settled = horizon.wait_for(|last| *last >= sequence);
        match tokio::time::timeout(SETTLES, settled).await {
            Ok(Ok(_last)) => Ok((answer, sequence)),
            Ok(Err(_closed)) => Err(Status::unavailable("the metadata store is closing; try again")),
            Err(_elapsed) => Err(Status::unavailable(format!("event {sequence} is not on disk after {SETTLES:?}"))),
        }
    }

    /// Makes one change and its events, or nothing; returns when it is on disk.
    ///
    /// It runs in a task of its own: a caller that goes away in the middle must not keep the horizon back.
    pub(crate) async fn change<R: Send + 'static>(
        &self,
        rule: impl FnOnce(&mut Change<'_, '_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        self.make(rule, Some(Arc::clone(&self.activity))).await
    }

    /// A change by a collector: it is no reason for another collection.
    pub(crate) async fn tidy<R: Send + 'static>(
        &self,
        rule: impl FnOnce(&mut Change<'_, '_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        self.make(rule, None).await
    }

    /// A change that reports nothing and waits for no disk: a power cut may take it back.
    pub(crate) async fn note<R: Send + 'static>(
        &self,
        rule: impl FnOnce(&mut Change<'_, '_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        let barrier = Arc::clone(&self.collection.barrier);
        self.db.write_relaxed(move |txn| rule(&mut Change::new(txn, types::Time::now(), &barrier))).await
    }

    async fn make<R: Send + 'static>(
        &self,
        rule: impl FnOnce(&mut Change<'_, '_>) -> Result<R, Status> + Send + 'static,
        activity: Option<Arc<Counter>>,
    ) -> Result<R, Status> {
        let db = self.db.clone();
        let horizon = Arc::clone(&self.horizon);
        let newest = self.event_retention;
        let relayed = Arc::clone(&self.relayed);
        let traceparent = berth_bus::traceparent().unwrap_or_default();
        let barrier = Arc::clone(&self.collection.barrier);
        let writing = async move {
            let by = traceparent.clone();
            let (done, freed, last) = db
                .write(move |txn| {
                    let mut change = Change::new(txn, types::Time::now(), &barrier);
                    let done = rule(&mut change)?;
                    let retention = Retention { newest, relayed: relayed.load(Ordering::Acquire) };
                    let (freed, last) = (change.freed(), change.finish(retention, &traceparent)?);
                    pass(Point::MetadataDecided);
                    Ok::<_, Status>((done, freed, last))
                })
                .await?;
            pass(Point::MetadataChanged);
            if let Some(activity) = activity {
                activity.count(freed, by);
            }
            if let Some(last) = last {
                horizon.send_if_modified(|horizon| {
                    let grown = last > *horizon;
                    *horizon = last.max(*horizon);
                    grown
                });
            }
            Ok(done)
        };
        match tokio::spawn(writing.in_current_span()).await {
            Ok(done) => done,
            Err(error) => Err(Status::internal(format!("a change of the metadata store failed: {error}"))),
        }
    }

    /// A page of events after a sequence; waits for one if there is none yet.
    pub(crate) async fn events_after(
        &self,
        after: u64,
        limit: u32,
        wait: Duration,
    ) -> Result<msg::ReadEventsReply, Status> {
        let mut horizon = self.horizon.subscribe();
        let mut last = *horizon.borrow_and_update();
        let reply = |events, last| msg::ReadEventsReply { events, last, outbox_id: self.outbox_id.clone() };
        if after == NEWEST {
            return Ok(reply(Vec::new(), last));
        }
        if after > last {
            return Err(Status::out_of_range(format!(
                "event {after} is not in outbox {}, which ends at {last}; was it of another outbox?",
                self.outbox_id
            )));
        }
        if after == last {
            let grown = async { horizon.wait_for(|last| *last > after).await.map(|grown| *grown) };
            match tokio::time::timeout(wait, grown).await {
                Ok(Ok(grown)) => last = grown,
                Ok(Err(_closed)) => return Ok(reply(Vec::new(), last)),
                Err(_elapsed) => return Ok(reply(Vec::new(), last)),
            }
        }
        let events = self.db.read(move |view| stored_events(view, after, last, limit)).await?;
        Ok(reply(events, last))
    }

    /// The first event that is still there.
    pub(crate) async fn first_event(&self) -> Result<u64, Status> {
        self.db.read(|view| meta::first_event(view)).await
    }

    /// From now on events are kept until they were relayed. The first relay begins with the oldest event there is.
    pub(crate) async fn begin_relay(&self) -> Result<(), Status> {
        let cursor = |view: &View<'_>| Ok(meta::relay_cursor(view)?.unwrap_or(meta::first_event(view)? - 1));
        self.relayed.store(self.db.read(cursor).await?, Ordering::Release);
        Ok(())
    }

    /// The last relayed event.
    pub(crate) fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Acquire)
    }

    /// Moves the relay's cursor. Not waited for by the disk, see `relay`.
    pub(crate) async fn set_relayed(&self, sequence: u64) -> Result<(), Status> {
        let moved = self.db.write_relaxed(move |txn| {
            meta::set_relay_cursor(txn, sequence);
            Ok::<_, Status>(())
        });
        moved.await?;
        self.relayed.store(sequence, Ordering::Release);
        Ok(())
    }
}

/// What is stored after `after`, up to `last`.
fn stored_events(view: &View<'_>, after: u64, last: u64, limit: u32) -> Result<Vec<msg::Event>, Status> {
    let first = meta::first_event(view)?;
    if after + 1 < first {
        return Err(Status::out_of_range(format!(
            "events {} to {} were dropped already; the first one kept is {first}",
            after + 1,
            first - 1
        )));
    }
    let mut page = Page::new(limit);
    outbox::fill(view, after, &mut page)?;
    let (mut events, _more) = page.finish();
    events.retain(|event| event.sequence <= last);
    Ok(events)
}
