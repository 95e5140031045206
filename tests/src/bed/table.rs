//! Rounds by kind of fault, as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::bed::clients::{CRATE, LIBRDKAFKA};
use crate::bed::round::Round;

/// A row of the table.
#[derive(Default)]
struct Row {
    rounds: usize,
    crate_ms: Vec<u128>,
    librdkafka_ms: Vec<u128>,
    healed_ms: u128,
    acknowledged: usize,
    wrong: usize,
}

impl Row {
    fn add(&mut self, round: &Round) {
        let ms = |client| round.silences.get(client).map(Duration::as_millis);
        self.rounds += 1;
        self.crate_ms.extend(ms(CRATE));
        self.librdkafka_ms.extend(ms(LIBRDKAFKA));
        self.healed_ms = self.healed_ms.max(round.healed_in.as_millis());
        self.acknowledged += round.acknowledged;
        self.wrong += usize::from(!round.wrong.is_empty());
    }
}

/// A table in Markdown: silences are in milliseconds, the median and the worst of the rounds of a kind.
pub fn table(rounds: &[Round]) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all = Row::default();
    for round in rounds {
        rows.entry(&round.fault).or_default().add(round);
        all.add(round);
    }
    let mut text = "| fault | rounds | silence ms, client crate: p50 | worst | librdkafka: p50 | worst | whole again ms, worst \
                    | acknowledged | rounds with anomalies |\n|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, row) in rows.iter_mut().map(|(name, row)| (*name, row)).chain([("all", &mut all)]) {
        let (own, own_worst) = median_and_worst(&mut row.crate_ms);
        let (guest, guest_worst) = median_and_worst(&mut row.librdkafka_ms);
        let Row { rounds, healed_ms, acknowledged, wrong, .. } = row;
        let _ = writeln!(
            text,
            "| {name} | {rounds} | {own} | {own_worst} | {guest} | {guest_worst} | {healed_ms} | {acknowledged} | {wrong} |"
        );
    }
    text
}

fn median_and_worst(values: &mut [u128]) -> (String, String) {
    values.sort_unstable();
    let tell = |value: Option<&u128>| value.map_or_else(|| "–".to_owned(), u128::to_string);
    (tell(values.get(values.len() / 2)), tell(values.last()))
}
