//! What a scope may ask of a principal and a time: globs, address ranges, weekly windows, each parsed once into a form that
//! cannot be wrong.
//!
//! Invariant: parsing refuses what it does not understand with a sentence that can be shown; matching cannot fail.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use std::net::IpAddr;

/// `*` stands for any run of characters, `?` for one; everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    pub fn new(pattern: &str) -> Result<Glob, String> {
        match pattern.is_empty() {
            true => Err("an empty pattern matches nothing".to_owned()),
            false => Ok(Glob(pattern.to_owned())),
        }
    }

    /// Walks both texts once, going back to the last `*` only: linear in practice, and never exponential.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut at, mut seen, mut star) = (0, 0, None);
        while seen < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(&wanted) if wanted == '?' || Some(&wanted) == text.get(seen) => (at, seen) = (at + 1, seen + 1),
                _ => match star {
                    Some((star_at, taken)) => {
                        star = Some((star_at, taken + 1));
                        (at, seen) = (star_at + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(at).all(|&rest| rest == '*')
    }
}

/// One address, a range (`10.0.0.0/8`, `2001:db8::/32`), or `local` for unix sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    Local,
    Range { network: IpAddr, prefix: u8 },
}

impl Addresses {
    pub fn parse(text: &str) -> Result<Addresses, String> {
        if text == "local" {
            return Ok(Addresses::Local);
        }
        let wrong = || format!("`{text}` is not an address, a range such as 10.0.0.0/8, or \"local\"");
        let (network, prefix) = match text.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= width(network)).ok_or_else(wrong)?,
            None => width(network),
        };
        let outside = bits(network) & !mask(network, prefix);
        match outside {
            0 => Ok(Addresses::Range { network, prefix }),
            _ => Err(format!("`{text}` has bits set beyond its prefix: which range is meant?")),
        }
    }

    pub fn matches(&self, address: &str) -> bool {
        match self {
            Addresses::Local => address == "local",
            Addresses::Range { network, prefix } => {
                // A dual-stack socket shows an IPv4 client as ::ffff:a.b.c.d.
                let Ok(address) = address.parse::<IpAddr>().map(|address| address.to_canonical()) else {
                    return false;
                };
                let same_family = address.is_ipv4() == network.is_ipv4();
                same_family && (bits(address) & mask(*network, *prefix)) == bits(*network)
            }
        }
    }
}

/// A window that comes back every week: "Mon-Fri 08:00-18:00 Europe/Berlin". One that passes midnight belongs to the day it
/// starts on. Without a zone: UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Monday first.
    days: [bool; 7],
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Window {
    pub fn parse(text: &str) -> Result<Window, String> {
        let wrong = || format!("`{text}` is not a window such as \"Mon-Fri 08:00-18:00 Europe/Berlin\"");
        let mut words = text.split_ascii_whitespace();
        let days = parse_days(words.next().ok_or_else(wrong)?).ok_or_else(wrong)?;
        let (from, to) = words.next().and_then(|times| times.split_once('-')).ok_or_else(wrong)?;
        let (from, to) = (parse_time(from).ok_or_else(wrong)?, parse_time(to).ok_or_else(wrong)?);
        let zone = zone(words.next())?;
        match words.next() {
            Some(_) => Err(wrong()),
            None => Ok(Window { days, from, to, zone }),
        }
    }

    pub fn contains(&self, now: Timestamp) -> bool {
        let local = now.to_zoned(self.zone.clone());
        let (day, time) = (local.weekday(), local.time());
        let yesterday = day.previous();
        match self.from < self.to {
            true => self.on(day) && self.from <= time && time < self.to,
            // From one day into the next; "00:00-00:00" is the whole day.
            false => (self.on(day) && self.from <= time) || (self.on(yesterday) && time < self.to),
        }
    }

    fn on(&self, day: Weekday) -> bool {
        self.days.get(usize::from(day.to_monday_zero_offset().unsigned_abs())).copied().unwrap_or(false)
    }
}

/// A point in time as people write it: "2026-12-20 18:00 Europe/Berlin", "2026-12-20T18:00:00+01:00", "2026-12-20" (its first
/// minute). Without a zone: UTC.
pub fn parse_moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let wrong = || format!("`{text}` is not a time such as \"2026-12-20 18:00 Europe/Berlin\"");
    let mut words = text.split_ascii_whitespace().peekable();
    let date: Date = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
    let time = match words.peek().and_then(|word| parse_time(word).filter(|_| *word != "24:00")) {
        Some(time) => {
            words.next();
            time
        }
        None => Time::midnight(),
    };
    let zone = zone(words.next())?;
    if words.next().is_some() {
        return Err(wrong());
    }
    date.to_datetime(time).to_zoned(zone).map(|zoned| zoned.timestamp()).map_err(|_| wrong())
}

fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None | Some("UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| format!("`{name}` is not a time zone that is known here")),
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// "daily", "Mon", "Mon-Fri", "Sat,Sun", "Fri-Mon".
fn parse_days(text: &str) -> Option<[bool; 7]> {
    if text.eq_ignore_ascii_case("daily") {
        return Some([true; 7]);
    }
    let number = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        *days.get_mut(day)? = true;
        while day != last {
            day = (day + 1) % DAYS.len();
            *days.get_mut(day)? = true;
        }
    }
    Some(days)
}

/// "08:00"; "24:00" is the midnight that ends the day.
fn parse_time(text: &str) -> Option<Time> {
    if text == "24:00" {
        return Some(Time::midnight());
    }
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !(two_digits(hour) && two_digits(minute)) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(network: IpAddr, prefix: u8) -> u128 {
    let width = u32::from(width(network));
    let all = u128::MAX >> (128 - width);
    all & !all.checked_shr(u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let matching = [
            ("*", ""),
            ("etl_*", "etl_night"),
            ("*_ro", "app_ro"),
            ("a?c", "abc"),
            ("a*b*c", "a--b--b-c"),
            ("é?", "éx"),
        ];
        let others = [("etl_*", "xetl_1"), ("a?c", "ac"), ("abc", "abcd"), ("a*b", "a-bc"), ("A", "a"), ("?", "")];
        for (pattern, text) in matching {
            assert!(Glob::new(pattern).expect("a pattern").matches(text), "{pattern} {text}");
        }
        for (pattern, text) in others {
            assert!(!Glob::new(pattern).expect("a pattern").matches(text), "{pattern} {text}");
        }
        assert!(Glob::new("").is_err());
    }

    #[test]
    fn moments() {
        for (text, moment) in [
            ("2026-12-20 18:00 Europe/Berlin", "2026-12-20T17:00:00Z"),
            ("2026-07-20 18:00 Europe/Berlin", "2026-07-20T16:00:00Z"),
            ("2026-12-20 18:00", "2026-12-20T18:00:00Z"),
            ("2026-12-20", "2026-12-20T00:00:00Z"),
            ("2026-12-20 Europe/Berlin", "2026-12-19T23:00:00Z"),
            ("2026-12-20T18:00:00+01:00", "2026-12-20T17:00:00Z"),
        ] {
            assert_eq!(parse_moment(text).map(|found| found.to_string()), Ok(moment.to_owned()), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-13-01",
            "2026-12-20 25:00",
            "2026-12-20 24:00",
            "2026-12-20 18:00 Mars",
            "2026-12-20 18:00 UTC x",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let matching = [
            ("10.0.0.0/8", "10.200.3.4"),
            ("10.0.0.0/8", "::ffff:10.1.1.1"),
            ("192.168.1.7", "192.168.1.7"),
            ("0.0.0.0/0", "8.8.8.8"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("::/0", "2001:db8::1"),
            ("local", "local"),
        ];
        let others = [
            ("10.0.0.0/8", "11.0.0.1"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "1.2.3.4"),
            ("0.0.0.0/0", "local"),
            ("local", "127.0.0.1"),
            ("10.0.0.0/8", "nonsense"),
            ("192.168.1.7", "192.168.1.8"),
        ];
        for (range, address) in matching {
            assert!(Addresses::parse(range).expect("a range").matches(address), "{range} {address}");
        }
        for (range, address) in others {
            assert!(!Addresses::parse(range).expect("a range").matches(address), "{range} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "host", "::/129", "10.0.0.0/-1"] {
            assert!(Addresses::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn inside(window: &str, at: &str) -> bool {
        Window::parse(window).expect("a window").contains(at.parse().expect("a time"))
    }

    #[test]
    fn windows() {
        // 2026-03-02 is a Monday.
        assert!(inside("Mon-Fri 08:00-18:00", "2026-03-02T08:00:00Z"));
        assert!(!inside("Mon-Fri 08:00-18:00", "2026-03-02T18:00:00Z"), "the end is not in the window");
        assert!(!inside("Mon-Fri 08:00-18:00", "2026-03-07T12:00:00Z"), "a Saturday");
        assert!(inside("Sat,Sun 00:00-24:00", "2026-03-07T23:59:59Z"));
        assert!(inside("Fri-Mon 00:00-24:00", "2026-03-08T12:00:00Z"), "days go round");
        assert!(!inside("Fri-Mon 00:00-24:00", "2026-03-03T12:00:00Z"));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_starts_on() {
        assert!(inside("Fri 22:00-06:00", "2026-03-06T23:00:00Z"));
        assert!(inside("Fri 22:00-06:00", "2026-03-07T05:59:00Z"));
        assert!(!inside("Fri 22:00-06:00", "2026-03-06T05:00:00Z"));
        assert!(!inside("Fri 22:00-06:00", "2026-03-07T22:30:00Z"));
    }

    #[test]
    fn a_window_keeps_the_clock_of_its_zone_in_summer_and_winter() {
        assert!(inside("daily 08:00-09:00 Europe/Berlin", "2026-01-15T07:30:00Z"));
        assert!(!inside("daily 08:00-09:00 Europe/Berlin", "2026-07-15T07:30:00Z"));
        assert!(inside("daily 08:00-09:00 Europe/Berlin", "2026-07-15T06:30:00Z"));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let wrong = [
            "",
            "Mon",
            "Mon-Fri 8-18",
            "Mon-Fri 08:00",
            "Mon-Fri 25:00-26:00",
            "Foo 08:00-09:00",
            "Mon 08:00-09:00 Mars/Base",
            "Mon 08:00-09:00 UTC now",
            "Mon 08:60-09:00",
        ];
        for text in wrong {
            assert!(Window::parse(text).is_err(), "{text}");
        }
    }
}
