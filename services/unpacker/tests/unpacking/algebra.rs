//! Random stacks of layers, unpacked at the same time, committed, mounted: what is seen is what the model says.

use proptest::prelude::*;

use crate::{
    archive::archive,
    kit::Home,
    model::{Kind, Model, Node, Wish, node},
};
use berth_testing::tree::differences;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|parts| parts.join("/"))
}

fn made() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        4 => Just(Kind::Dir),
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Kind::File),
        2 => prop::sample::select(&["a", "b", "c", "b/c", "../a", "/a", "/c/b", "nowhere"][..]).prop_map(|target| Kind::Symlink(target.to_owned())),
        1 => Just(Kind::Fifo),
        1 => (1_u32..200, 0_u32..200).prop_map(|(major, minor)| Kind::Char(major, minor)),
    ];
    let mode = prop::sample::select(&[0o755, 0o700, 0o1777, 0o2750, 0o640, 0o4711][..]);
    (kind, mode, 0_u32..3, 0_u32..3, 1_u64..2_000_000_000)
        .prop_map(|(kind, mode, uid, gid, mtime)| node(kind, mode, (uid, gid), mtime))
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        6 => made().prop_map(Wish::Make),
        2 => (0_usize..100).prop_map(Wish::Link),
        2 => Just(Wish::Whiteout),
        1 => Just(Wish::Opaque),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Vec<(String, Wish)>>> {
    let layer = prop::collection::vec((path(), wish()), 1..10);
    prop::collection::vec(layer, 2..6)
}

/// The base has no whiteouts: without a layer below overlayfs would show them.
fn plain(layer: &[(String, Wish)]) -> Vec<(String, Wish)> {
    layer.iter().filter(|(_, wish)| matches!(wish, Wish::Make(_) | Wish::Link(_))).cloned().collect()
}

async fn check(layers: &[Vec<(String, Wish)>]) {
    let home = Home::new().await;
    let mut model = Model::default();
    let mut stack = Vec::new();
    let mut told = String::new();
    for (number, layer) in layers.iter().enumerate() {
        let items = if number == 0 { model.put(&plain(layer)) } else { model.put(layer) };
        told += &format!("layer {number}: {items:?}\n");
        let bytes = archive(&items);
        stack.push(home.put(&bytes, &bytes));
    }
    // Committed in several groups too: what is remembered of the first ones serves the others.
    let name = home.stack_by(&stack, 1 + layers.len() % 4).await.unwrap_or_else(|status| panic!("{status}\n{told}"));
    let mut found = home.seen(&name).await;
    found.remove(std::path::Path::new(""));
    let different = differences(&model.expected(&found), &found);
    assert!(different.is_empty(), "{}\n{told}", different.join("\n"));
}

/// The same stacks each time, so that a change is blamed for what it does; others when more are asked for.
fn seed() -> proptest::test_runner::RngSeed {
    match std::env::var("BERTH_STACKS") {
        Ok(_) => proptest::test_runner::RngSeed::Random,
        Err(_) => proptest::test_runner::RngSeed::Fixed(7),
    }
}

/// `BERTH_STACKS` asks for more.
fn stacks() -> u32 {
    std::env::var("BERTH_STACKS").map_or(150, |text| text.parse().expect("BERTH_STACKS"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: stacks(), rng_seed: seed(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_is_what_the_model_says(layers in layers()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(&layers));
    }
}
