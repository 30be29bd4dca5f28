//! A reader over one payload that cannot read past it: MySQL's numbers, low byte first, and its lengths of varying width.
//!
//! Invariant: every method either returns a part of the payload or [`Short`]; none panics, whatever the bytes.
//!
//! Source: MySQL's "Client/Server Protocol", page "Protocol::LengthEncodedInteger".

use crate::protocol::cursor::{Cursor, Short};

pub struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { whole: payload, at: 0 }
    }

    /// How much was read.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let end = self.at.checked_add(count).ok_or(Short)?;
        let taken = self.whole.get(self.at..end).ok_or(Short)?;
        self.at = end;
        Ok(taken)
    }

    /// Up to a NUL, which is consumed and not returned.
    pub fn cstr(&mut self) -> Result<&'a [u8], Short> {
        let taken = Cursor::new(self.rest()).cstr()?;
        self.at += taken.len() + 1;
        Ok(taken)
    }

    /// A number of one, three, four or nine bytes. 0xfb stands for NULL elsewhere and 0xff for an error: neither is a number.
    pub fn lenenc(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            0xfc => self.u16().map(u64::from),
            0xfd => self.array().map(|[low, middle, high]| u64::from(u32::from_le_bytes([low, middle, high, 0]))),
            0xfe => self.u64(),
            0xfb | 0xff => Err(Short),
            small => Ok(u64::from(small)),
        }
    }

    /// A string behind its length.
    pub fn lenenc_bytes(&mut self) -> Result<&'a [u8], Short> {
        let length = self.lenenc()?;
        self.bytes(usize::try_from(length).map_err(|_| Short)?)
    }

    /// What is left, without taking it.
    pub fn rest(&self) -> &'a [u8] {
        self.whole.get(self.at..).unwrap_or_default()
    }

    /// What is left, taken.
    pub fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest();
        self.at = self.whole.len();
        rest
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.whole.len()
    }

    /// Full consumption: a payload with bytes left over is not the message it says it is.
    pub fn finish(self) -> Result<(), Short> {
        if self.is_empty() { Ok(()) } else { Err(Short) }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        self.bytes(N)?.try_into().map_err(|_| Short)
    }
}

/// Appends a number of varying width.
pub fn put_lenenc(out: &mut bytes::BytesMut, number: u64) {
    use bytes::BufMut;
    match number {
        0..0xfb => out.put_u8(number as u8),
        0xfb..0x1_0000 => {
            out.put_u8(0xfc);
            out.put_u16_le(number as u16);
        }
        0x1_0000..0x100_0000 => {
            out.put_u8(0xfd);
            out.put_uint_le(number, 3);
        }
        _ => {
            out.put_u8(0xfe);
            out.put_u64_le(number);
        }
    }
}

/// Appends a string behind its length.
pub fn put_lenenc_bytes(out: &mut bytes::BytesMut, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_reads_past_the_payload() {
        let mut reader = Reader::new(b"ab\0\x01\x02\x03a\xff");
        assert_eq!(reader.cstr(), Ok(&b"ab"[..]));
        assert_eq!(reader.u16(), Ok(0x0201));
        assert_eq!(reader.lenenc_bytes(), Err(Short));
        assert_eq!(reader.rest(), b"a\xff");
        assert_eq!(Reader::new(b"\xff").lenenc(), Err(Short));
        assert_eq!(Reader::new(b"\xfb").lenenc(), Err(Short));
        assert_eq!(Reader::new(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffx").lenenc_bytes(), Err(Short));
        assert_eq!(Reader::new(b"no end").cstr(), Err(Short));
        assert_eq!(Reader::new(b"x").finish(), Err(Short));
    }

    #[test]
    fn numbers_come_back_as_they_were_written() {
        for number in [0, 250, 251, 252, 255, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut out = bytes::BytesMut::new();
            put_lenenc(&mut out, number);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.lenenc(), Ok(number));
            assert!(reader.is_empty(), "{number}");
        }
    }
}
