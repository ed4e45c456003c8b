//! Inflating by ISA-L's igzip: C and assembly, a quarter faster than zlib-rs. Only with the feature `igzip`, because building
//! it takes autotools, and nasm on x86-64; on other processors than that and ARM's it is plain C.
//!
//! Why the calls are sound: the state is a plain C structure without pointers into itself, which `isal_inflate_init` fills;
//! `next_in` and `next_out` are set for each call from slices that outlive it, with their lengths, and the library reads and
//! writes nothing else. It is given hostile bytes, before their digest is known. 80,000 damaged streams, with input and output
//! each ending at a page that may not be touched, and of all sizes, made it touch none (docs/PERFORMANCE.md).

use std::io;

use isal_sys::igzip_lib as isal;

use crate::inflate::{Inflate, Step, corrupt};

/// What the library may be given at once.
const MOST: usize = 1 << 30;

pub(crate) struct Igzip {
    state: Box<isal::inflate_state>,
}

#[expect(unsafe_code, reason = "its pointers are set at the beginning of each call and not used after it")]
unsafe impl Send for Igzip {}

impl Igzip {
    pub(crate) fn new() -> Self {
        #[expect(unsafe_code, reason = "a C structure of numbers, arrays and pointers: all zeros is a value of it")]
        let state = unsafe { Box::<isal::inflate_state>::new_zeroed().assume_init() };
        let mut igzip = Self { state };
        #[expect(unsafe_code, reason = "a call into C with a whole structure of the type it wants")]
        unsafe {
            isal::isal_inflate_init(&raw mut *igzip.state);
        }
        igzip.state.crc_flag = isal::ISAL_GZIP_NO_HDR;
        igzip
    }
}

impl Inflate for Igzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        let (given, room) = (input.len().min(MOST), output.len().min(MOST));
        self.state.next_in = input.as_ptr().cast_mut();
        self.state.avail_in = given as u32;
        self.state.next_out = output.as_mut_ptr();
        self.state.avail_out = room as u32;
        #[expect(unsafe_code, reason = "a call into C; the pointers and lengths are those of the two slices")]
        let code = unsafe { isal::isal_inflate(&raw mut *self.state) };
        // Behind an error its count of the input is off by some bytes at times.
        let read = given.checked_sub(self.state.avail_in as usize).filter(|_| self.state.avail_out as usize <= room);
        let step = Step {
            read: read.unwrap_or(given),
            written: room.saturating_sub(self.state.avail_out as usize),
            ended: self.state.block_state == isal::isal_block_state_ISAL_BLOCK_FINISH,
        };
        self.state.next_in = std::ptr::null_mut();
        self.state.next_out = std::ptr::null_mut();
        match code {
            0 if read.is_some() => Ok(step),
            isal::ISAL_INVALID_BLOCK => Err(corrupt("an invalid block")),
            isal::ISAL_INVALID_SYMBOL => Err(corrupt("an invalid symbol")),
            isal::ISAL_INVALID_LOOKBACK => Err(corrupt("a distance too far back")),
            other => Err(corrupt(&format!("ISA-L's error {other}"))),
        }
    }

    fn crc(&self) -> u32 {
        self.state.crc
    }

    fn behind(&self) -> Vec<u8> {
        // It reads eight bytes at a time; those behind the end are in its bit buffer, from the next whole byte on.
        let bits = u32::try_from(self.state.read_in_length).unwrap_or(0).min(u64::BITS);
        let rest = self.state.read_in.checked_shr(bits % 8).unwrap_or(0).to_le_bytes();
        rest.get(..(bits / 8) as usize).unwrap_or_default().to_vec()
    }

    fn reset(&mut self) {
        #[expect(unsafe_code, reason = "a call into C with a whole structure of the type it wants")]
        unsafe {
            isal::isal_inflate_reset(&raw mut *self.state);
        }
    }
}
