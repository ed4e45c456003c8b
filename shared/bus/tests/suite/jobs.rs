//! Jobs, in any home.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_bus::{Job as _, JobContext, JobUpdate};
use berth_model::{Code, Status};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::homes::{Home, within};
use crate::messages::{Count, Counted};

pub(crate) async fn a_job_is_done_with_progress(home: Home) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        move |job: Count, context: JobContext<Count>| {
            let gate = Arc::clone(&gate);
            async move {
                for at in 1..=job.to {
                    gate.acquire().await.unwrap().forget();
                    context.progress(Counted { at });
                }
                Ok(Counted { at: job.to * 100 })
            }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let mut handle = home.bus().await.submit(Count { to: 3 }).await.unwrap();
    for expected in 1..=3 {
        gate.add_permits(1);
        match within("progress", handle.next()).await {
            JobUpdate::Progress(progress) => assert_eq!(progress.at, expected),
            JobUpdate::Done(done) => panic!("done before progress {expected}: {done:?}"),
        }
    }
    assert_eq!(within("outcome", handle.outcome()).await.unwrap().at, 300);
}

pub(crate) async fn a_passing_error_is_retried(home: Home) {
    let handler = |_: Count, context: JobContext<Count>| async move {
        assert_eq!(context.is_first(), context.attempt() == 1);
        match context.attempt() {
            1 => Err(Status::unavailable("not yet")),
            attempt => Ok(Counted { at: attempt }),
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    assert_eq!(within("outcome", handle.outcome()).await.unwrap().at, 2);
}

/// The error is one that passes, but whoever works has tried for long enough.
pub(crate) async fn giving_up_rejects(home: Home) {
    let handler = |_: Count, context: JobContext<Count>| async move {
        context.give_up();
        Err(Status::unavailable(format!("attempt {}", context.attempt())))
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    let status = within("outcome", handle.outcome()).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (Code::Unavailable, "attempt 1"));
}

pub(crate) async fn another_error_rejects(home: Home) {
    let runs = Arc::new(AtomicUsize::new(0));
    let handler = {
        let runs = Arc::clone(&runs);
        move |_: Count, _: JobContext<Count>| {
            runs.fetch_add(1, Ordering::SeqCst);
            async { Err::<Counted, _>(Status::not_found("no such number")) }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    let status = within("outcome", handle.outcome()).await.unwrap_err();
    assert_eq!(status, Status::not_found("no such number"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

pub(crate) async fn a_panic_rejects(home: Home) {
    let handler = |job: Count, _: JobContext<Count>| async move {
        assert_ne!(job.to, 13, "this panic is part of the test");
        Ok(Counted { at: job.to })
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let bus = home.bus().await;
    let status = within("outcome", bus.submit(Count { to: 13 }).await.unwrap().outcome()).await.unwrap_err();
    assert_eq!(status.code, Code::Internal, "{status}");
    assert_eq!(within("outcome", bus.submit(Count { to: 1 }).await.unwrap().outcome()).await.unwrap().at, 1);
}

pub(crate) async fn dropping_the_handle_cancels(home: Home) {
    let (entered, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, cancelled) = (Arc::clone(&entered), Arc::clone(&cancelled));
        move |_: Count, context: JobContext<Count>| {
            let (entered, cancelled) = (Arc::clone(&entered), Arc::clone(&cancelled));
            async move {
                assert!(!context.is_cancelled());
                entered.notify_one();
                context.cancelled().await;
                cancelled.notify_one();
                Err::<Counted, _>(Status::cancelled("as you like"))
            }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    drop(handle);
    within("the cancellation", cancelled.notified()).await;
}

pub(crate) async fn a_deaf_handler_is_dropped_after_cancel(home: Home) {
    struct Gone(mpsc::Sender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            // The test may be over.
            self.0.try_send(()).unwrap_or_default();
        }
    }
    let entered = Arc::new(Notify::new());
    let (gone, mut is_gone) = mpsc::channel(1);
    let handler = {
        let entered = Arc::clone(&entered);
        move |_: Count, _: JobContext<Count>| {
            let (entered, gone) = (Arc::clone(&entered), Gone(gone.clone()));
            async move {
                let _gone = gone;
                entered.notify_one();
                std::future::pending::<Result<Counted, Status>>().await
            }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    drop(handle);
    within("the handler to be dropped", is_gone.recv()).await;
}

pub(crate) async fn a_waiting_job_is_withdrawn(home: Home) {
    let gate = Arc::new(Semaphore::new(0));
    let entered = Arc::new(Notify::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let (gate, entered, seen) = (Arc::clone(&gate), Arc::clone(&entered), Arc::clone(&seen));
        move |job: Count, context: JobContext<Count>| {
            let (gate, entered, seen) = (Arc::clone(&gate), Arc::clone(&entered), Arc::clone(&seen));
            async move {
                entered.notify_one();
                drop(gate.acquire().await);
                if job.to == 2 {
                    // The news may come just after the job began; it must come.
                    context.cancelled().await;
                    return Err(Status::cancelled("as you like"));
                }
                seen.lock().unwrap().push(job.to);
                Ok(Counted { at: job.to })
            }
        }
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let bus = home.bus().await;
    let first = bus.submit(Count { to: 1 }).await.unwrap();
    within("the first to begin", entered.notified()).await;
    let second = bus.submit(Count { to: 2 }).await.unwrap();
    drop(second);
    let third = bus.submit(Count { to: 3 }).await.unwrap();
    gate.add_permits(1);
    within("first", first.outcome()).await.unwrap();
    within("third", third.outcome()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
}

pub(crate) async fn concurrency_is_bounded(home: Home) {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |job: Count, _: JobContext<Count>| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Counted { at: job.to })
            }
        }
    };
    let _serving = home.bus().await.work(3, handler).await.unwrap();
    let bus = home.bus().await;
    let mut handles = Vec::new();
    for to in 0..40 {
        handles.push(bus.submit(Count { to }).await.unwrap());
    }
    for (to, handle) in (0..).zip(handles) {
        assert_eq!(within("outcome", handle.outcome()).await.unwrap().at, to);
    }
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

pub(crate) async fn workers_share(home: Home) {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let mut workers = Vec::new();
    for name in 1..=2_u32 {
        let (seen, both) = (Arc::clone(&seen), Arc::clone(&both));
        let handler = move |_: Count, _: JobContext<Count>| {
            let (seen, both) = (Arc::clone(&seen), Arc::clone(&both));
            async move {
                // Two workers of one lane each: neither gets past here without the other.
                both.wait().await;
                seen.lock().unwrap().insert(name);
                Ok(Counted { at: name })
            }
        };
        workers.push(home.bus().await.work(1, handler).await.unwrap());
    }
    let bus = home.bus().await;
    let (first, second) = (bus.submit(Count { to: 1 }).await.unwrap(), bus.submit(Count { to: 2 }).await.unwrap());
    let (first, second) = within("both", async { tokio::join!(first.outcome(), second.outcome()) }).await;
    assert_ne!(first.unwrap().at, second.unwrap().at);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

pub(crate) async fn a_worker_that_stops_hands_its_job_over(home: Home) {
    let entered = Arc::new(Notify::new());
    let first = {
        let entered = Arc::clone(&entered);
        move |_: Count, _: JobContext<Count>| {
            entered.notify_one();
            std::future::pending::<Result<Counted, Status>>()
        }
    };
    let first = home.bus().await.work(1, first).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    let _second = home
        .bus()
        .await
        .work(1, |_: Count, context: JobContext<Count>| async move { Ok(Counted { at: context.attempt() }) })
        .await
        .unwrap();
    drop(first);
    assert_eq!(within("outcome", handle.outcome()).await.unwrap().at, 2);
}

pub(crate) async fn without_workers_it_ends(home: Home) {
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    let status = within("outcome", handle.outcome()).await.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(
        status.message.contains("no worker for `count` jobs") && status.message.contains("berth serve"),
        "{status}"
    );
}

/// Longer than the bus waits for workers: the worker is there, only busy.
pub(crate) async fn a_busy_worker_is_waited_for(home: Home) {
    let handler = |job: Count, _: JobContext<Count>| async move {
        if job.to == 1 {
            // sleeps: being busy for longer than the bus waits for workers is the point.
            tokio::time::sleep(crate::homes::WAIT * 2).await;
        }
        Ok(Counted { at: job.to })
    };
    let _serving = home.bus().await.work(1, handler).await.unwrap();
    let bus = home.bus().await;
    let (first, second) = (bus.submit(Count { to: 1 }).await.unwrap(), bus.submit(Count { to: 2 }).await.unwrap());
    let (first, second) = within("both", async { tokio::join!(first.outcome(), second.outcome()) }).await;
    assert_eq!((first.unwrap().at, second.unwrap().at), (1, 2));
}

pub(crate) async fn stopping_in_order_finishes_what_runs(home: Home) {
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let handler = {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        move |_: Count, context: JobContext<Count>| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            async move {
                entered.notify_one();
                drop(gate.acquire().await);
                Ok(Counted { at: context.attempt() })
            }
        }
    };
    let serving = home.bus().await.work(1, handler).await.unwrap();
    let handle = home.bus().await.submit(Count { to: 1 }).await.unwrap();
    within("the job to begin", entered.notified()).await;
    let stopping = tokio::spawn(serving.stop());
    tokio::task::yield_now().await;
    gate.add_permits(1);
    within("the stop", stopping).await.unwrap();
    assert_eq!(within("outcome", handle.outcome()).await.unwrap().at, 1);
}

pub(crate) async fn done_stays_done(home: Home) {
    let _serving = home
        .bus()
        .await
        .work(1, |job: Count, _: JobContext<Count>| async move { Ok(Counted { at: job.to }) })
        .await
        .unwrap();
    let mut handle = home.bus().await.submit(Count { to: 7 }).await.unwrap();
    for _ in 0..2 {
        match within("done", handle.next()).await {
            JobUpdate::Done(done) => assert_eq!(done.unwrap().at, 7),
            JobUpdate::Progress(progress) => panic!("no progress was made: {progress:?}"),
        }
    }
}

pub(crate) async fn queues_say_how_long_the_first_has_waited(home: Home) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        move |_: Count, _: JobContext<Count>| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(Counted { at: 1 })
            }
        }
    };
    let bus = home.bus().await;
    let _serving = bus.work(1, handler).await.unwrap();
    let first = bus.submit(Count { to: 1 }).await.unwrap();
    let state = async || bus.queues(&[Count::KIND]).await.unwrap().remove(0);
    while state().await.running == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(state().await.oldest, None, "it is being worked on");
    let second = bus.submit(Count { to: 2 }).await.unwrap();
    let waits = Instant::now();
    // It grows as the time goes by.
    for least in [Duration::ZERO, Duration::from_millis(300)] {
        loop {
            let now = state().await;
            assert!(now.oldest.is_none_or(|age| age < waits.elapsed() + Duration::from_secs(5)), "{now:?}");
            if now.waiting == 1 && now.oldest.is_some_and(|age| age >= least) {
                break;
            }
            assert!(waits.elapsed() < crate::homes::PATIENCE, "{now:?}");
            tokio::task::yield_now().await;
        }
    }
    gate.add_permits(2);
    for handle in [first, second] {
        within("outcome", handle.outcome()).await.unwrap();
    }
}
