//! What the server does not permit: it says so beside the conversation, and whoever waits for an answer has to hear of it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError};

/// Refusals that a waiting request has not looked at yet; older ones it misses, and waits for its time limit instead.
const NEWS: usize = 256;
/// Subscriptions remembered as refused. A service has some dozens.
const REMEMBERED: usize = 256;

/// The refusals of one connection.
#[derive(Debug)]
pub(super) struct Denials {
    news: broadcast::Sender<String>,
    subscriptions: Mutex<VecDeque<String>>,
}

impl Default for Denials {
    fn default() -> Self {
        Self { news: broadcast::Sender::new(NEWS), subscriptions: Mutex::default() }
    }
}

impl Denials {
    /// Reads what the server said; `false` if it is no refusal.
    pub(super) fn hear(&self, text: &str) -> bool {
        let Some(subject) = denied_subject(text) else { return false };
        if text.to_ascii_lowercase().contains("for subscription") {
            let mut all = self.subscriptions();
            all.push_back(subject.to_owned());
            if all.len() > REMEMBERED {
                all.pop_front();
            }
        }
        // Nobody may be waiting.
        drop(self.news.send(subject.to_owned()));
        true
    }

    /// Refusals from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<String> {
        self.news.subscribe()
    }

    /// Whether this subscription of ours was refused.
    pub(super) fn has_subscription(&self, subject: &str) -> bool {
        self.subscriptions().iter().any(|denied| denied == subject)
    }

    /// A new connection may have other permissions.
    pub(super) fn forget(&self) {
        self.subscriptions().clear();
    }

    fn subscriptions(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the server forbids a subject that is meant, and says which.
pub(super) async fn until(denied: &mut broadcast::Receiver<String>, is_meant: impl Fn(&str) -> bool) -> String {
    loop {
        match denied.recv().await {
            Ok(one) if is_meant(&one) => return one,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The subject in `Permissions Violation for Publish to "a.b"`.
fn denied_subject(text: &str) -> Option<&str> {
    if !text.to_ascii_lowercase().starts_with("permissions violation") {
        return None;
    }
    text.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_subject_is_found() {
        assert_eq!(denied_subject("Permissions Violation for Publish to \"berth.call.X\""), Some("berth.call.X"));
        assert_eq!(denied_subject("permissions violation for subscription to \"a.>\" using queue \"q\""), Some("a.>"));
        assert_eq!(denied_subject("maximum connections exceeded"), None);
    }

    #[test]
    fn refused_subscriptions_are_remembered_until_the_next_connection() {
        let denials = Denials::default();
        assert!(denials.hear("Permissions Violation for Subscription to \"a.*\""));
        assert!(denials.hear("Permissions Violation for Publish to \"b\""));
        assert!(!denials.hear("Slow Consumer"));
        assert!(denials.has_subscription("a.*") && !denials.has_subscription("b"));
        denials.forget();
        assert!(!denials.has_subscription("a.*"));
    }
}
