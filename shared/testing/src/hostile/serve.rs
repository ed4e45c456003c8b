//! Connections: each request is recorded, answered decently, and then spoiled as ordered.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::{
    Fault, Seen, State,
    answer::{Answer, plain, ranged},
    http1::{self, Request},
};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

pub(crate) async fn accept(listener: TcpListener, state: Arc<State>, cdn: bool) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        // What a client does to the connection is its own affair.
        connections.spawn(async move { connection(stream, &state, cdn).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, state: &State, cdn: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = http1::read(&mut stream, &mut buffer).await? {
        state.record(&request, cdn);
        if !respond(&mut stream, state, &request, cdn).await? {
            return Ok(());
        }
    }
    Ok(())
}

impl State {
    fn record(&self, request: &Request, cdn: bool) {
        let header = |name| request.header(name).map(str::to_owned);
        self.seen.lock().unwrap().push(Seen {
            method: request.method.clone(),
            path: request.path.clone(),
            range: header("range"),
            authorization: header("authorization"),
            traceparent: header("traceparent"),
            accept_encoding: header("accept-encoding"),
            cdn,
            body: request.body.clone(),
        });
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{registry}", &self.registry.to_string()).replace("{cdn}", &self.cdn.to_string())
    }
}

/// Answers one request; false when the connection is done with.
async fn respond(stream: &mut TcpStream, state: &State, request: &Request, cdn: bool) -> io::Result<bool> {
    let mut answer = plain(state, request, cdn);
    // A challenge is not spoiled and uses no order up: what is ordered comes after it.
    let denied = answer.status == 401;
    let fault = (!denied).then(|| state.faults.lock().unwrap().take(&request.method, &request.path)).flatten();
    match fault {
        Some(Fault::Hangup) => return Ok(false),
        Some(Fault::Silence) => {
            tokio::time::sleep(FOR_EVER).await;
            return Ok(false);
        }
        // sleeps: that is what was ordered.
        Some(Fault::Late(pause)) => tokio::time::sleep(pause).await,
        _ => {}
    }
    if !denied {
        answer = match &fault {
            Some(Fault::IgnoreRange) => answer,
            Some(Fault::LyingRange(shift)) => ranged(answer, request.header("range"), *shift),
            _ => ranged(answer, request.header("range"), 0),
        };
        spoil(state, request, fault.as_ref(), &mut answer);
    }
    let head_only = request.method == "HEAD";
    let chunked = !head_only && matches!(fault, Some(Fault::EndAfter(_) | Fault::NoLength));
    if chunked {
        answer.set("Transfer-Encoding", "chunked");
    } else if fault != Some(Fault::NoLength) {
        answer.set("Content-Length", answer.body.len().to_string());
    }
    http1::write_head(stream, answer.status, &answer.headers).await?;
    if head_only {
        return Ok(true);
    }
    write_body(stream, state, &answer, fault, chunked).await
}

/// Changes an answer's head or bytes.
fn spoil(state: &State, request: &Request, fault: Option<&Fault>, answer: &mut Answer) {
    match fault {
        Some(Fault::Status(status, body)) => {
            *answer = Answer::json(*status, body);
            if body.starts_with('<') {
                answer.set("Content-Type", "text/html; charset=utf-8");
            }
        }
        Some(Fault::TooManyRequests(after)) => {
            *answer = Answer::json(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#);
            if let Some(after) = after {
                answer.set("Retry-After", after.clone());
            }
        }
        Some(Fault::ToCdn) => {
            *answer = Answer::json(307, "");
            answer.set(
                "Location",
                format!("http://{}{}?X-Signature=s3cr3t", state.cdn, request.path.replace("/v2/", "/cdn/")),
            );
        }
        Some(Fault::Redirect(to)) => {
            *answer = Answer::json(302, "");
            answer.set("Location", state.filled(to));
        }
        Some(Fault::Corrupt(at)) => {
            let mut bytes = answer.body.to_vec();
            if let Some(byte) = bytes.get_mut(*at) {
                *byte ^= 1;
            }
            answer.body = bytes.into();
        }
        Some(Fault::Longer(more)) => {
            let mut bytes = answer.body.to_vec();
            bytes.resize(bytes.len() + more, b'!');
            answer.body = bytes.into();
        }
        Some(Fault::NoRange) if request.header("range").is_some() => *answer = Answer::json(416, ""),
        Some(Fault::ContentType(kind)) => answer.set("Content-Type", kind.clone()),
        Some(Fault::NoDigest) => answer.unset("Docker-Content-Digest"),
        Some(Fault::WrongDigest(digest)) => answer.set("Docker-Content-Digest", digest.clone()),
        Some(Fault::NoHead) => *answer = Answer::json(405, ""),
        _ => {}
    }
}

/// Writes the bytes, or what was ordered of them; false when the connection is done with.
async fn write_body(
    stream: &mut TcpStream,
    state: &State,
    answer: &Answer,
    fault: Option<Fault>,
    chunked: bool,
) -> io::Result<bool> {
    let body = &answer.body;
    let sent = |bytes: usize| state.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    let part = |bytes: usize| &body[..bytes.min(body.len())];
    match fault {
        Some(Fault::EndAfter(bytes)) if !part(bytes).is_empty() => {
            http1::write_chunk(stream, part(bytes)).await?;
            http1::write_chunk(stream, &[]).await?;
        }
        _ if chunked => {
            if fault == Some(Fault::NoLength) && !body.is_empty() {
                http1::write_chunk(stream, body).await?;
            }
            http1::write_chunk(stream, &[]).await?;
        }
        Some(Fault::CloseAfter(bytes)) => {
            stream.write_all(part(bytes)).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Some(Fault::ResetAfter(bytes)) => {
            stream.write_all(part(bytes)).await?;
            // With no time to linger, closing resets.
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Some(Fault::StallAfter(bytes)) => {
            stream.write_all(part(bytes)).await?;
            tokio::time::sleep(FOR_EVER).await;
            return Ok(false);
        }
        Some(Fault::HeldAfter(bytes)) => {
            let (first, rest) = body.split_at(bytes.min(body.len()));
            stream.write_all(first).await?;
            sent(first.len());
            if !rest.is_empty() {
                let mut behaves = state.behaves.subscribe();
                if behaves.wait_for(|behaves| *behaves).await.is_err() {
                    return Ok(false);
                }
                stream.write_all(rest).await?;
                sent(rest.len());
            }
        }
        Some(Fault::Trickle(bytes, pause)) => {
            for piece in body.chunks(bytes.max(1)) {
                tokio::time::sleep(pause).await;
                stream.write_all(piece).await?;
                sent(piece.len());
            }
        }
        _ => {
            stream.write_all(body).await?;
            sent(body.len());
        }
    }
    Ok(true)
}
