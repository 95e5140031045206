//! Idempotent producers of the client crate. Each sends a record at its turn, whatever became of those before; each answer is
//! told as it comes.

use std::time::Duration;

use tokio::sync::mpsc;
use varve_client::{Compression, Delivery, ProduceError, ProducerBuilder, ProducerRecord, Topic};

use crate::bed::clients::{AGAIN, CRATE, Orders, Scene, connect};
use crate::bed::payload;
use crate::clock::now;
use crate::judge::{At, Event, value};

/// Answers that may be outstanding; more are sent only when some of them came.
const WAITING_MAX: usize = 4_096;
/// A record now and then is as large as this.
const LARGE_BYTES: usize = 20_000;

/// How a producer produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every record at once, and as long as it takes.
    Steady,
    /// In compressed batches, some of them large.
    Batched,
    /// It gives a record up after three seconds: its words on what may have been written are put to the test.
    Impatient,
}

impl Style {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Batched, Self::Impatient];

    fn set(self, builder: ProducerBuilder) -> ProducerBuilder {
        match self {
            Self::Steady => builder.linger(Duration::ZERO),
            Self::Batched => {
                builder.linger(Duration::from_millis(20)).compression(Compression::Lz4)
            }
            Self::Impatient => builder
                .linger(Duration::from_millis(1))
                .request_timeout(Duration::from_secs(1))
                .delivery_timeout(Duration::from_secs(3))
                .max_block(Duration::from_secs(3)),
        }
    }

    const fn padding(self, count: u64) -> usize {
        match self {
            Self::Batched if count % 50 == 49 => LARGE_BYTES,
            _ => 20 + (count % 1_000) as usize,
        }
    }
}

/// Produces until all is over; a producer that can do no more is followed by another.
pub(super) async fn work(style: Style, rate: u64, scene: &Scene, orders: &Orders) {
    let Some(client) = connect(scene, orders).await else { return };
    while !orders.is_over() {
        let Ok(producer) = style.set(client.producer()).build().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let process = scene.scribe.open(CRATE);
        let (sender, mut answers) = mpsc::channel::<(u64, Delivery)>(WAITING_MAX);
        let answer = async {
            let mut is_fatal = false;
            while let Some((value, delivery)) = answers.recv().await {
                let result = delivery.await;
                is_fatal |= result.as_ref().is_err_and(ProduceError::is_fatal);
                let event = match result {
                    Ok(written) => Event::Acked {
                        value,
                        offset: (written.offset >= 0).then_some(written.offset),
                    },
                    Err(error) => refused(value, &error),
                };
                scene.scribe.note(process, event);
                if is_fatal {
                    // What else is outstanding fails as well, and the next producer begins.
                    answers.close();
                }
            }
        };
        let send = async {
            let topic = Topic::from(scene.topic.clone());
            let turn = Duration::from_micros(1_000_000 / rate);
            let mut due = now();
            let mut count = 0;
            while !orders.is_over() && !sender.is_closed() {
                // Turns that were missed are not made up for.
                due = (due + turn).max(now());
                tokio::time::sleep_until(due.into()).await;
                if !orders.is_open() {
                    continue;
                }
                let partition = i32::try_from(count % scene.partitions as u64).unwrap_or_default();
                let (at, id) = (At::new(scene.topic.clone(), partition), value(process, count));
                let payload = payload::write(id, &at, style.padding(count));
                count += 1;
                scene.scribe.note(process, Event::Send { at, value: id });
                let record = ProducerRecord::new(topic.clone(), payload).partition(partition);
                match producer.enqueue(record).await {
                    // The receiver takes what was sent before it was closed.
                    Ok(delivery) => {
                        if sender.send((id, delivery)).await.is_err() {
                            let error = "its producer was given up".to_owned();
                            scene.scribe.note(process, Event::Unknown { value: id, error });
                        }
                    }
                    Err(error) => {
                        scene.scribe.note(process, refused(id, &error));
                        if error.is_fatal() {
                            break;
                        }
                    }
                }
            }
            drop(sender);
        };
        tokio::join!(send, answer);
        scene.scribe.note(process, Event::Retired);
        // It has nothing left to wait for.
        let _ = tokio::time::timeout(Duration::from_secs(1), producer.close()).await;
    }
}

/// What a failure says of a value.
fn refused(value: u64, error: &ProduceError) -> Event {
    let words = error.to_string();
    match error.possibly_written() {
        true => Event::Unknown { value, error: words },
        false => Event::Failed { value, error: words },
    }
}
