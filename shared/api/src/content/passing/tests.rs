//! What passes from a writer to its readers, and when the writer waits for them.

use super::*;

fn file() -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("data")).unwrap();
    (dir, file)
}

async fn write(source: &mut Source, at: u64, bytes: &[u8]) {
    let Room::Here(mut place) = source.place().await else { panic!("no memory") };
    place.buffer.room()[..bytes.len()].copy_from_slice(bytes);
    place.buffer.filled(bytes.len());
    source.pen().wrote(at, place);
}

fn is_none(room: Room) -> bool {
    matches!(room, Room::None)
}

fn is_here(room: Room) -> bool {
    matches!(room, Room::Here(_))
}

/// What it is told in the next three times that it has to wait, with readers that have so much of a piece in each.
async fn told_with_readers_of(pieces_a_second: u64) -> Vec<bool> {
    let (_dir, file) = file();
    let followers = [Stage::Hash, Stage::Use].map(|stage| Follower::join(&file, stage, 0).unwrap());
    let mut source = Source::of(&file).unwrap();
    // Twelve pieces in a second.
    for at in 0..OF_ONE as u64 {
        write(&mut source, at * PIECE as u64, &[1; PIECE]).await;
        tokio::time::advance(Duration::from_secs(1) / OF_ONE as u32).await;
    }
    let mut told = Vec::new();
    let mut passed = 0;
    while told.len() < 3 {
        passed += pieces_a_second * PIECE as u64 / 16;
        let moving = async {
            tokio::time::sleep(PATIENCE / 2).await; // sleeps: the clock is paused
            followers.iter().for_each(|follower| follower.passed(passed));
        };
        let (room, ()) = tokio::join!(source.place(), moving);
        told.push(matches!(room, Room::Later));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_much_faster_writer_waits_on_for_readers_that_move() {
    assert_eq!(told_with_readers_of(1).await, [true; 3]);
    assert_eq!(told_with_readers_of(0).await, [false; 3], "they stand still");
}

#[tokio::test]
async fn another_writer_has_other_bytes() {
    let (_dir, file) = file();
    let followers = [Stage::Hash, Stage::Use].map(|stage| Follower::join(&file, stage, 0).unwrap());
    let seen = |at| followers[0].bytes(at, 9);
    let mut first = Source::of(&file).unwrap();
    write(&mut first, 0, b"abc").await;
    assert_eq!(seen(1).unwrap(), &b"bc"[..]);
    let Room::Here(late) = first.place().await else { panic!("no memory") };
    let pen = first.pen();
    drop(first);
    assert!(seen(1).is_none());
    let mut second = Source::of(&file).unwrap();
    write(&mut second, 3, b"def").await;
    pen.wrote(0, late);
    assert!(seen(0).is_none(), "the first one's thread came too late");
    second.keep();
    drop(second);
    assert_eq!(seen(3).unwrap(), &b"def"[..], "it is a blob now");
}

/// The clock stands still but for what is waited for.
#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_its_readers_but_not_for_ever() {
    let (_dir, file) = file();
    let hash = Follower::join(&file, Stage::Hash, 0).unwrap();
    let slow = Follower::join(&file, Stage::Use, 0).unwrap();
    let mut source = Source::of(&file).unwrap();
    for at in 0..OF_ONE as u64 {
        write(&mut source, at, b"x").await;
    }
    hash.passed(100);
    let begun = Instant::now();
    assert!(is_none(source.place().await));
    assert_eq!(begun.elapsed(), PATIENCE);
    assert!(is_none(source.place().await));
    assert_eq!(begun.elapsed(), PATIENCE, "it waits no second time");
    slow.passed(3);
    assert!(is_here(source.place().await));
    slow.passed(100);
    for at in 0..OF_ONE as u64 {
        write(&mut source, 200 + at, b"x").await;
    }
    let passing = async {
        hash.passed(300);
        slow.passed(300);
    };
    let (place, ()) = tokio::join!(source.place(), passing);
    assert!(is_here(place) && begun.elapsed() == PATIENCE, "they caught up");
    drop(hash);
    assert!(is_none(source.place().await), "nobody hashes here");
}
