//! What is remembered of layers from one commit to the next makes no difference: not when it is used, and not when layers
//! below were removed and others came in their place.

use berth_testing::tree::differences;

use crate::{
    archive::{Item, archive},
    kit::{Home, Layer},
};

const NAMES: usize = 12;

/// Layers that say, each in another way, what becomes of the same names.
fn layers(home: &Home, count: usize, turn: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    for number in 0..count {
        let mut items = vec![Item::dir("."), Item::dir("d").mtime(1000 + number as u64), Item::dir("d/e")];
        for name in 0..NAMES {
            let (path, what) = (format!("d/e/{name}"), (number * 5 + name * 3 + turn) % 7);
            match what {
                0 => items.push(Item::file(&path, format!("{number} {turn}"))),
                1 | 2 if number > 0 => items.push(Item::whiteout(&path)),
                3 => items.extend([Item::dir(&path), Item::file(&format!("{path}/in"), "x")]),
                4 if number > 0 => items.extend([Item::dir(&path), Item::whiteout(&format!("{path}/in"))]),
                _ => {}
            }
        }
        if number > 0 && (number + turn).is_multiple_of(5) {
            items.push(Item::opaque("d/e"));
        }
        let bytes = archive(&items);
        layers.push(home.put(&bytes, &bytes));
    }
    layers
}

#[tokio::test]
async fn layers_committed_one_by_one_are_as_committed_at_once() {
    let (at_once, one_by_one) = (Home::new().await, Home::new().await);
    let together = at_once.stack(&layers(&at_once, 20, 0)).await.unwrap();
    let apart = one_by_one.stack_by(&layers(&one_by_one, 20, 0), 1).await.unwrap();
    let (shall, is) = (at_once.seen(&together).await, one_by_one.seen(&apart).await);
    assert_eq!(differences(&shall, &is), Vec::<String>::new());
    assert!(is.len() > 4 && !is.values().any(|entry| entry.kind == "char"), "{:?}", is.keys());
}

#[tokio::test]
async fn layers_removed_and_made_anew_are_looked_at_anew() {
    let (home, fresh) = (Home::new().await, Home::new().await);
    let first = layers(&home, 12, 0);
    let mut made = Vec::new();
    for count in 1..=first.len() {
        made.push(home.stack_by(&first[..count], 1).await.unwrap());
    }
    // From the top down, all but the lowest four; then others on those, and then the same again on nothing.
    for name in made.drain(4..).rev() {
        home.remove(&name).await;
    }
    let mixed = |home: &Home| [layers(home, 4, 0), layers(home, 12, 3).split_off(4)].concat();
    let is = home.stack_by(&mixed(&home), 3).await.unwrap();
    let shall = fresh.stack(&mixed(&fresh)).await.unwrap();
    assert_eq!(differences(&fresh.seen(&shall).await, &home.seen(&is).await), Vec::<String>::new());
}
