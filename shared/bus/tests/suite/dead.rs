//! Dead letters, in any home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use berth_bus::{Bus, DeadLetter, JobContext};
use berth_model::{Code, Status};
use prost::Message as _;

use crate::homes::{Home, within};
use crate::messages::{Count, Counted};

/// The dead letters, once there are so many.
async fn letters(bus: &Bus, count: usize) -> Vec<DeadLetter> {
    within(&format!("{count} dead letters"), async {
        loop {
            let letters = bus.dead_letters().await.unwrap();
            if letters.len() == count {
                return letters;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

pub(crate) async fn what_is_given_up_is_kept_and_can_be_put_back(home: Home) {
    let (healed, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (healed, done) = (Arc::clone(&healed), Arc::clone(&done));
        move |job: Count, context: JobContext<Count>| {
            let (healed, done) = (Arc::clone(&healed), Arc::clone(&done));
            async move {
                assert_eq!(
                    context.is_first(),
                    !healed.load(Ordering::SeqCst),
                    "one that is put back was handed out before"
                );
                if healed.load(Ordering::SeqCst) {
                    done.fetch_add(1, Ordering::SeqCst);
                    return Ok(Counted { at: job.to });
                }
                context.give_up();
                Err(Status::unavailable("the registry is\naway"))
            }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let bus = home.bus().await;
    assert!(bus.dead_letters().await.unwrap().is_empty());
    for to in [7, 8] {
        within("the outcome", bus.submit(Count { to }).await.unwrap().outcome()).await.unwrap_err();
    }
    let found = letters(&bus, 2).await;
    let [first, second] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.kind.as_str(), first.key.as_str(), first.attempts), ("count", "7", 1));
    assert_eq!((second.key.as_str(), first.status.code), ("8", Code::Unavailable));
    assert!(first.status.message.starts_with("the registry is"), "{first:?}");
    assert_eq!(Count::decode(first.body.clone()).unwrap().to, 7);
    assert!(first.at.elapsed().unwrap() < crate::homes::PATIENCE);

    healed.store(true, Ordering::SeqCst);
    bus.requeue(&first.id).await.unwrap();
    within("the job to be done after all", async {
        while done.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let left = letters(&bus, 1).await;
    assert_eq!(left.first().unwrap().id, second.id);
    assert_eq!(bus.requeue(&first.id).await.unwrap_err().code, Code::NotFound);
    bus.remove_dead_letter(&second.id).await.unwrap();
    letters(&bus, 0).await;
    assert_eq!(bus.remove_dead_letter(&second.id).await.unwrap_err().code, Code::NotFound);
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

pub(crate) async fn answers_are_not_kept(home: Home) {
    let handler = |job: Count, _: JobContext<Count>| async move {
        assert_ne!(job.to, 2, "this panic is part of the test");
        Err::<Counted, _>(Status::not_found("no such thing"))
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let bus = home.bus().await;
    for to in [1, 2] {
        within("the outcome", bus.submit(Count { to }).await.unwrap().outcome()).await.unwrap_err();
    }
    let found = letters(&bus, 1).await;
    assert_eq!(found.first().unwrap().key, "2", "a panic is no answer: {found:?}");
}
