//! Against flate2's own reader of single members, for each library: hostile streams must end alike, good ones give the same bytes.

use std::io::{BufReader, Write as _};

use super::*;
use crate::inflate::{ENGINES, Engine};

/// The same format by flate2's reader of members.
fn reference(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let mut member = flate2::bufread::GzDecoder::new(rest);
        member.read_to_end(&mut out)?;
        rest = member.into_inner();
        match rest.first() {
            None => return Ok(out),
            Some(0) if rest.iter().all(|byte| *byte == 0) => return Ok(out),
            Some(0) => return Err(io::ErrorKind::InvalidData.into()),
            Some(_) => {}
        }
    }
}

/// By one of ours, with `piece` bytes of input and `room` bytes of output at a time.
fn ours(bytes: &[u8], engine: &Engine, piece: usize, room: usize) -> io::Result<Vec<u8>> {
    let mut reader = Gzip::new(BufReader::with_capacity(piece, bytes), (engine.new)());
    let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(out),
            read => out.extend_from_slice(&buffer[..read]),
        }
    }
}

#[track_caller]
fn alike(bytes: &[u8], what: impl Fn() -> String) {
    let expected = reference(bytes);
    for engine in ENGINES {
        for (piece, room) in [(1 << 16, 1 << 16), (5, 300)] {
            match (&expected, ours(bytes, engine, piece, room)) {
                (Ok(expected), Ok(out)) => assert!(*expected == out, "{}: other bytes: {}", engine.name, what()),
                (Err(_), Err(_)) => {}
                (Ok(_), Err(error)) => panic!("{}: refused ({error}): {}", engine.name, what()),
                (Err(error), Ok(_)) => panic!("{}: taken, but {error}: {}", engine.name, what()),
            }
        }
    }
}

fn pack(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Words, in no order: all kinds of lengths and distances.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = seed;
    let mut out = Vec::new();
    while out.len() < length {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(format!("w{:x} ", (random >> 40) % 5_000).as_bytes());
        if (random >> 33).is_multiple_of(50) {
            out.extend(std::iter::repeat_n(b'=', (random >> 50) as usize % 700));
        }
    }
    out
}

/// A small one whose header has everything.
fn adorned() -> Vec<u8> {
    let mut plain = pack(&text(3, 400), 6);
    let body = plain.split_off(10);
    let mut head = vec![0x1f, 0x8b, 8, FHCRC | FEXTRA | FNAME | FCOMMENT, 1, 2, 3, 4, 0, 3];
    head.extend_from_slice(&[5, 0, b'e', b'x', b't', b'r', b'a']);
    head.extend_from_slice(b"a name\0a comment\0");
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    head.extend_from_slice(&(crc.sum() as u16).to_le_bytes());
    [head, body].concat()
}

fn samples() -> Vec<Vec<u8>> {
    let (short, long) = (text(1, 600), text(2, 300_000));
    let random: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut all: Vec<Vec<u8>> =
        [0, 1, 6, 9].iter().flat_map(|level| [pack(&short, *level), pack(&long, *level)]).collect();
    all.extend([pack(b"", 6), pack(b"a", 6), pack(&random, 6), pack(&vec![0; 1_000_000], 9), adorned()]);
    all.push([pack(b"", 6), adorned(), pack(b"", 1), pack(&long, 6), pack(&short, 0)].concat());
    all.push([pack(&short, 6), vec![0; 700]].concat());
    all
}

#[test]
fn whole_streams_in_pieces_of_every_size() {
    for (number, sample) in samples().iter().enumerate() {
        let expected = reference(sample).unwrap();
        for engine in ENGINES {
            for (piece, room) in [(1, 1 << 16), (3, 1000), (4096, 7), (100_000, 1 << 20), (1 << 20, 40_000), (8, 1)] {
                let out = ours(sample, engine, piece, room).unwrap();
                assert!(out == expected, "{}: sample {number}, pieces of {piece}, room of {room}", engine.name);
            }
        }
    }
}

#[test]
fn cut_off_anywhere() {
    let one = [adorned(), pack(&text(4, 200), 6)].concat();
    for end in 0..one.len() {
        alike(&one[..end], || format!("cut off after {end}"));
    }
}

#[test]
fn any_bit_flipped() {
    for (number, sample) in
        [adorned(), pack(&text(5, 500), 6), pack(&text(6, 150), 0), pack(b"fixed codes", 6)].iter().enumerate()
    {
        let mut sample = [&sample[..], &pack(b"next", 6)].concat();
        for bit in 0..sample.len() * 8 {
            sample[bit / 8] ^= 1 << (bit % 8);
            alike(&sample, || format!("sample {number}, bit {bit}"));
            sample[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn what_follows_a_member() {
    let one = pack(&text(7, 300), 6);
    for rest in [
        &b"\0"[..],
        b"\0\0x",
        b"x",
        b"\x1f",
        b"\x1f\x8b",
        b"\x1f\x8b\x08",
        b"\x1f\x8b\x07\0\0\0\0\0\0\0",
        &one[..one.len() - 1],
    ] {
        alike(&[&one[..], rest].concat(), || format!("followed by {rest:02x?}"));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(std::env::var("BERTH_GZIP_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)))]

    /// Bytes overwritten anywhere in larger streams; and noise behind a good header.
    #[test]
    fn damage(seed: u64, level in 0..10_u32, places in proptest::collection::vec((proptest::prelude::any::<u32>(), proptest::prelude::any::<u8>()), 1..4), noise: bool) {
        let mut stream = pack(&text(seed, 20_000), level);
        let length = stream.len();
        for (place, byte) in &places {
            let at = if noise { 10 + *place as usize % 30 } else { *place as usize % length };
            stream[at] = *byte;
        }
        alike(&stream, || format!("seed {seed}, level {level}, {places:?}, {noise}"));
    }
}
