//! Two nodes in one process: a message there, a reply back.
//!
//! `cargo run --example hello`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::Node;
use tellwire::codec::Bincode;
use tellwire::node::Context;

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Greeting {
    text: String,
}

tellwire::remote_messages! {
    /// What the greeter and its guests say.
    pub table HELLO, codec = Bincode;
    "hello.v1.Greet" => Greet,
    "hello.v1.Greeting" => Greeting,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ada = Node::builder("Hello").listen("tcp://127.0.0.1:0").start().await?;
    ada.spawn("/user/greeter", async |greet: Greet, cx: &mut Context| {
        cx.reply(&Greeting { text: format!("hello {}", greet.name) })
    })?;

    let bob = Node::builder("Hello").listen("tcp://127.0.0.1:0").start().await?;
    let greeter = bob.resolve(ada.path("/user/greeter"))?;
    println!("{bob:?} asks {}", greeter.path());
    let reply: Greeting =
        greeter.ask(&Greet { name: "Bob".into() }, Duration::from_secs(5)).await?;
    println!("{}", reply.text);
    assert_eq!(reply, Greeting { text: "hello Bob".into() });

    bob.shutdown(Duration::from_secs(5)).await;
    let report = ada.shutdown(Duration::from_secs(5)).await;
    assert!(report.in_time);
    Ok(())
}
