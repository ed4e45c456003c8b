//! Condemnations and time, with a clock of the test's own; and all orders of the steps of a deleter, a recorder and a
//! lease.

use berth_kv::{Db, Durability, Options};
use berth_model::{Code, labels::Labels};
use berth_wire::metadata as msg;
use proptest::prelude::*;

use super::*;
use crate::{contents, tables};

fn at(seconds: i64) -> types::Time {
    types::Time { seconds, nanos: 0 }
}

const LASTS: Lasts = Lasts { leave: Duration::from_secs(20), grace: Duration::from_secs(10) };

fn blob() -> Digest {
    Digest::of(b"x")
}

struct Clocked {
    db: Db,
    _root: tempfile::TempDir,
}

impl Clocked {
    fn open() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = Options { durability: Durability::None, tables: tables::TABLES, holder: "a test".into() };
        Self { db: Db::open(root.path(), options).unwrap(), _root: root }
    }

    async fn change<R: Send + 'static>(
        &self,
        now: i64,
        rule: impl FnOnce(&mut Change<'_, '_>) -> Result<R, Status> + Send + 'static,
    ) -> Result<R, Status> {
        self.db.write(move |txn| rule(&mut Change::new(txn, at(now), &crate::collection::Barrier::default()))).await
    }

    async fn condemn(&self, now: i64) -> Result<i64, Code> {
        self.change(now, |change| condemn(change, &blob(), LASTS))
            .await
            .map(|until| until.seconds)
            .map_err(|status| status.code)
    }

    async fn absolve(&self, now: i64, until: i64) {
        self.change(now, move |change| absolve(change, &blob(), at(until), LASTS)).await.unwrap();
    }

    async fn record(&self, now: i64) -> Result<(), Code> {
        let entry = msg::put_content_request::Entry { digest: blob().to_string(), size: 1, ..Default::default() };
        let puts = vec![contents::Put::parse(entry).unwrap()];
        self.change(now, move |change| contents::put(change, "ns", &puts)).await.map_err(|status| status.code)
    }

    async fn drop_record(&self, now: i64) -> Result<(), Code> {
        self.change(now, |change| contents::delete(change, "ns", &blob())).await.map_err(|status| status.code)
    }

    /// A lease of some seconds that names the blob.
    async fn lease(&self, now: i64, id: &'static str, seconds: u64) -> Result<(), Code> {
        let named = [msg::Resource { r#type: resource::CONTENT.into(), id: blob().to_string() }];
        let rule = move |change: &mut Change<'_, '_>| {
            leases::create(change, "ns", id.to_owned(), Labels::new(), seconds)?;
            leases::add(change, "ns", id, &named)
        };
        self.change(now, rule).await.map_err(|status| status.code)
    }
}

#[tokio::test]
async fn a_condemnation_ends_by_itself() {
    let store = Clocked::open();
    assert_eq!(store.condemn(100).await, Ok(120), "the deleter ends before others may begin");
    assert_eq!(store.record(129).await, Err(Code::Unavailable));
    assert_eq!(store.lease(129, "l", 0).await, Err(Code::Unavailable));
    assert_eq!(store.condemn(129).await, Err(Code::Unavailable));
    assert_eq!(store.condemn(130).await, Ok(150), "its time is over, and another may begin");
    assert_eq!(store.record(160).await, Ok(()));
    assert_eq!(store.condemn(160).await, Err(Code::FailedPrecondition));
}

#[tokio::test]
async fn a_lease_protects_until_its_end() {
    let store = Clocked::open();
    store.lease(100, "short", 10).await.unwrap();
    assert_eq!(store.condemn(109).await, Err(Code::FailedPrecondition));
    store.lease(109, "long", 0).await.unwrap();
    assert_eq!(store.condemn(110).await, Err(Code::FailedPrecondition), "one of two still runs");
    let end = |change: &mut Change<'_, '_>| leases::delete(change, "ns", "long");
    store.change(110, end).await.unwrap();
    assert_eq!(store.condemn(110).await, Ok(130));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Condemn,
    Absolve,
    /// By somebody whose condemnation ended by itself.
    AbsolveLate,
    Record,
    DropRecord,
    Lease(u64),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Condemn),
        Just(Step::Absolve),
        Just(Step::AbsolveLate),
        Just(Step::Record),
        Just(Step::DropRecord),
        (0_u64..20).prop_map(Step::Lease),
        (0_i64..20).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the rules promise, in the simplest words: the answer of each step, from a state of four facts.
#[derive(Debug, Default)]
struct Promise {
    condemned_until: i64,
    recorded: bool,
    leased_until: Vec<i64>,
}

impl Promise {
    fn is_condemned(&self, now: i64) -> bool {
        now < self.condemned_until
    }

    fn is_used(&self, now: i64) -> bool {
        self.recorded || self.leased_until.iter().any(|end| now < *end)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nobody_begins_to_need_what_is_being_deleted(steps in steps()) {
        const IDS: [&str; 40] = [
            "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7",
            "b8", "b9", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "d0", "d1", "d2", "d3", "d4", "d5",
            "d6", "d7", "d8", "d9",
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Clocked::open();
            let (mut now, mut promise) = (1000, Promise::default());
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(seconds) => now += seconds,
                    Step::Absolve => {
                        store.absolve(now, promise.condemned_until - 10).await;
                        promise.condemned_until = 0;
                    }
                    Step::AbsolveLate => store.absolve(now, promise.condemned_until - 11).await,
                    Step::Condemn => {
                        let expected = if promise.is_condemned(now) {
                            Err(Code::Unavailable)
                        } else if promise.is_used(now) {
                            Err(Code::FailedPrecondition)
                        } else {
                            Ok(now + 20)
                        };
                        assert_eq!(store.condemn(now).await, expected);
                        promise.condemned_until = expected.map_or(promise.condemned_until, |leave| leave + 10);
                    }
                    Step::Record => {
                        let expected = if promise.is_condemned(now) { Err(Code::Unavailable) } else { Ok(()) };
                        assert_eq!(store.record(now).await, expected);
                        promise.recorded |= expected.is_ok();
                    }
                    Step::DropRecord => {
                        let expected = if promise.recorded { Ok(()) } else { Err(Code::NotFound) };
                        assert_eq!(store.drop_record(now).await, expected);
                        promise.recorded = false;
                    }
                    Step::Lease(seconds) => {
                        let expected = if promise.is_condemned(now) { Err(Code::Unavailable) } else { Ok(()) };
                        assert_eq!(store.lease(now, IDS[n], seconds).await, expected);
                        if expected.is_ok() {
                            promise.leased_until.push(if seconds == 0 { i64::MAX } else { now + seconds as i64 });
                        }
                    }
                }
                assert!(!(promise.is_condemned(now) && promise.is_used(now)), "condemned and used: {promise:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_start_ends_what_was_condemned_before_it_and_nothing_else() {
    let store = Clocked::open();
    let left = || async { store.db.read(tables::condemned::all).await.unwrap() };
    let ending = |left: Vec<(Digest, types::Time)>, alone| {
        let (told, hears) = watch::channel(false);
        told.send_replace(alone);
        end_left(store.db.clone(), left, hears)
    };
    assert_eq!(store.condemn(0).await, Ok(20));
    let before = left().await;
    assert_eq!(before.len(), 1);
    // Others may be deleting: nobody ever said that they are not.
    ending(before.clone(), false).await;
    assert_eq!(store.record(5).await, Err(Code::Unavailable));
    // Since then it was condemned by somebody who lives.
    store.absolve(5, 20).await;
    assert_eq!(store.condemn(6).await, Ok(26));
    ending(before, true).await;
    assert_eq!(store.record(7).await, Err(Code::Unavailable));
    ending(left().await, true).await;
    assert_eq!(store.record(7).await, Ok(()));
}
