//! A reader over one frame's body that cannot read past it.
//!
//! Invariant: every method either returns a part of the body or [`Short`]; none panics, whatever the bytes.

/// The body ended, or a string in it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short;

pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(body: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: body }
    }

    pub fn u8(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn i16(&mut self) -> Result<i16, Short> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Short> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        if self.rest.len() < count {
            return Err(Short);
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    /// Up to a NUL, which is consumed and not returned.
    pub fn cstr(&mut self) -> Result<&'a [u8], Short> {
        let end = memchr::memchr(0, self.rest).ok_or(Short)?;
        let taken = self.bytes(end)?;
        self.u8()?;
        Ok(taken)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Full consumption: a body with bytes left over is not the message it says it is.
    pub fn finish(self) -> Result<(), Short> {
        if self.rest.is_empty() { Ok(()) } else { Err(Short) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let taken = self.bytes(N)?;
        taken.try_into().map_err(|_| Short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_reads_past_the_body() {
        let mut cursor = Cursor::new(b"ab\0\x00\x01");
        assert_eq!(cursor.cstr(), Ok(&b"ab"[..]));
        assert_eq!(cursor.i32(), Err(Short));
        assert_eq!(cursor.i16(), Ok(1));
        assert_eq!(cursor.u8(), Err(Short));
        assert!(cursor.finish().is_ok());
        assert_eq!(Cursor::new(b"no end").cstr(), Err(Short));
        assert_eq!(Cursor::new(b"x").finish(), Err(Short));
    }
}
