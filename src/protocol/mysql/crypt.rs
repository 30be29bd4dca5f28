//! How MySQL keeps a password of caching_sha2_password: crypt(3)'s SHA-256, with a salt of twenty bytes.
//!
//! Written out here because every library at hand, as crypt(3) itself, cuts a salt off after sixteen bytes, and MySQL does not (tried on
//! 9.7). The hash is a library's; this is the order in which it is applied.
//!
//! Invariant: what is made of the password on the way is wiped.
//!
//! Source: Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", whose steps are numbered here; `my_crypt_genhash`
//! (mysys/crypt_genhash_impl.cc, MySQL 9.7).

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

/// The digest as it is written: 43 characters.
pub const TEXT: usize = 43;

/// The characters it is written in, by their value.
pub const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The digest of a password. Takes time by `rounds` and by the password's length, which the caller bounds.
pub fn sha256(password: &[u8], salt: &[u8], rounds: u32) -> [u8; TEXT] {
    // 4 to 8, 1 to 3 and 9 to 12.
    let alternate = hashed(&[password, salt, password]);
    let mut first = Context::new(&SHA256);
    first.update(password);
    first.update(salt);
    first.update(&repeated(&alternate, password.len()));
    let mut length = password.len();
    while length > 0 {
        first.update(if length & 1 == 1 { &alternate[..] } else { password });
        length >>= 1;
    }
    let mut digest = ended(first);
    // 13 to 16: as many times the password as it has bytes.
    let mut many = Context::new(&SHA256);
    password.iter().for_each(|_| many.update(password));
    let of_password = repeated(&ended(many), password.len());
    // 17 to 20.
    let mut many = Context::new(&SHA256);
    (0..16 + usize::from(digest[0])).for_each(|_| many.update(salt));
    let of_salt = repeated(&ended(many), salt.len());
    // 21.
    for round in 0..rounds {
        let mut context = Context::new(&SHA256);
        context.update(if round & 1 == 1 { &of_password } else { &digest[..] });
        if round % 3 != 0 {
            context.update(&of_salt);
        }
        if round % 7 != 0 {
            context.update(&of_password);
        }
        context.update(if round & 1 == 1 { &digest[..] } else { &of_password });
        digest = ended(context);
    }
    written(&digest)
}

type Digest = Zeroizing<[u8; 32]>;

fn hashed(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    ended(context)
}

fn ended(context: Context) -> Digest {
    let mut digest = Zeroizing::new([0; 32]);
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The digest over and over, up to this length.
fn repeated(digest: &[u8; 32], length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(digest.iter().copied().cycle().take(length).collect())
}

/// 22: three bytes at a time, in an order of its own, six bits a character, the lowest first.
fn written(digest: &[u8; 32]) -> [u8; TEXT] {
    let mut text = [0; TEXT];
    let mut places = text.iter_mut();
    let mut put = |bits: u32, characters: usize| {
        for (at, place) in places.by_ref().take(characters).enumerate() {
            *place = ALPHABET[(bits >> (6 * at) & 63) as usize];
        }
    };
    let byte = |at: usize| u32::from(digest[at]);
    let (mut high, mut middle, mut low) = (0, 10, 20);
    for _ in 0..10 {
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
        (high, middle, low) = ((high + 21) % 30, (middle + 21) % 30, (low + 21) % 30);
    }
    put(byte(31) << 8 | byte(30), 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's examples whose salt crypt(3) takes whole, as glibc's has them; and what MySQL 9.7 kept of a password.
    #[test]
    fn what_others_make_of_the_same_password() {
        let long = "a very much longer text to encrypt.  This one even stretches over morethan one line.";
        let of_mysql = b"\x13(r5<6\x01G'j\x10\x043Sq\x150ed-";
        for (password, salt, rounds, expected) in [
            ("Hello world!", &b"saltstring"[..], 5_000, "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            ("Hello world!", b"saltstringsaltst", 10_000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            (long, b"anotherlongsalts", 1_400, "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
            (
                "the minimum number is still observed",
                b"roundstoolow",
                1_000,
                "yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC",
            ),
            ("secret", of_mysql, 10_000, "YFRHp3EScqpTlAwFnj/Z9s3Rm1RiYQM9c12Vu9PE53C"),
        ] {
            let seen = sha256(password.as_bytes(), salt, rounds);
            assert_eq!(String::from_utf8_lossy(&seen), expected, "{password}");
        }
    }
}
