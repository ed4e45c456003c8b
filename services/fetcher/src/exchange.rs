//! A request until it is settled: pauses, tries, and credentials when they are asked for.

use std::time::{Duration, Instant, SystemTime};

use berth_model::Status;
use berth_telemetry::wait;
use http::{HeaderMap, StatusCode};
use reqwest::Response;

use crate::{
    auth::vault::Key,
    body::read_some,
    client::RegistryClient,
    endpoint::api_host,
    errand::{Errand, authority},
    failure::{Failure, FailureKind},
    numbers,
    refusal::Refusal,
    retry::{Judgement, Tries, judge, retry_after},
    transport::{Hop, Landed},
};

/// As much of an error's body is read as may hold a message.
const ERROR_BODY: u64 = 16 << 10;

impl RegistryClient {
    /// Sends a request, with credentials if they are asked for. The answer is a success or one that is settled.
    pub(crate) async fn send(&self, errand: &Errand<'_>, mut hop: Hop) -> Result<Response, Status> {
        let key = Key::of(&hop.url, errand);
        hop.authorization = self.vault.known(&key).await;
        let mut renewed = false;
        loop {
            let landed = self.persist(errand, &hop).await?;
            if landed.response.status() != StatusCode::UNAUTHORIZED || !landed.same_origin {
                return Ok(landed.response);
            }
            let headers = landed.response.headers().clone();
            if renewed {
                self.vault.forget(&key);
                return Err(self.denied(errand, &headers));
            }
            // The connection is kept only if the body was read.
            read_some(landed.response, ERROR_BODY, self.options.stall_timeout).await;
            let rejected = hop.authorization.take();
            let obtain = self.obtain(errand, &hop.url, &headers);
            hop.authorization = Some(self.vault.renew(&key, rejected.as_ref(), obtain).await?);
            renewed = true;
        }
    }

    /// Sends a request as often as it makes sense. Of answers that pass (429, 5xx) the last one becomes an error.
    pub(crate) async fn persist(&self, errand: &Errand<'_>, hop: &Hop) -> Result<Landed, Status> {
        let mut tries = Tries::new(&self.options);
        let mut throttled: Option<Tries> = None;
        let host = authority(&hop.url);
        loop {
            if let Some(pause) = self.pace.pause(&host) {
                wait::on("rate limit", tokio::time::sleep(pause)).await;
            }
            let mut reason = "retry";
            let pause = match self.transport.once(hop).await {
                Err(failure) => {
                    self.schemes.forget(api_host(errand.reference.registry()));
                    self.after_failure(&failure, &mut tries).ok_or_else(|| failure.status(errand))?
                }
                Ok(landed) => match seen(&host, &landed) {
                    Judgement::Settled => return Ok(landed),
                    judgement => {
                        let asked = self.asked_pause(landed.response.headers());
                        let own = tries.next();
                        let pause = match judgement {
                            Judgement::Throttled => {
                                throttled.get_or_insert_with(|| Tries::throttled(&self.options)).next()
                            }
                            _ => own,
                        };
                        let (Some(_), Some(pause), Ok(asked)) = (own, pause, &asked) else {
                            return Err(self.gave_up(errand, landed, asked.err()).await);
                        };
                        let pause = asked.unwrap_or(pause);
                        numbers::retry(numbers::cause(landed.response.status().as_u16()), &host);
                        if judgement == Judgement::Throttled {
                            reason = "rate limit";
                            self.pace.hold(&host, Instant::now() + pause);
                        }
                        pause
                    }
                },
            };
            tracing::debug!(%host, ?pause, "trying again");
            wait::on(reason, tokio::time::sleep(pause)).await;
        }
    }

    fn after_failure(&self, failure: &Failure, tries: &mut Tries) -> Option<Duration> {
        numbers::retry(failure.kind.word(), &failure.host);
        tracing::debug!(host = failure.host, kind = ?failure.kind, detail = failure.detail, "no answer");
        match failure.kind {
            FailureKind::Refused => tries.in_all(self.options.refused_attempts),
            _ if !failure.is_passing() => tries.in_all(0),
            _ => {}
        }
        tries.next()
    }

    /// What `Retry-After` asks for; an error if that is more than anybody wants to wait.
    fn asked_pause(&self, headers: &HeaderMap) -> Result<Option<Duration>, Duration> {
        match retry_after(headers, SystemTime::now()) {
            Some(asked) if asked > self.options.retry_after_max => Err(asked),
            asked => Ok(asked),
        }
    }

    async fn gave_up(&self, errand: &Errand<'_>, landed: Landed, asked: Option<Duration>) -> Status {
        let mut status = self.refusal(landed.response).await.status(errand);
        if let Some(asked) = asked {
            status.message = format!("{} (it asks to wait {} s)", status.message, asked.as_secs());
        }
        status
    }

    /// Reads an answer that is no success.
    pub(crate) async fn refusal(&self, response: Response) -> Refusal {
        let (status, host) = (response.status(), authority(response.url()));
        let body = read_some(response, ERROR_BODY, self.options.stall_timeout).await;
        Refusal { status, host, body }
    }
}

/// What an answer means for trying again; what it says of limits is taken down.
fn seen(host: &str, landed: &Landed) -> Judgement {
    numbers::budget(host, landed.response.headers());
    judge(landed.response.status())
}
