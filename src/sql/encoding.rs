//! What a client's encoding does to the reading of its texts.
//!
//! PostgreSQL turns a text into the server's encoding before its lexer sees it, and every server encoding keeps ASCII bytes for ASCII
//! characters. Some client-only encodings do not: the second byte of a character may be a backslash. We read the bytes as they come,
//! so under those a text with anything but ASCII in it cannot be read.
//!
//! Source: PostgreSQL manual, "Character Set Support", the encodings marked "client only"; tried with SJIS on 15.

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
