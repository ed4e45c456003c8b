//! Calls, in any home.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use berth_bus::{Bus, Serving};
use berth_model::{Code, Status};
use tokio::sync::{Notify, Semaphore};

use crate::homes::{Home, PATIENCE, WAIT, within};
use crate::messages::{Ask, Told, WatchNews, ask, told};

async fn serve_named(bus: &Bus, name: &'static str) -> Serving {
    bus.serve(move |_: Ask| async move { Ok(told(name)) }).await.unwrap()
}

pub(crate) async fn a_call_is_answered(home: Home) {
    let _serving = home
        .bus()
        .await
        .serve(|request: Ask| async move { Ok(told(&format!("heard {}", request.what))) })
        .await
        .unwrap();
    assert_eq!(home.bus().await.call(ask("a")).await.unwrap(), told("heard a"));
}

pub(crate) async fn an_error_keeps_its_code_and_message(home: Home) {
    let handler = |request: Ask| async move {
        Err(Status::new(
            Code::from_number(request.what.parse().unwrap()),
            format!("no {} \"ü\"\nsecond line", request.what),
        ))
    };
    let _serving = home.bus().await.serve::<Ask, _, _>(handler).await.unwrap();
    let bus = home.bus().await;
    for number in 1..=16 {
        let status = bus.call(ask(&number.to_string())).await.unwrap_err();
        assert_eq!((status.code.number(), status.message), (number, format!("no {number} \"ü\"\nsecond line")));
    }
}

pub(crate) async fn a_panic_is_internal(home: Home) {
    let handler = |request: Ask| async move {
        assert_ne!(request.what, "boom", "this panic is part of the test");
        Ok(told("fine"))
    };
    let _serving = home.bus().await.serve(handler).await.unwrap();
    let bus = home.bus().await;
    assert_eq!(bus.call(ask("boom")).await.unwrap_err().code, Code::Internal);
    assert_eq!(bus.call(ask("x")).await.unwrap(), told("fine"));
}

pub(crate) async fn nobody_answers(home: Home) {
    let status = home.bus().await.call_within(ask("x"), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.message.contains("no `oracle` service answers"), "{status}");
    assert!(status.message.contains("berth serve"), "{status}");
}

pub(crate) async fn a_service_that_appears_is_waited_for(home: Home) {
    let bus = home.bus().await;
    let call = tokio::spawn({
        let bus = bus.clone();
        async move { bus.call_within(ask("x"), WAIT).await }
    });
    tokio::task::yield_now().await;
    let _serving = serve_named(&home.bus().await, "late").await;
    assert_eq!(call.await.unwrap().unwrap(), told("late"));
}

pub(crate) async fn too_large_requests_and_replies_are_refused(home: Home) {
    const SIZE: usize = 1024 * 1024;
    let handler = |request: Ask| async move {
        let filling = if request.what == "swell" { vec![0; SIZE] } else { Vec::new() };
        Ok(Told { text: request.filling.len().to_string(), filling })
    };
    let _serving = home.bus().await.serve(handler).await.unwrap();
    let bus = home.bus().await;
    let large = Ask { what: String::new(), filling: vec![0; SIZE] };
    let refused = within("large request", bus.call(large)).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    let refused = within("large reply", bus.call(ask("swell"))).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    let just_fits = Ask { what: String::new(), filling: vec![0; SIZE - 9000] };
    assert_eq!(bus.call(just_fits).await.unwrap().text, (SIZE - 9000).to_string());
}

pub(crate) async fn replicas_share(home: Home) {
    let (first, second) = (home.bus().await, home.bus().await);
    let _one = serve_named(&first, "one").await;
    let two = serve_named(&second, "two").await;
    let bus = home.bus().await;
    let mut seen = HashSet::new();
    within("both replicas", async {
        while seen.len() < 2 {
            seen.insert(bus.call(ask("x")).await.unwrap().text);
        }
    })
    .await;
    two.stop().await;
    for _ in 0..20 {
        assert_eq!(bus.call(ask("x")).await.unwrap(), told("one"));
    }
}

pub(crate) async fn many_at_once(home: Home) {
    let _serving = home.bus().await.serve(|request: Ask| async move { Ok(told(&request.what)) }).await.unwrap();
    let bus = home.bus().await;
    let calls = (0..3000).map(|n| {
        let bus = bus.clone();
        async move { (n, bus.call(ask(&n.to_string())).await) }
    });
    for (n, reply) in within("3000 calls", futures::future::join_all(calls)).await {
        assert_eq!(reply.unwrap().text, n.to_string());
    }
}

pub(crate) async fn long_polls_do_not_starve_quick_calls(home: Home) {
    let release = Arc::new(Notify::new());
    let begun = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (release, begun) = (Arc::clone(&release), Arc::clone(&begun));
        move |request: Ask| {
            let (release, begun) = (Arc::clone(&release), Arc::clone(&begun));
            async move {
                if request.what == "poll" {
                    let released = release.notified();
                    begun.fetch_add(1, Ordering::SeqCst);
                    released.await;
                }
                Ok(told("done"))
            }
        }
    };
    let _serving = home.bus().await.serve(handler).await.unwrap();
    let bus = home.bus().await;
    let polls: Vec<_> = (0..600)
        .map(|_| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.call_within(ask("poll"), Duration::from_secs(60)).await })
        })
        .collect();
    within("all polls to begin", async {
        while begun.load(Ordering::SeqCst) < 600 {
            bus.call(ask("quick")).await.unwrap();
        }
    })
    .await;
    assert_eq!(bus.call(ask("quick")).await.unwrap(), told("done"));
    // A poll that has begun listens already, so none misses this.
    release.notify_waiters();
    for poll in polls {
        within("poll", poll).await.unwrap().unwrap();
    }
}

pub(crate) async fn a_handler_outlives_its_caller(home: Home) {
    let (entered, gate, finished) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let handler = {
        let (entered, gate, finished) = (Arc::clone(&entered), Arc::clone(&gate), Arc::clone(&finished));
        move |_: Ask| {
            let (entered, gate, finished) = (Arc::clone(&entered), Arc::clone(&gate), Arc::clone(&finished));
            async move {
                entered.notify_one();
                drop(gate.acquire().await);
                finished.notify_one();
                Ok(told("done"))
            }
        }
    };
    let _serving = home.bus().await.serve(handler).await.unwrap();
    let bus = home.bus().await;
    let call = tokio::spawn(async move { bus.call(ask("x")).await });
    within("the handler to begin", entered.notified()).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    within("the handler to end", finished.notified()).await;
}

pub(crate) async fn a_slow_handler_misses_the_deadline(home: Home) {
    let _serving = home.bus().await.serve::<Ask, _, _>(|_| std::future::pending()).await.unwrap();
    let status = home.bus().await.call_within(ask("x"), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
}

pub(crate) async fn a_stopped_replica_hands_calls_over(home: Home) {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4).map(|_| (home.bus(), Arc::clone(&stop))).collect();
    let mut running = Vec::new();
    let mut serving = serve_named(&home.bus().await, "n").await;
    for (bus, stop) in callers {
        let bus = bus.await;
        running.push(tokio::spawn(async move {
            let mut answered = 0;
            while !stop.load(Ordering::SeqCst) {
                bus.call(ask("x")).await.unwrap();
                answered += 1;
            }
            answered
        }));
    }
    for _ in 0..10 {
        let next = serve_named(&home.bus().await, "n").await;
        std::mem::replace(&mut serving, next).stop().await;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in running {
        assert!(within("caller", caller).await.unwrap() > 0);
    }
}

/// Its time is not waited for, and who waits hears the news from the next replica.
pub(crate) async fn a_long_poll_does_not_hold_up_the_end(home: Home) {
    let begun = Arc::new(Notify::new());
    let handler = {
        let begun = Arc::clone(&begun);
        move |_: WatchNews| {
            begun.notify_one();
            std::future::pending()
        }
    };
    let serving = home.bus().await.serve::<WatchNews, _, _>(handler).await.unwrap();
    let bus = home.bus().await;
    let watching = tokio::spawn(async move { bus.call_within(WatchNews {}, PATIENCE).await });
    within("the poll", begun.notified()).await;
    let _next = home.bus().await.serve(|_: WatchNews| async { Ok(told("news")) }).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(5), serving.stop());
    assert!(stopped.await.is_ok(), "it waits for a long poll");
    assert_eq!(within("the news", watching).await.unwrap().unwrap(), told("news"));
}

pub(crate) async fn a_handler_can_know_that_its_caller_left(home: Home) {
    let (begun, noticed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, noticed) = (Arc::clone(&begun), Arc::clone(&noticed));
        move |request: Ask| {
            let (begun, noticed) = (Arc::clone(&begun), Arc::clone(&noticed));
            async move {
                let gone = berth_bus::caller_gone();
                if request.what == "quick" {
                    return Ok(told(if gone.is_cancelled() { "left" } else { "waits" }));
                }
                begun.notify_one();
                gone.cancelled().await;
                noticed.notify_one();
                Err(Status::cancelled("nobody waits"))
            }
        }
    };
    let _serving = home.bus().await.serve::<Ask, _, _>(handler).await.unwrap();
    let bus = home.bus().await;
    // It leaves by itself, and it runs out of time.
    let leaving = tokio::spawn({
        let bus = bus.clone();
        async move { bus.call_within(ask("long"), PATIENCE).await }
    });
    within("the handler", begun.notified()).await;
    leaving.abort();
    within("the news", noticed.notified()).await;
    let late = bus.call_within(ask("long"), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
    within("the news", noticed.notified()).await;
    // Whoever waits has not left.
    assert_eq!(bus.call(ask("quick")).await.unwrap(), told("waits"));
    assert!(!berth_bus::caller_gone().is_cancelled(), "outside of a handler nobody leaves");
}
