//! Spells and reads the lines of the protocol; the module above is its grammar.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::meeting::Arrivals;

/// Tells a node what to do with the proxy in front of it, or with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Let nothing through.
    Blackhole,
    /// Let everything through again.
    Pass,
    /// End the process.
    Exit,
}

/// Is what a node wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Join { name: String },
    Barrier { label: String, wait: Duration },
    Put { key: String, value: String },
    Get { key: String, wait: Duration },
    Leave,
}

/// Is what the controller answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Joined,
    Ok {
        label: String,
        arrivals: Arrivals,
    },
    Timeout {
        label: String,
        arrivals: Arrivals,
    },
    Stored,
    Value(String),
    None,
    Left,
    Refused(String),
    /// A notice: the number is 0.
    Do(Command),
    /// A notice: the number is 0, and the link ends.
    Malformed(String),
}

/// A request or a reply behind its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered<T> {
    pub(super) number: u64,
    pub(super) what: T,
}

/// Says that a line breaks the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Tells whether a text can be a name, label or key.
pub(super) fn is_word(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_fine)
}

/// Tells whether a text can be a value.
pub(super) fn is_value(text: &str) -> bool {
    !text.contains(['\n', '\r'])
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { name } => write!(f, "join {name}"),
            Self::Barrier { label, wait } => write!(f, "barrier {label} {}", wait.as_millis()),
            Self::Put { key, value } => write!(f, "put {key} {value}"),
            Self::Get { key, wait } => write!(f, "get {key} {}", wait.as_millis()),
            Self::Leave => f.write_str("leave"),
        }
    }
}

impl FromStr for Request {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let (verb, rest) = split(line);
        Ok(match verb {
            "join" => Self::Join { name: word(rest)? },
            "barrier" => {
                let (label, wait) = split(rest);
                Self::Barrier { label: word(label)?, wait: millis(wait)? }
            }
            "put" => {
                let (key, value) = rest.split_once(' ').ok_or(Malformed)?;
                Self::Put { key: word(key)?, value: value.to_owned() }
            }
            "get" => {
                let (key, wait) = split(rest);
                Self::Get { key: word(key)?, wait: millis(wait)? }
            }
            "leave" if line == "leave" => Self::Leave,
            _ => return Err(Malformed),
        })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined => f.write_str("joined"),
            Self::Ok { label, arrivals } => {
                write!(f, "ok {label} {} {}", arrivals.round, names(&arrivals.arrived))
            }
            Self::Timeout { label, arrivals: Arrivals { round, arrived, missing } } => {
                write!(f, "timeout {label} {round} {} {}", names(arrived), names(missing))
            }
            Self::Stored => f.write_str("stored"),
            Self::Value(text) => write!(f, "value {text}"),
            Self::None => f.write_str("none"),
            Self::Left => f.write_str("left"),
            Self::Refused(reason) => write!(f, "refused {reason}"),
            Self::Do(command) => write!(f, "do {}", command.word()),
            Self::Malformed(reason) => write!(f, "malformed {reason}"),
        }
    }
}

impl FromStr for Reply {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let (verb, rest) = split(line);
        Ok(match verb {
            "joined" if rest.is_empty() => Self::Joined,
            "ok" => {
                let fields: Vec<&str> = rest.split(' ').collect();
                let [label, round, arrived] = *fields else { return Err(Malformed) };
                let arrivals = arrivals(round, arrived, "-")?;
                Self::Ok { label: word(label)?, arrivals }
            }
            "timeout" => {
                let fields: Vec<&str> = rest.split(' ').collect();
                let [label, round, arrived, missing] = *fields else { return Err(Malformed) };
                let arrivals = arrivals(round, arrived, missing)?;
                Self::Timeout { label: word(label)?, arrivals }
            }
            "stored" if rest.is_empty() => Self::Stored,
            "value" => Self::Value(rest.to_owned()),
            "none" if rest.is_empty() => Self::None,
            "left" if rest.is_empty() => Self::Left,
            "refused" => Self::Refused(rest.to_owned()),
            "do" => Self::Do(Command::from_word(rest)?),
            "malformed" => Self::Malformed(rest.to_owned()),
            _ => return Err(Malformed),
        })
    }
}

impl<T: fmt::Display> fmt::Display for Numbered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.number, self.what)
    }
}

impl<T: FromStr<Err = Malformed>> FromStr for Numbered<T> {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let (number, what) = split(line);
        Ok(Self { number: decimal(number)?, what: what.parse()? })
    }
}

impl Command {
    const ALL: [Self; 3] = [Self::Blackhole, Self::Pass, Self::Exit];

    fn word(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Pass => "pass",
            Self::Exit => "exit",
        }
    }

    fn from_word(word: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|command| command.word() == word).ok_or(Malformed)
    }
}

fn split(line: &str) -> (&str, &str) {
    line.split_once(' ').unwrap_or((line, ""))
}

fn word(text: &str) -> Result<String, Malformed> {
    if is_word(text) { Ok(text.to_owned()) } else { Err(Malformed) }
}

fn decimal(text: &str) -> Result<u64, Malformed> {
    // The library takes a sign, the grammar does not.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| Malformed)
    } else {
        Err(Malformed)
    }
}

fn millis(text: &str) -> Result<Duration, Malformed> {
    decimal(text).map(Duration::from_millis)
}

fn names(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn arrivals(round: &str, arrived: &str, missing: &str) -> Result<Arrivals, Malformed> {
    let set = |text: &str| match text {
        "-" => Ok(BTreeSet::new()),
        _ => text.split(',').map(word).collect(),
    };
    Ok(Arrivals { round: decimal(round)?, arrived: set(arrived)?, missing: set(missing)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> Vec<Reply> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let arrivals =
            Arrivals { round: 3, arrived: set(&["ada", "bob"]), missing: BTreeSet::new() };
        let timed_out = Arrivals { missing: set(&["eve"]), ..arrivals.clone() };
        let label = || "start/1".to_owned();
        vec![
            Reply::Joined,
            Reply::Ok { label: label(), arrivals },
            Reply::Timeout { label: label(), arrivals: timed_out },
            Reply::Stored,
            Reply::Value(" any  text ".to_owned()),
            Reply::None,
            Reply::Left,
            Reply::Refused("no such node".to_owned()),
            Reply::Do(Command::Blackhole),
            Reply::Do(Command::Exit),
            Reply::Malformed("that".to_owned()),
        ]
    }

    #[test]
    fn what_is_spelled_is_read_again() {
        for what in replies() {
            let line = Numbered { number: 7, what: what.clone() }.to_string();
            let line = line.strip_suffix('\n').unwrap();
            assert_eq!(line.parse(), Ok(Numbered { number: 7, what }), "{line:?}");
        }
        let wait = Duration::from_millis(1500);
        for what in [
            Request::Join { name: "ada".into() },
            Request::Barrier { label: "up".into(), wait },
            Request::Put { key: "port".into(), value: "2551 and more".into() },
            Request::Get { key: "port".into(), wait },
            Request::Leave,
        ] {
            let line = Numbered { number: u64::MAX, what: what.clone() }.to_string();
            let line = line.strip_suffix('\n').unwrap();
            assert_eq!(line.parse(), Ok(Numbered { number: u64::MAX, what }), "{line:?}");
        }
    }

    #[test]
    fn the_lines_of_the_grammar_are_frozen() {
        let spelled: Vec<String> = replies().iter().map(ToString::to_string).collect();
        assert_eq!(
            spelled,
            [
                "joined",
                "ok start/1 3 ada,bob",
                "timeout start/1 3 ada,bob eve",
                "stored",
                "value  any  text ",
                "none",
                "left",
                "refused no such node",
                "do blackhole",
                "do exit",
                "malformed that",
            ]
        );
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for line in [
            "",
            " ",
            "1",
            "join ada",
            "x join ada",
            "+1 join ada",
            "-1 leave",
            "1 join",
            "1 join ",
            "1 join a b",
            "1 join ada ",
            "1 barrier up",
            "1 barrier up -5",
            "1 barrier  5",
            "1 barrier up 5 ",
            "1 put key",
            "1 get key",
            "1 leave ",
            "1 leave now",
            "1 dance",
            "99999999999999999999 leave",
            "1 join \u{e4}da",
        ] {
            assert_eq!(line.parse::<Numbered<Request>>(), Err(Malformed), "{line:?}");
        }
        for line in ["1 ok up 1", "1 ok up 1 a b", "1 timeout up 1 a", "1 ok up 1 a,,b", "1 do it"]
        {
            assert_eq!(line.parse::<Numbered<Reply>>(), Err(Malformed), "{line:?}");
        }
        assert!(!is_word(&"x".repeat(65)) && is_word(&"x".repeat(64)));
    }
}
