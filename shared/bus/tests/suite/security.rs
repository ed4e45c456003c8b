//! Connections that are encrypted, and users that prove who they are: what works, and how each refusal reads.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use berth_bus::{Bus, JobContext, NatsOptions, NatsSecurity};
use berth_model::{Code, Status};

use crate::homes::{Server, WAIT, within};
use crate::messages::{Ask, Count, Counted, ask, told};
use crate::papers::{Authority, Operator};

/// A server with a configuration of its own; it needs no TLS to be seen listening.
fn server_with(directory: &tempfile::TempDir, config: &str) -> Server {
    let file = directory.path().join("nats.conf");
    fs::write(&file, config).unwrap();
    Server::start(&["-c", file.to_str().unwrap()])
}

fn tls(authority: &Authority, more: &str) -> String {
    let path = |name| authority.path(name).display().to_string();
    format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\"{more} }}\n",
        path("server.pem"),
        path("server-key.pem"),
        path("ca.pem")
    )
}

fn options(server: &Server, security: NatsSecurity) -> NatsOptions {
    NatsOptions { security, ..server.options() }
}

async fn refused(server: &Server, security: NatsSecurity) -> Status {
    within("the refusal", Bus::connect(options(server, security))).await.expect_err("it should be refused")
}

/// A call and a job, there and back.
async fn works(options: NatsOptions) {
    let bus = Bus::connect(options.clone()).await.unwrap();
    let _serving = bus.serve(|_: Ask| async { Ok(told("heard")) }).await.unwrap();
    let handler = |job: Count, _: JobContext<Count>| async move { Ok(Counted { at: job.to }) };
    let _working = bus.work(1, handler).await.unwrap();
    let client = Bus::connect(options).await.unwrap();
    assert_eq!(within("the call", client.call(ask("x"))).await.unwrap(), told("heard"));
    let job = client.submit(Count { to: 3 }).await.unwrap();
    assert_eq!(within("the job", job.outcome()).await.unwrap().at, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_works_and_a_strange_ca_is_named() {
    let authority = Authority::new();
    authority.sign("server", "127.0.0.1");
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(&directory, &tls(&authority, ""));
    works(options(&server, NatsSecurity { ca: Some(authority.path("ca.pem")), ..NatsSecurity::default() })).await;

    let stranger = Authority::new();
    let status = refused(&server, NatsSecurity { ca: Some(stranger.path("ca.pem")), ..NatsSecurity::default() }).await;
    assert_eq!(status.code, Code::FailedPrecondition, "{status}");
    assert!(status.message.contains("was not signed by the CA in") && status.message.contains("ca.pem"), "{status}");
    let status = refused(&server, NatsSecurity::default()).await;
    assert!(status.message.contains("--nats-ca"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_or_time_is_refused() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let security = NatsSecurity { ca: Some(authority.path("ca.pem")), ..NatsSecurity::default() };
    authority.sign("server", "elsewhere.example");
    let status = refused(&server_with(&directory, &tls(&authority, "")), security.clone()).await;
    assert!(status.message.contains("is not for that host name"), "{status}");
    authority.sign_as("server", "127.0.0.1", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let status = refused(&server_with(&directory, &tls(&authority, "")), security).await;
    assert!(status.message.contains("has expired"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_a_certificate_gets_one() {
    let authority = Authority::new();
    authority.sign("server", "127.0.0.1");
    authority.sign("client", "content");
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(&directory, &tls(&authority, ", verify: true"));
    let none = NatsSecurity { ca: Some(authority.path("ca.pem")), ..NatsSecurity::default() };
    let with = |from: &Authority| NatsSecurity {
        cert: Some(from.path("client.pem")),
        key: Some(from.path("client-key.pem")),
        ..none.clone()
    };
    works(options(&server, with(&authority))).await;

    let status = refused(&server, none.clone()).await;
    assert!(status.message.contains("wants a client certificate"), "{status}");
    let stranger = Authority::new();
    stranger.sign("client", "content");
    let status = refused(&server, with(&stranger)).await;
    assert!(status.message.contains("does not accept the certificate in"), "{status}");
    let mixed = NatsSecurity { key: Some(stranger.path("client-key.pem")), ..with(&authority) };
    let status = refused(&server, mixed).await;
    assert!(status.message.contains("does not belong to the certificate"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_not_talked_to_in_the_clear() {
    let authority = Authority::new();
    let server = Server::start(&[]);
    let security = NatsSecurity { ca: Some(authority.path("ca.pem")), ..NatsSecurity::default() };
    let quickly = NatsOptions { wait: Duration::from_millis(500), ..options(&server, security) };
    let status = Bus::connect(quickly).await.unwrap_err();
    assert!(status.message.contains("TLS"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_is_proof() {
    let (known, unknown) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let directory = tempfile::tempdir().unwrap();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", known.public_key());
    let server = server_with(&directory, &config);
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        NatsSecurity { nkey_file: Some(file), ..NatsSecurity::default() }
    };
    works(options(&server, write("known.nk", &format!("{}\n", known.seed().unwrap())))).await;

    let status = refused(&server, write("unknown.nk", &unknown.seed().unwrap())).await;
    assert_eq!(status.code, Code::Unauthenticated, "{status}");
    assert!(status.message.contains("unknown.nk"), "{status}");
    let status = refused(&server, write("public.nk", &known.public_key())).await;
    assert!(status.message.contains("public.nk") && status.message.contains("seed"), "{status}");
    let absent = NatsSecurity { nkey_file: Some(PathBuf::from("/nowhere/x.nk")), ..NatsSecurity::default() };
    assert!(refused(&server, absent).await.message.contains("/nowhere/x.nk"));
    let status = refused(&server, NatsSecurity::default()).await;
    assert!(status.message.contains("nkey_file"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_is_proof_until_it_expires() {
    let operator = Operator::new();
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(&directory, operator.config());
    let security = |name: &str, life| {
        let file = directory.path().join(name);
        operator.write_user(&file, life);
        NatsSecurity { credentials_file: Some(file), ..NatsSecurity::default() }
    };
    works(options(&server, security("good.creds", Duration::from_secs(600)))).await;
    let status = refused(&server, security("old.creds", Duration::ZERO)).await;
    assert_eq!(status.code, Code::Unauthenticated, "{status}");
    assert!(status.message.contains("old.creds") && status.message.contains("expired"), "{status}");
    let status = refused(&server, NatsSecurity { nkey_file: None, ..security_of(&directory, "not.creds") }).await;
    assert!(status.message.contains("not a NATS credentials file"), "{status}");
}

fn security_of(directory: &tempfile::TempDir, name: &str) -> NatsSecurity {
    let file = directory.path().join(name);
    fs::write(&file, "nothing of the kind").unwrap();
    NatsSecurity { credentials_file: Some(file), ..NatsSecurity::default() }
}

/// The server ends a connection whose user has expired; with renewed credentials in the same file it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_credentials_are_used_without_a_restart() {
    let operator = Operator::new();
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(&directory, operator.config());
    let file = directory.path().join("user.creds");
    operator.write_user(&file, Duration::from_secs(2));
    let security = NatsSecurity { credentials_file: Some(file.clone()), ..NatsSecurity::default() };
    let bus = Bus::connect(options(&server, security.clone())).await.unwrap();
    let why = within("the user to expire", async {
        loop {
            if let Err(status) = bus.call_within(ask("x"), Duration::from_millis(50)).await
                && status.message.contains("not connected")
                && status.message.contains("authorization violation")
            {
                return status;
            }
        }
    })
    .await;
    assert_eq!(why.code, Code::Unavailable, "{why}");
    operator.write_user(&file, Duration::from_secs(600));
    let _serving =
        Bus::connect(options(&server, security)).await.unwrap().serve(|_: Ask| async { Ok(told("again")) }).await;
    assert_eq!(within("the call", bus.call_within(ask("x"), WAIT * 10)).await.unwrap(), told("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--user", "content", "--pass", "hush hush"]);
    let with = |text: &str| {
        let file = directory.path().join("password");
        fs::write(&file, text).unwrap();
        NatsSecurity { user: Some("content".into()), password_file: Some(file), ..NatsSecurity::default() }
    };
    works(options(&server, with("hush hush\n"))).await;
    let status = refused(&server, with("hush")).await;
    assert_eq!(status.code, Code::Unauthenticated, "{status}");
    assert!(status.message.contains("the user content") && !status.message.contains("hush"), "{status}");
    let half = NatsSecurity { password_file: None, ..with("x") };
    assert_eq!(refused(&server, half).await.code, Code::InvalidArgument);
}
