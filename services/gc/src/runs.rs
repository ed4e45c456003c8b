//! The runs: one goes on at a time, equal ones that wait are one, and the last ones are remembered.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use berth_model::Status;
use berth_telemetry::context;
use berth_wire::gc::start_run_request::Kind;
use tracing::{Instrument as _, Span};

use crate::report::Report;

/// Runs that are remembered.
const REMEMBERED: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Mutex<VecDeque<Run>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Run {
    id: String,
    kind: Kind,
    begun: bool,
    report: Arc<Report>,
    /// Until it begins: who joins is tied to it.
    span: Span,
}

impl Runs {
    fn runs(&self) -> MutexGuard<'_, VecDeque<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run, or joins one that has not begun to look. Each is a trace of its own, tied to whoever asked for it and to
    /// those (`causes`, their `traceparent`) who made it due.
    pub(crate) fn start<F>(
        self: &Arc<Self>,
        kind: Kind,
        causes: &[String],
        work: impl FnOnce(Arc<Report>) -> F,
    ) -> Result<(String, Arc<Report>), Status>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let mut runs = self.runs();
        if let Some(waiting) = runs.iter().find(|run| !run.begun && run.kind == kind) {
            context::link_span(&waiting.span, &Span::current());
            return Ok((waiting.id.clone(), Arc::clone(&waiting.report)));
        }
        if runs.len() >= REMEMBERED {
            let Some(over) = runs.iter().position(|run| run.report.is_over()) else {
                return Err(Status::resource_exhausted(format!(
                    "{REMEMBERED} runs wait for their turn already; try again when some are done"
                )));
            };
            runs.remove(over);
        }
        let id = uuid::Uuid::now_v7().to_string();
        let report = Report::new();
        let work = work(Arc::clone(&report));
        let what = if matches!(kind, Kind::Check(_)) { "check" } else { "collect" };
        let span = tracing::info_span!(parent: None, "gc", otel.name = format_args!("gc {what}"), run = id);
        context::link_span(&span, &Span::current());
        context::link_all(&span, causes.iter().map(String::as_str));
        runs.push_back(Run { id: id.clone(), kind, begun: false, report: Arc::clone(&report), span: span.clone() });
        drop(runs);
        let (all, ended, turn, own) = (Arc::clone(self), Arc::clone(&report), Arc::clone(&self.turn), id.clone());
        let run = async move {
            let _turn = turn.lock_owned().await;
            all.begin(&own);
            // Its own task: a panic ends the run and not the queue.
            let done = match tokio::spawn(work.in_current_span()).await {
                Ok(done) => done,
                Err(error) => Err(Status::internal(format!("the run failed: {error}"))),
            };
            if let Err(status) = &done {
                tracing::warn!(%status, "a run of the gc service ended early");
            }
            ended.end(done);
        };
        tokio::spawn(run.instrument(span));
        Ok((id, report))
    }

    fn begin(&self, id: &str) {
        if let Some(run) = self.runs().iter_mut().find(|run| run.id == id) {
            run.begun = true;
            run.span = Span::none();
        }
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<Report>, Status> {
        let found = self.runs().iter().find(|run| run.id == id).map(|run| Arc::clone(&run.report));
        found.ok_or_else(|| {
            Status::not_found(format!(
                "no run {id} is known: it ended long ago, or the gc service was started anew; begin another"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use berth_wire::gc::{Check, Collect};
    use tokio::sync::Notify;

    use super::*;

    const COLLECT: Kind = Kind::Collect(Collect { dry_run: false });

    #[tokio::test]
    async fn who_asks_while_one_runs_gets_the_next() {
        let runs = Arc::new(Runs::default());
        let (go, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = |_report: Arc<Report>| {
            let (go, started) = (Arc::clone(&go), Arc::clone(&started));
            async move {
                started.notify_one();
                go.notified().await;
                Ok(())
            }
        };
        let (first, _) = runs.start(COLLECT, &[], work).unwrap();
        started.notified().await;
        let (second, waiting) = runs.start(COLLECT, &[], work).unwrap();
        let (third, _) = runs.start(COLLECT, &[], work).unwrap();
        let (other, _) = runs.start(Kind::Check(Check::default()), &[], work).unwrap();
        assert_ne!(first, second, "the first one looked already");
        assert_eq!(second, third, "the second has not");
        assert_ne!(second, other);
        assert!(!waiting.is_over());
        for _ in 0..2 {
            go.notify_one();
            started.notified().await;
        }
        go.notify_one();
        waiting.ended().await.unwrap();
        assert!(runs.find("none").is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_run() {
        let runs = Arc::new(Runs::default());
        let (_, report) = runs.start(COLLECT, &[], |_| async { panic!("on purpose") }).unwrap();
        assert!(report.ended().await.is_err());
        let (_, report) = runs.start(COLLECT, &[], |_| async { Ok(()) }).unwrap();
        report.ended().await.unwrap();
    }
}
