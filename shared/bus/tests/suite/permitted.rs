//! One user for each service, with the permissions that the bus works out: what it needs works, anything else is refused.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use berth_bus::{
    Bus, BusEvent, Call as _, Job as _, JobContext, NatsOptions, NatsSecurity, Role, UserKey, caller_gone, users_conf,
};
use berth_model::{Code, Status};
use futures::StreamExt as _;
use tokio::sync::Notify;

use crate::homes::{Server, within};
use crate::messages::{Ask, Count, Counted, ask, told};

/// A server for some services: `oracle` answers, `worker` counts, `client` asks and submits.
struct Village {
    server: Server,
    directory: tempfile::TempDir,
}

impl Village {
    fn new() -> Self {
        let roles = [
            Role { name: "oracle", publishes: true, ..Role::default() },
            Role { name: "worker", works: vec![Count::KIND], subscribes: true, ..Role::default() },
            Role { name: "client", calls: vec![Ask::SUBJECT], submits: vec![Count::KIND], ..Role::default() },
            Role { name: "stranger", ..Role::default() },
        ];
        let directory = tempfile::tempdir().unwrap();
        let mut public = Vec::new();
        for role in &roles {
            let key = UserKey::generate().unwrap();
            fs::write(directory.path().join(role.name), &key.seed).unwrap();
            public.push(key.public);
        }
        let config =
            format!("accounts {{ A {{ jetstream: enabled\n{} }} }}", users_conf("berth", &roles, &public).unwrap());
        let file = directory.path().join("nats.conf");
        fs::write(&file, config).unwrap();
        Self { server: Server::start(&["-c", file.to_str().unwrap()]), directory }
    }

    fn options(&self, user: &str, role: &str) -> NatsOptions {
        let security = NatsSecurity { nkey_file: Some(self.directory.path().join(user)), ..NatsSecurity::default() };
        NatsOptions { role: role.to_owned(), security, ..self.server.options() }
    }

    async fn bus(&self, role: &str) -> Bus {
        Bus::connect(self.options(role, role)).await.unwrap()
    }
}

fn event(id: &str) -> BusEvent {
    BusEvent { subject: "a".into(), id: id.into(), headers: Vec::new(), body: bytes::Bytes::new() }
}

fn assert_denied(result: Result<impl std::fmt::Debug, Status>, subject: &str) {
    let status = result.expect_err("it should be refused");
    assert_eq!(status.code, Code::PermissionDenied, "{status}");
    assert!(status.message.contains(&format!("not permitted on subject {subject}")), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_needs_works_and_what_it_does_not_is_refused() {
    let village = Village::new();
    let (oracle, worker, client) =
        (village.bus("oracle").await, village.bus("worker").await, village.bus("client").await);
    let _serving = oracle.serve(|_: Ask| async { Ok(told("heard")) }).await.unwrap();
    let handler = |job: Count, _: JobContext<Count>| async move {
        if job.to == 0 { Err(Status::not_found("nothing")) } else { Ok(Counted { at: job.to }) }
    };
    let _working = worker.work(1, handler).await.unwrap();
    assert_eq!(within("the call", client.call(ask("x"))).await.unwrap(), told("heard"));
    let job = client.submit(Count { to: 2 }).await.unwrap();
    assert_eq!(within("the job", job.outcome()).await.unwrap().at, 2);
    let job = client.submit(Count { to: 0 }).await.unwrap();
    assert_eq!(within("the job", job.outcome()).await.unwrap_err().code, Code::NotFound);
    within("the event", oracle.publish(event("1"))).await.unwrap();
    let mut events = worker.subscribe(">").await.unwrap();
    oracle.publish(event("2")).await.unwrap();
    assert_eq!(within("the event", events.next()).await.unwrap().unwrap().id, "2");

    assert_denied(within("a call", worker.call(ask("x"))).await, "berth.call.oracle.v1.Ask");
    assert_denied(within("a job", oracle.submit(Count { to: 1 })).await, "$JS.API.STREAM.INFO.BERTH_JOBS");
    assert_denied(within("an event", client.publish(event("3"))).await, "$JS.API.STREAM.INFO.BERTH_EVENTS");
    assert_denied(within("work", client.work(1, handler)).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_another_service_is_told_at_once() {
    let village = Village::new();
    let refused = within("the refusal", Bus::connect(village.options("worker", "client"))).await;
    let status = refused.as_ref().unwrap_err();
    assert!(status.message.contains("this user is not the one of `client`"), "{status}");
    assert_denied(refused, "berth.inbox.client.");
}

/// Any client with any key: it hears no answers, no jobs and no calls of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens_to_what_is_for_others() {
    let village = Village::new();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let seed = fs::read_to_string(village.directory.path().join("stranger")).unwrap();
    let stranger = async_nats::ConnectOptions::with_nkey(seed)
        .event_callback(move |event| {
            drop(heard.send(event.to_string()));
            std::future::ready(())
        })
        .connect(village.server.url())
        .await
        .unwrap();
    for subject in [
        ">",
        "berth.>",
        "berth.inbox.client.>",
        "berth.call.oracle.v1.Ask",
        "berth.jobreply.>",
        "berth.events.>",
        "$JS.>",
    ] {
        let mut messages = stranger.subscribe(subject).await.unwrap();
        let refused = within(subject, async {
            loop {
                let event = hearing.recv().await.unwrap();
                if event.contains("Permissions Violation") {
                    return event;
                }
            }
        })
        .await;
        assert!(refused.contains(&format!("\"{subject}\"")), "{refused}");
        assert!(tokio::time::timeout(Duration::ZERO, messages.next()).await.is_err());
    }
}

/// A service at work hears that its caller left: for that, callers may write to the inboxes of those they call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_hears_that_its_caller_left() {
    let village = Village::new();
    let (oracle, client) = (village.bus("oracle").await, village.bus("client").await);
    let (entered, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, gone) = (Arc::clone(&entered), Arc::clone(&gone));
        move |_: Ask| {
            let (entered, gone) = (Arc::clone(&entered), Arc::clone(&gone));
            async move {
                entered.notify_one();
                caller_gone().cancelled().await;
                gone.notify_one();
                Ok(told("too late"))
            }
        }
    };
    let _serving = oracle.serve(handler).await.unwrap();
    let call = tokio::spawn(async move { client.call_within(ask("x"), crate::homes::PATIENCE * 2).await });
    within("the handler to begin", entered.notified()).await;
    call.abort();
    within("the handler to hear", gone.notified()).await;
}
