//! A wire format of one's own: `name=value` lines, used between two nodes.
//!
//! `cargo run --example custom_codec`

#![expect(clippy::print_stdout, reason = "shows what it does")]

use std::error::Error;
use std::time::Duration;

use tellwire::Node;
use tellwire::codec::{Codec, CodecFault, CodecRegistry, DecodeError};
use tellwire::event::Reason;
use tellwire::node::{AskError, Context, TellError};

#[derive(Debug, Clone, PartialEq)]
struct Reading {
    sensor: String,
    celsius: i32,
}

/// What another program takes a reading to be.
struct Feeling(&'static str);

/// Writes a message as lines of `name=value`.
struct Lines;

impl Codec<Reading> for Lines {
    const NAME: &'static str = "lines";

    fn encode(reading: &Reading, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        if reading.sensor.contains('\n') {
            return Err(CodecFault::encode("a sensor's name is one line"));
        }
        out.extend_from_slice(
            format!("sensor={}\ncelsius={}\n", reading.sensor, reading.celsius).as_bytes(),
        );
        Ok(())
    }

    /// Takes nothing for granted: the bytes come from a peer.
    fn decode(bytes: &[u8]) -> Result<Reading, CodecFault> {
        let text = std::str::from_utf8(bytes).map_err(CodecFault::decode)?;
        let (sensor, rest) = take_line(text, "sensor=")?;
        let (celsius, rest) = take_line(rest, "celsius=")?;
        if !rest.is_empty() {
            return Err(CodecFault::Trailing { extra: rest.len() });
        }
        let celsius = celsius.parse().map_err(CodecFault::decode)?;
        Ok(Reading { sensor: sensor.to_owned(), celsius })
    }
}

fn take_line<'a>(text: &'a str, name: &str) -> Result<(&'a str, &'a str), CodecFault> {
    let value = text.strip_prefix(name).and_then(|rest| rest.split_once('\n'));
    value.ok_or_else(|| CodecFault::decode(format_args!("no line `{name}`")))
}

impl Codec<Feeling> for Lines {
    const NAME: &'static str = "lines";

    fn encode(feeling: &Feeling, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        out.extend_from_slice(format!("sensor=kitchen\ncelsius={}\n", feeling.0).as_bytes());
        Ok(())
    }

    fn decode(_: &[u8]) -> Result<Feeling, CodecFault> {
        Err(CodecFault::decode("nobody reads feelings"))
    }
}

tellwire::remote_messages! {
    table SENSORS, codec = Lines;
    "sensors.v1.Reading" => Reading,
}

tellwire::remote_messages! {
    table OTHERS, codec = Lines;
    "sensors.v1.Reading" => Feeling,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    bad_bytes_are_told_by_type()?;

    // A registry holds one type per wire name, so these nodes take one table and not all that is linked.
    let home = Node::builder("Home").listen("tcp://127.0.0.1:0").codecs(SENSORS).start().await?;
    home.spawn("/user/warmer", async |reading: Reading, cx: &mut Context| {
        cx.reply(&Reading { celsius: reading.celsius + 1, ..reading })
    })?;
    let away = Node::builder("Home").listen("tcp://127.0.0.1:0").codecs(SENSORS).start().await?;
    let warmer = away.resolve(home.path("/user/warmer")?)?;

    let reading = Reading { sensor: "kitchen".into(), celsius: 20 };
    let warmed: Reading = warmer.ask(&reading, WAIT).await?;
    println!("{warmed:?}");
    assert_eq!(warmed, Reading { celsius: 21, ..reading });

    // What cannot be encoded is refused where it is told; nothing is sent.
    let refused =
        warmer.tell(&Reading { sensor: "two\nlines".into(), celsius: 0 }).expect_err("two lines");
    println!("{refused}");
    assert!(matches!(refused, TellError::Codec(e) if matches!(e.fault(), CodecFault::Encode(_))));

    // What cannot be decoded costs that message, and its asker hears why.
    let failed = warmer.ask::<_, Reading>(&Feeling("warm"), WAIT).await.expect_err("no number");
    println!("{failed}");
    assert_eq!(failed, AskError::Failed(Reason::Undecodable));
    let again: Reading = warmer.ask(&warmed, WAIT).await?;
    assert_eq!(again.celsius, 22);

    away.shutdown(WAIT).await;
    home.shutdown(WAIT).await;
    Ok(())
}

fn bad_bytes_are_told_by_type() -> Result<(), Box<dyn Error>> {
    let registry = CodecRegistry::from_tables(&[SENSORS])?;
    let fault = |bytes: &[u8]| match registry.decode::<Reading>("lines:sensors.v1.Reading", bytes) {
        Err(DecodeError::Codec(error)) => error.fault().clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(fault(b"sensor=kitchen\ncelsius=warm\n"), CodecFault::Decode(_)));
    assert!(matches!(fault(b"celsius=20\n"), CodecFault::Decode(_)));
    assert!(matches!(fault(b"\xff"), CodecFault::Decode(_)));
    let more = fault(b"sensor=kitchen\ncelsius=20\nkelvin=293\n");
    assert_eq!(more, CodecFault::Trailing { extra: 11 });
    Ok(())
}

const WAIT: Duration = Duration::from_secs(5);
