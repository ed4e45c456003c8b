//! What a piece of work spent its time on, and what it had to do again: kept while it runs, and told with its outcome. From
//! such accounts a pull explains itself.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

tokio::task_local! {
    static OPEN: Arc<Mutex<Account>>;
}

/// What was spent, by what; and counted, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Time.
    pub spent: BTreeMap<&'static str, Duration>,
    /// Times, and by whose doing.
    pub counted: BTreeMap<(&'static str, String), u64>,
}

impl Account {
    /// The times in microseconds, as messages have them.
    pub fn micros(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.spent.iter().map(|(what, time)| ((*what).to_owned(), micros(*time)))
    }
}

/// Microseconds.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Runs `work` with an account of its own.
pub async fn kept<F: Future>(work: F) -> (F::Output, Account) {
    let open = Arc::new(Mutex::new(Account::default()));
    let done = OPEN.scope(Arc::clone(&open), work).await;
    let account = open.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (done, account)
}

/// Time went by, for this. Without an account nobody is told.
pub fn spent(what: &'static str, time: Duration) {
    change(|account| *account.spent.entry(what).or_default() += time);
}

/// Something happened (once more), by the doing of `who`.
pub fn counted(what: &'static str, who: &str) {
    change(|account| *account.counted.entry((what, who.to_owned())).or_default() += 1);
}

/// Runs `work` and notes how long it took, also if it is dropped on the way.
pub async fn timed<F: Future>(what: &'static str, work: F) -> F::Output {
    let _watch = Watch { what, since: Instant::now() };
    work.await
}

struct Watch {
    what: &'static str,
    since: Instant,
}

impl Drop for Watch {
    fn drop(&mut self) {
        spent(self.what, self.since.elapsed());
    }
}

fn change(change: impl FnOnce(&mut Account)) {
    // Outside of `kept` there is no account, and that is no fault.
    if let Ok(()) = OPEN.try_with(|open| change(&mut open.lock().unwrap_or_else(PoisonError::into_inner))) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_work_has_its_own_account() {
        let work = |times: usize| async move {
            for _ in 0..times {
                timed("sleep", tokio::task::yield_now()).await;
                counted("again", "host");
            }
            spent("a fixed time", Duration::from_millis(7));
        };
        let ((), one) = kept(work(1)).await;
        let ((), two) = kept(work(2)).await;
        let again = ("again", "host".to_owned());
        assert_eq!((one.counted[&again], two.counted[&again]), (1, 2));
        assert_eq!(two.spent["a fixed time"], Duration::from_millis(7));
        assert!(one.micros().any(|pair| pair == ("a fixed time".to_owned(), 7000)));
        // Nobody listens.
        work(1).await;
    }
}
