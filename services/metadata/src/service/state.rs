//! One state of all records, read in pages: the first half of list-then-watch.
//!
//! A list that is read page by page is of many moments, and no event could then be told from one that the list shows
//! already. So the records are copied from one state of the store, and wait in memory until they were read. What that may
//! take is bounded: in bytes, in how many read at once, and in how long somebody may take for the next page.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use berth_kv::View;
use berth_model::Status;
use berth_wire::metadata::{self as msg, state_item::Record};
use prost::Message as _;

use crate::{
    check,
    page::Page,
    store::Store,
    tables::{container, content, image, namespace, snapshot},
};

/// Of one state: some 200 000 records.
const MAX_BYTES: usize = 64 << 20;
/// States that are read at the same time.
const MAX_STATES: usize = 4;
/// Who asks for no page for so long has gone.
const FORGET: Duration = Duration::from_secs(60);

/// The states that are being read.
#[derive(Debug, Default)]
pub(super) struct States {
    held: Mutex<BTreeMap<u64, Held>>,
    taken: AtomicU64,
}

#[derive(Clone, Debug)]
struct Held {
    sequence: u64,
    pages: Arc<Vec<Vec<msg::StateItem>>>,
    asked: Instant,
}

impl States {
    pub(super) async fn read(
        &self,
        store: &Store,
        request: msg::ReadStateRequest,
    ) -> Result<msg::ReadStateReply, Status> {
        let number = match request.state {
            0 => self.take(store, request.namespace).await?,
            held => held,
        };
        let gone = || {
            Status::aborted(format!(
                "state {number} is not held any more (a page must be asked for every {FORGET:?}); begin anew"
            ))
        };
        let at = usize::try_from(request.page).unwrap_or(usize::MAX);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let state = held.get_mut(&number).ok_or_else(gone)?;
        state.asked = Instant::now();
        let state = state.clone();
        let more = at.saturating_add(1) < state.pages.len();
        if !more {
            held.remove(&number);
        }
        drop(held);
        Ok(msg::ReadStateReply {
            state: number,
            sequence: state.sequence,
            outbox_id: store.id().to_owned(),
            items: state.pages.get(at).cloned().unwrap_or_default(),
            more,
        })
    }

    /// Copies a state of now.
    async fn take(&self, store: &Store, namespace: String) -> Result<u64, Status> {
        if !namespace.is_empty() {
            check::namespace(&namespace)?;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        // The place is taken before the records are read: together they must fit.
        self.place(number, Held { sequence: 0, pages: Arc::default(), asked: Instant::now() })?;
        let copied = store.read_at(move |view| copy(view, &namespace)).await;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match copied {
            Ok((pages, sequence)) => {
                held.insert(number, Held { sequence, pages: Arc::new(pages), asked: Instant::now() });
                Ok(number)
            }
            Err(status) => {
                held.remove(&number);
                Err(status)
            }
        }
    }

    fn place(&self, number: u64, state: Held) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, state| state.asked.elapsed() < FORGET);
        if held.len() >= MAX_STATES {
            return Err(Status::resource_exhausted(format!(
                "{MAX_STATES} states are being read already; try again when one of them was"
            )));
        }
        held.insert(number, state);
        Ok(())
    }
}

/// The records of a namespace, or of all.
fn copy(view: &View<'_>, wanted: &str) -> Result<Vec<Vec<msg::StateItem>>, Status> {
    let mut pages = Pages::default();
    let is_wanted = |namespace: &str| wanted.is_empty() || wanted == namespace;
    let item = |namespace: &str, record| msg::StateItem {
        namespace: namespace.to_owned(),
        snapshotter: String::new(),
        record: Some(record),
    };
    let mut after = String::new();
    loop {
        let mut page = Page::new(0);
        namespace::fill(view, &after, &mut page)?;
        let (found, more) = page.finish();
        after = found.last().map(|last: &msg::Namespace| last.name.clone()).unwrap_or_default();
        for record in found {
            if is_wanted(&record.name) {
                pages.add(item(&record.name.clone(), Record::NamespaceRecord(record)))?;
            }
        }
        if !more {
            break;
        }
    }
    image::each(view, |namespace, record| match is_wanted(namespace) {
        true => pages.add(item(namespace, Record::Image(record))),
        false => Ok(()),
    })?;
    content::each(view, |namespace, _, record| match is_wanted(namespace) {
        true => pages.add(item(namespace, Record::Content(record))),
        false => Ok(()),
    })?;
    snapshot::each(view, |place, record| match is_wanted(&place.namespace) {
        true => {
            let snapshotter = place.snapshotter.clone();
            pages.add(msg::StateItem { snapshotter, ..item(&place.namespace, Record::Snapshot(record)) })
        }
        false => Ok(()),
    })?;
    container::each(view, |namespace, record| match is_wanted(namespace) {
        true => pages.add(item(namespace, Record::Container(record))),
        false => Ok(()),
    })?;
    Ok(pages.finish())
}

/// Records in pages that fit the bus.
#[derive(Default)]
struct Pages {
    full: Vec<Vec<msg::StateItem>>,
    page: Page<msg::StateItem>,
    bytes: usize,
}

impl Pages {
    fn add(&mut self, item: msg::StateItem) -> Result<(), Status> {
        self.bytes += item.encoded_len();
        if self.bytes > MAX_BYTES {
            return Err(Status::resource_exhausted(format!(
                "the records take more than {} MiB; ask for one namespace, or for lists",
                MAX_BYTES >> 20
            )));
        }
        if !self.page.push(item.clone()) {
            let full = std::mem::take(&mut self.page);
            self.full.push(full.finish().0);
            self.page.push(item);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Vec<msg::StateItem>> {
        self.full.push(self.page.finish().0);
        self.full
    }
}
