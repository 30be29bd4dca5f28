//! What a client's encoding does to the reading of its texts.
//!
//! PostgreSQL turns a text into the server's encoding before its lexer sees it, and every server encoding keeps ASCII bytes for ASCII
//! characters. Some client-only encodings do not: the second byte of a character may be a backslash. We read the bytes as they come,
//! so under those a text with anything but ASCII in it cannot be read.
//!
//! MySQL's lexer reads the client's bytes as they come, by the tables of `character_set_client`: there a byte beyond ASCII may swallow
//! the backslash or backtick behind it (gbk), or be white space (0xA0 in latin1, so that `xàINTO` in UTF-8 holds a keyword).
//!
//! Sources: PostgreSQL manual, "Character Set Support", the encodings marked "client only"; tried with SJIS on 15. MySQL's sets were
//! measured on 9.7 and MariaDB 10.11: every byte beyond ASCII in every set, as white space, behind two dashes, and before a backslash, a
//! quote and a backtick.

use encoding_rs::Encoding;
use std::borrow::Cow;

/// How the bytes of a MySQL session's texts stand for characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Letters {
    #[default]
    Utf8,
    Coded(&'static Encoding),
}

impl Letters {
    /// By the server's name of `character_set_client`. UTF-8 stands for all that hold UTF-8 or are not known here.
    pub fn of_mysql(charset: &str) -> Letters {
        let known = MYSQL_CODED.iter().find(|(name, _)| charset.eq_ignore_ascii_case(name));
        known.map_or(Letters::Utf8, |(_, encoding)| Letters::Coded(encoding))
    }

    /// The text, if writing it gives these very bytes again.
    pub fn read(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Letters::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Letters::Coded(encoding) => encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .filter(|text| self.write(text).is_some_and(|again| again == bytes)),
        }
    }

    /// `None`: it has characters that these letters do not have.
    pub fn write(self, text: &str) -> Option<Cow<'_, [u8]>> {
        match self {
            Letters::Utf8 => Some(Cow::Borrowed(text.as_bytes())),
            Letters::Coded(encoding) => {
                let (bytes, _, lacks) = encoding.encode(text);
                (!lacks).then_some(bytes)
            }
        }
    }

    /// Names beyond ASCII are known for what the server takes them for. MySQL's `latin1` is Windows' 1252, its five gaps being control
    /// characters; of the others only strings and comments are taken to be what they seem.
    pub fn has_exact_names(self) -> bool {
        matches!(self, Letters::Utf8) || self == Letters::Coded(encoding_rs::WINDOWS_1252)
    }
}

/// The sets among those below, of which no character holds an ASCII byte, that are encodings of the Web as well.
#[rustfmt::skip]
const MYSQL_CODED: &[(&str, &Encoding)] = &[
    ("latin1", encoding_rs::WINDOWS_1252), ("latin2", encoding_rs::ISO_8859_2), ("latin5", encoding_rs::WINDOWS_1254),
    ("latin7", encoding_rs::ISO_8859_13), ("cp1250", encoding_rs::WINDOWS_1250), ("cp1251", encoding_rs::WINDOWS_1251),
    ("cp1256", encoding_rs::WINDOWS_1256), ("cp1257", encoding_rs::WINDOWS_1257), ("greek", encoding_rs::ISO_8859_7),
    ("hebrew", encoding_rs::ISO_8859_8), ("cp866", encoding_rs::IBM866), ("koi8r", encoding_rs::KOI8_R),
    ("koi8u", encoding_rs::KOI8_U), ("macroman", encoding_rs::MACINTOSH), ("tis620", encoding_rs::WINDOWS_874),
    ("ujis", encoding_rs::EUC_JP), ("eucjpms", encoding_rs::EUC_JP), ("euckr", encoding_rs::EUC_KR),
];

/// Whether bytes of a character can be ASCII bytes, by the name the server reports. Unknown names can.
pub fn is_ambiguous(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let safe = [
        "UTF8",
        "UNICODE",
        "SQLASCII",
        "MULEINTERNAL",
        "EUC",
        "LATIN",
        "WIN",
        "ISO8859",
        "KOI8",
        "TCVN",
        "ABC",
        "VSCII",
        "ALT",
    ];
    !safe.iter().any(|prefix| plain.starts_with(prefix))
}

/// Whether another client encoding could read this text in another way: a byte beyond ASCII right before a byte that is more than
/// a letter or a digit in one reading and the second half of a character in the other.
pub fn is_sensitive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(2).any(|pair| !pair[0].is_ascii() && matches!(pair[1], b'@' | b'['..=b'^' | b'`' | b'{'..=b'~'))
}

/// Whether a client of this encoding can be sent our words as they are.
pub fn is_utf8(name: &str) -> bool {
    matches!(name, "UTF8" | "UNICODE")
}

/// Whether MySQL or MariaDB, under this `character_set_client`, could cut a text into other tokens than we do, who take every byte beyond
/// ASCII for a part of a name. An empty name is one that is not known.
pub fn mysql_reads_otherwise(charset: &str, text: &[u8]) -> bool {
    let is = |name: &&str| charset.eq_ignore_ascii_case(name);
    if text.is_ascii() || MYSQL_PLAIN.iter().any(is) {
        return false;
    }
    if MYSQL_BUT_THE_LAST.iter().any(is) {
        return text.contains(&0xff);
    }
    // Any set whose characters hold ASCII bytes, and all that are not known, may read everything otherwise.
    !MYSQL_SPACED.iter().any(is) || has_hidden_space(text)
}

/// Whether a client of this `character_set_client` can be sent our words as they are.
pub fn is_mysql_utf8(charset: &str) -> bool {
    ["utf8mb4", "utf8mb3", "utf8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// In none of the lists: big5, cp932, gb18030, gbk and sjis, whose characters may end in a backslash or a backtick; swe7, in which those
/// are letters; and the sets that no client can have.
#[rustfmt::skip]
const MYSQL_PLAIN: &[&str] = &[
    "utf8mb4", "utf8mb3", "utf8", "ascii", "binary", "cp1251", "cp1256", "cp1257", "eucjpms", "euckr", "gb2312", "koi8r", "koi8u",
    "macce", "tis620", "ujis",
];

/// 0xFF is white space.
const MYSQL_BUT_THE_LAST: &[&str] = &["cp850", "cp852", "cp866", "keybcs2"];

/// 0xA0 is white space, or some bytes make a comment of two dashes before them.
#[rustfmt::skip]
const MYSQL_SPACED: &[&str] = &[
    "armscii8", "cp1250", "dec8", "geostd8", "greek", "hebrew", "hp8", "latin1", "latin2", "latin5", "latin7", "macroman",
];

fn has_hidden_space(text: &[u8]) -> bool {
    let dashed = |three: &[u8]| matches!(three, [b'-', b'-', after] if !after.is_ascii());
    text.contains(&0xa0) || text.windows(3).any(dashed)
}

/// For any other: the few signs that our own words use, in ASCII; what else is beyond ASCII becomes a question mark.
pub fn in_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{2514}' | '\u{251c}' => out.push('`'),
            '\u{2500}' | '\u{2013}' | '\u{2014}' => out.push('-'),
            '\u{2502}' => out.push('|'),
            '\u{2192}' => out.push_str("->"),
            '\u{2026}' => out.push_str("..."),
            ascii if ascii.is_ascii() => out.push(ascii),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_signs_have_ascii_forms() {
        assert_eq!(in_ascii("\u{2514} a \u{2192} b\u{2026} caf\u{e9}"), "` a -> b... caf?");
    }

    #[test]
    fn what_is_read_is_written_back_byte_for_byte() {
        let written: Vec<u8> = (0x20..0x7f).chain(0xa1..=0xfe).collect();
        for (name, encoding) in MYSQL_CODED {
            let letters = Letters::of_mysql(name);
            assert_eq!(letters, Letters::Coded(encoding));
            assert_eq!(letters.read(b"SELECT 'a\\'").as_deref(), Some("SELECT 'a\\'"), "{name}");
            if let Some(text) = letters.read(&written) {
                assert_eq!(letters.write(&text).as_deref(), Some(&written[..]), "{name}");
            }
            // No set in which bytes could be tokens of another kind than they seem is among them.
            assert!(!mysql_reads_otherwise(name, b"'\xe9\xe9'") && !is_mysql_utf8(name), "{name}");
        }
        let latin1 = Letters::of_mysql("LATIN1");
        let every: Vec<u8> = (0..=255).collect();
        let text = latin1.read(&every).expect("each byte is a character");
        assert_eq!(latin1.write(&text).as_deref(), Some(&every[..]));
        assert_eq!(latin1.read(b"caf\xe9").as_deref(), Some("caf\u{e9}"));
        assert_eq!(latin1.write("\u{5317}"), None, "there is no such letter");
        assert_eq!(Letters::of_mysql("ujis").read(b"\xb0"), None, "half a character");
        for name in ["utf8mb4", "binary", "ascii", "gbk", "sjis", "big5", "cp932", "gb18030", "swe7", ""] {
            assert_eq!(Letters::of_mysql(name), Letters::Utf8, "{name}");
        }
        assert_eq!(Letters::Utf8.read(b"\xe9"), None);
        assert!(latin1.has_exact_names() && !Letters::of_mysql("koi8r").has_exact_names());
    }

    #[test]
    fn mysql_reads_bytes_by_the_tables_of_the_clients_set() {
        let accents = "SELECT 'h\u{e9}llo' -- \u{e9}";
        let space = "SELECT 1 AS x\u{e0}INTO @y";
        let dashes = "SELECT 1 --\u{5317} '\n; DELETE FROM t -- '";
        let swallowed = "SELECT '\u{30c3}\\'; DELETE FROM t -- '";
        for (charset, expected) in [
            ("utf8mb4", [false, false, false, false]),
            ("UTF8MB3", [false, false, false, false]),
            ("binary", [false, false, false, false]),
            ("ujis", [false, false, false, false]),
            ("latin1", [false, true, true, false]),
            ("cp1250", [false, true, true, false]),
            ("gbk", [true, true, true, true]),
            ("sjis", [true, true, true, true]),
            ("gb18030", [true, true, true, true]),
            ("", [true, true, true, true]),
            ("what is this", [true, true, true, true]),
        ] {
            let found = [accents, space, dashes, swallowed].map(|text| mysql_reads_otherwise(charset, text.as_bytes()));
            assert_eq!(found, expected, "{charset}");
            assert!(!mysql_reads_otherwise(charset, b"SELECT 'a\\', `b`"), "{charset}");
        }
        assert!(mysql_reads_otherwise("latin1", b"SELECT 1 AS x\xa0INTO @y"));
        assert!(mysql_reads_otherwise("cp850", b"SELECT 1 AS x\xffINTO @y"));
        assert!(
            !mysql_reads_otherwise("cp850", b"SELECT '\x82'") && !mysql_reads_otherwise("latin1", b"SELECT '\xe9'")
        );
        assert!(is_mysql_utf8("utf8") && !is_mysql_utf8("latin1") && !is_mysql_utf8(""));
    }

    #[test]
    fn client_only_encodings_are_ambiguous() {
        for name in ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB", "what is this"] {
            assert!(is_ambiguous(name), "{name}");
        }
        for name in [
            "UTF8",
            "UNICODE",
            "SQL_ASCII",
            "LATIN1",
            "WIN1252",
            "EUC_JP",
            "EUC_JIS_2004",
            "ISO_8859_5",
            "KOI8R",
            "MULE_INTERNAL",
        ] {
            assert!(!is_ambiguous(name), "{name}");
        }
    }

    #[test]
    fn a_character_before_a_backslash_is_sensitive() {
        assert!(is_sensitive("SELECT E'\u{30c3}\\'; DELETE FROM t; --'"));
        assert!(!is_sensitive("SELECT 'h\u{e9}llo', '\u{30c3}', E'\\n'"));
    }
}
