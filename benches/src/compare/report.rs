//! The figures, and the table of them.

/// Whether a small figure is good.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// One figure of one broker.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) better: Better,
}

impl Figure {
    pub(crate) fn lower(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, value, better: Better::Lower }
    }

    pub(crate) fn higher(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, value, better: Better::Higher }
    }
}

/// A Markdown table: each figure of ours beside theirs, and the ratio.
pub(crate) fn table(ours: &[Figure], theirs: &[Figure]) -> String {
    let mut text = String::from(
        "| figure | unit | varve | Apache Kafka | ratio | better |\n|---|---|---|---|---|---|\n",
    );
    for figure in ours {
        let peer = theirs.iter().find(|peer| peer.name == figure.name);
        let (value, ratio) = match peer {
            Some(peer) if peer.value > 0.0 => {
                (format!("{:.2}", peer.value), format!("{:.2}", figure.value / peer.value))
            }
            _ => (String::from("–"), String::from("–")),
        };
        let better = if figure.better == Better::Lower { "lower" } else { "higher" };
        text += &format!(
            "| {} | {} | {:.2} | {value} | {ratio} | {better} |\n",
            figure.name, figure.unit, figure.value
        );
    }
    text
}
