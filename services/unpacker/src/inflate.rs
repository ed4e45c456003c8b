//! Undoing deflate (RFC 1951): what is asked of a library that does it, and the one that is always there, zlib-rs.
//!
//! A library sees only what lies between the header and the trailer of a gzip member (`gzip.rs`); so whichever is used, what
//! is a stream and what is damage is decided by the same code.

use std::io;

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many bytes of the input are used.
    pub(crate) read: usize,
    /// So many bytes of the output were written.
    pub(crate) written: usize,
    /// The end of the deflate stream. What was read of the input behind it is given back by [`Inflate::behind`].
    pub(crate) ended: bool,
}

/// One deflate stream after the other.
pub(crate) trait Inflate: Send {
    /// Goes on for as long as there are input and room. An empty input: there will be no more, what is held may come out.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step>;

    /// CRC-32 of what came out since the start of the stream.
    fn crc(&self) -> u32;

    /// Bytes that were read beyond the end of the stream; at most as many as a gzip trailer has, 8.
    fn behind(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Begins the next stream.
    fn reset(&mut self);
}

/// zlib-rs, through flate2: safe, fast, and nothing but Rust.
pub(crate) struct Zlib {
    state: flate2::Decompress,
    crc: flate2::Crc,
}

impl Zlib {
    pub(crate) fn new() -> Self {
        Self { state: flate2::Decompress::new(false), crc: flate2::Crc::new() }
    }
}

impl Inflate for Zlib {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        let (read, written) = (self.state.total_in(), self.state.total_out());
        // Told that there is no more, zlib gives what it has; a stream that is cut off is no error to it.
        let flush = if input.is_empty() { flate2::FlushDecompress::Finish } else { flate2::FlushDecompress::None };
        let status = self.state.decompress(input, output, flush).map_err(|error| corrupt(&error.to_string()))?;
        let step = Step {
            read: usize::try_from(self.state.total_in() - read).unwrap_or(input.len()),
            written: usize::try_from(self.state.total_out() - written).unwrap_or(output.len()),
            ended: status == flate2::Status::StreamEnd,
        };
        self.crc.update(output.get(..step.written).unwrap_or_default());
        Ok(step)
    }

    fn crc(&self) -> u32 {
        self.crc.sum()
    }

    fn reset(&mut self) {
        self.state.reset(false);
        self.crc.reset();
    }
}

/// A library.
pub struct Engine {
    /// Its name.
    pub name: &'static str,
    pub(crate) new: fn() -> Box<dyn Inflate>,
}

/// Those that this program was built with, the fastest first.
pub const ENGINES: &[Engine] = &[
    #[cfg(feature = "igzip")]
    Engine { name: "igzip", new: || Box::new(crate::igzip::Igzip::new()) },
    Engine { name: "zlib-rs", new: || Box::new(Zlib::new()) },
];

/// The fastest.
pub(crate) fn fastest() -> Box<dyn Inflate> {
    match ENGINES.first() {
        Some(engine) => (engine.new)(),
        None => Box::new(Zlib::new()),
    }
}

/// What was read cannot be a deflate stream.
pub(crate) fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("corrupt deflate stream: {why}"))
}
