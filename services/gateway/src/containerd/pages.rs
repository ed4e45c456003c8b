//! Lists: the contracts give pages, containerd's clients get all of it.

use std::future::Future;

use berth_model::Status;

/// Most items of an answer in one message. More would not fit one: gRPC's limit is in bytes, this stops the work before.
const MOST: usize = 200_000;

/// All items: `fetch` gives the page after a key and whether there are more, `key` is an item's key, and those that
/// `wanted` takes are kept.
pub(crate) async fn all<T, F: Future<Output = Result<(Vec<T>, bool), Status>>>(
    mut fetch: impl FnMut(String) -> F,
    key: impl Fn(&T) -> String,
    wanted: impl Fn(&T) -> bool,
) -> Result<Vec<T>, Status> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let (page, more) = fetch(std::mem::take(&mut after)).await?;
        if let Some(last) = page.last() {
            after = key(last);
        }
        let done = !more || page.is_empty();
        found.extend(page.into_iter().filter(&wanted));
        if found.len() > MOST {
            return Err(Status::resource_exhausted(format!(
                "more than {MOST} are listed; ask for fewer with a filter"
            )));
        }
        if done {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_walked_and_filtered() {
        let fetch = |after: String| async move {
            let rest = ["a", "b", "c", "d", "e"].into_iter().map(str::to_owned).filter(move |item| *item > after);
            let page: Vec<String> = rest.clone().take(2).collect();
            Ok((page, rest.count() > 2))
        };
        assert_eq!(all(fetch, Clone::clone, |item| item != "c").await.unwrap(), ["a", "b", "d", "e"]);
        let empty = |_| async { Ok((Vec::<String>::new(), true)) };
        assert!(all(empty, Clone::clone, |_| true).await.unwrap().is_empty(), "no page, no end");
    }
}
